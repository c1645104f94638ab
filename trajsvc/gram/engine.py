"""Run a plan: compute slabs on a pool, add their results in the plan's order, make each durable first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import Allocate
from trajsvc.gram.kernels.base import Kernel
from trajsvc.gram.plan import Plan, Slab
from trajsvc.gram.slab_worker import RowSink, SlabJob, Theta
from trajsvc.gram.sums import GramState, SlabResult

PENDING: Final = 2**26
PENDING_GRAMS: Final = 4
"""bytes of results, and times the Gram's size, after which the journal's records are replaced by their sum"""


class Journal(Protocol):
    """Keeps finished slabs until the run is committed."""

    def replay(self) -> Iterator[tuple[int, Mapping[str, NDArray[np.generic]], Mapping[str, Any]]]: ...
    def append(self, slab: int, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, Any]) -> None: ...
    def state(self) -> tuple[int, Mapping[str, NDArray[np.generic]], Mapping[str, Any]] | None: ...
    def compact(self, cursor: int, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Progress:
    """The progress of the work. ``state`` belongs to the engine and may be read only during the call."""

    state: GramState
    bytes_done: int
    bytes: int
    bytes_resumed: int
    seconds: float


ProgressCallback = Callable[[Progress], None]


class SlabPool(Protocol):
    """Computes slabs, in threads here or on other machines."""

    @property
    def elsewhere(self) -> bool:
        """Whether slabs are computed by other processes: then a copy is made first, for them to read."""
        ...

    def ready(self, device: str) -> None:
        """Raise UsageError (``device-unavailable``) if nothing in the pool can compute on ``device``."""
        ...

    def keeps(self, job: SlabJob) -> bool:
        """Return whether a result is durable in ``job.folder`` before ``results`` yields it, so that no journal needs
        to keep it.
        """
        ...

    def kept(self, job: SlabJob, slabs: Sequence[Slab]) -> Iterator[SlabResult]:
        """Yield results that an earlier attempt left in ``job.folder``, in the order of ``slabs``, up to the first that
        is missing.
        """
        ...

    def forget(self, job: SlabJob, slabs: Sequence[Slab]) -> None:
        """Drop what was kept of ``slabs``: it is kept elsewhere now."""
        ...

    def results(self, job: SlabJob, slabs: Iterable[Slab]) -> Iterator[SlabResult]:
        """Yield results of ``job.run`` in the order of ``slabs``.

        When the consumer leaves early, running slabs are stopped and waited for.

        Raises Cancelled once ``job.stop`` is set.
        """
        ...


def compute(
    theta: Theta,
    plan: Plan,
    kernel: Callable[[], Kernel],
    pool: SlabPool,
    *,
    journal: Journal | None = None,
    sink: RowSink | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
    until: int | None = None,
    key: str = "",
    folder: Path | None = None,
    allocate: Allocate = np.zeros,
) -> GramState:
    """Sum the plan's slabs (the first ``until`` of them) over Θ, resuming after the slabs that ``journal`` or the pool
    holds.

    ``key`` names the work: the plan and the bytes that it reads. In ``folder`` other processes may keep finished
    results. Sums on disk (``allocate``) are not kept a second time: the journal is not compacted then.

    Raises Cancelled when ``stop`` is set; finished slabs have been kept by then.
    """
    stop = stop or threading.Event()
    job = SlabJob(theta, plan, kernel, sink, stop, key=key or plan.key(), folder=folder)
    state = resume(plan, journal, allocate)
    end = len(plan.slabs) if until is None else min(until, len(plan.slabs))
    compacted = state.cursor
    keeps, pending = journal is not None and pool.keeps(job), 0
    if keeps:
        for result in pool.kept(job, plan.slabs[state.cursor : end]):
            state.add(result)
    todo = plan.slabs[state.cursor : end]
    resumed = done = sum(plan.slab_read_bytes(s) for s in plan.slabs[: state.cursor])
    begun = time.perf_counter()

    def report() -> None:
        if progress is not None:
            progress(Progress(state, done, plan.bytes, resumed, time.perf_counter() - begun))

    report()
    theta.prepare(todo)
    for slab, result in zip(todo, pool.results(job, todo), strict=True):
        if journal is not None:
            if not keeps:
                journal.append(slab.index, result.arrays(), {})
            pending += result.nbytes
        state.add(result)
        if journal is not None and not plan.on_disk and pending > PENDING + PENDING_GRAMS * state.nbytes:
            journal.compact(state.cursor, state.arrays(), {})
            if keeps:
                pool.forget(job, plan.slabs[compacted : state.cursor])
            compacted, pending = state.cursor, 0
        done += plan.slab_read_bytes(slab)
        report()
    job.release()
    return state


def resume(plan: Plan, journal: Journal | None, allocate: Allocate = np.zeros) -> GramState:
    """Return the state after the slabs that ``journal`` holds (the empty state without a journal)."""
    state = GramState(plan, allocate=allocate)
    if journal is None:
        return state
    kept = journal.state()
    if kept is not None:
        state = GramState.from_arrays(plan, kept[0], kept[1], allocate)
    for slab, arrays, _ in journal.replay():
        if slab == state.cursor:
            state.add(SlabResult.from_arrays(slab, arrays))
    return state
