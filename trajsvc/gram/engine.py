"""Runs a plan: slabs on a pool, their results added in the plan's order and made durable as they arrive.

Workers read ahead: there is one more than slots to compute in, and only reading happens outside the slots, so while every
core multiplies the next slab's bytes are on their way. BLAS runs one thread in each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trajsvc.gram.kernel import Kernel
from trajsvc.gram.partial import GramState, SlabResult
from trajsvc.gram.plan import Plan, Slab
from trajsvc.gram.slabs import RowSink, SlabWorker, Theta


class Journal(Protocol):
    """Where finished slabs are kept until the run is committed."""

    def replay(self) -> Iterator[tuple[int, Mapping[str, NDArray[np.generic]], Mapping[str, Any]]]: ...
    def append(self, slab: int, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, Any]) -> None: ...
    def state(self) -> tuple[int, Mapping[str, NDArray[np.generic]], Mapping[str, Any]] | None: ...
    def compact(self, cursor: int, arrays: Mapping[str, NDArray[np.generic]], meta: Mapping[str, Any]) -> None: ...
    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True)
class Progress:
    """Where the work stands; ``state`` is the engine's own and may be read during the call only."""

    state: GramState
    bytes_done: int
    bytes: int
    bytes_resumed: int
    seconds: float


ProgressCallback = Callable[[Progress], None]


class SlabPool(Protocol):
    """Where slabs are computed: threads here, other machines elsewhere."""

    @property
    def threads(self) -> int:
        """How many slabs are multiplied at once."""
        ...

    def results(
        self, task: Callable[[Slab], SlabResult], slabs: Iterable[Slab], halt: threading.Event
    ) -> Iterator[SlabResult]:
        """Results of ``task`` in the order of ``slabs``. When the consumer leaves early, ``halt`` is set and running tasks are
        waited for."""
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
) -> GramState:
    """Sum the plan's slabs (the first ``until`` of them) over Θ; resumes after the slabs that ``journal`` holds.

    Raises Cancelled when ``stop`` is set: finished slabs are in the journal by then.
    """
    stop = stop or threading.Event()
    state = resume(plan, journal)
    end = len(plan.slabs) if until is None else min(until, len(plan.slabs))
    todo = plan.slabs[state.cursor : end]
    resumed = done = sum(plan.slab_read_bytes(s) for s in plan.slabs[: state.cursor])
    begun = time.perf_counter()

    def report() -> None:
        if progress is not None:
            progress(Progress(state, done, plan.bytes, resumed, time.perf_counter() - begun))

    report()
    workers: SimpleQueue[SlabWorker] = SimpleQueue()
    for _ in range(plan.threads + 1):
        workers.put(SlabWorker(theta, plan, kernel(), sink))
    slots = threading.BoundedSemaphore(plan.threads)
    halt = threading.Event()

    def task(slab: Slab) -> SlabResult:
        worker = workers.get()
        try:
            return worker.run(slab, slots, lambda: stop.is_set() or halt.is_set())
        finally:
            workers.put(worker)

    with one_blas_thread():
        for slab, result in zip(todo, pool.results(task, todo, halt), strict=True):
            if journal is not None:
                journal.append(slab.index, result.arrays(), {})
            state.add(result)
            if journal is not None and journal.nbytes > 2**26 + 4 * state.gram.nbytes:
                journal.compact(state.cursor, state.arrays(), {})
            done += plan.slab_read_bytes(slab)
            report()
    return state


def resume(plan: Plan, journal: Journal | None) -> GramState:
    """The state after the slabs that ``journal`` holds (none without a journal)."""
    state = GramState(plan)
    if journal is None:
        return state
    kept = journal.state()
    if kept is not None:
        state = GramState.from_arrays(plan, kept[0], kept[1])
    for slab, arrays, _ in journal.replay():
        if slab == state.cursor:
            state.add(SlabResult.from_arrays(slab, arrays))
    return state


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS at one thread while our own threads run: theirs would compete for the same cores."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
