"""A ``SlabPool`` on dask workers: slabs are submitted in tasks of about a second and added in the plan's order; results outlive processes.

A task keeps every slab as a file of its own (``storage_schema.files.slab_results``) and returns their numbers only; the files stand for the
journal until their sum is in it. So a worker's death costs its
running task, and a scheduler's death (which cancels finished futures too) the running tasks: what is on disk is not asked for again.
"""

from __future__ import annotations

import hashlib
import pickle
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final

from distributed import Event, Future
from distributed.scheduler import KilledWorker

from storage_schema.files.slab_results import SlabFiles
from trajsvc.errors import Cancelled, TryAgain
from trajsvc.gram.plan import Slab
from trajsvc.gram.slab_worker import SlabJob
from trajsvc.gram.sums import SlabResult
from trajsvc.gram.thread_pool import ThreadPool
from workers.cluster import Cluster
from workers.tasks import Done, run_slabs

TASK_SECONDS: Final = 1.0
MOST_SLABS: Final = 64
AHEAD: Final = 2
"""tasks for each worker that are out at once"""
LOOK: Final = 0.25
SURVEY: Final = 2.0
PATIENCE: Final = 600.0

Waiting = Callable[[str | None], None]


@dataclass
class _Out:
    """What is out on one scheduler."""

    event: Event
    tasks: dict[Future, tuple[int, ...]] = field(default_factory=dict)


class DaskPool:
    """Slabs on ``cluster``. What cannot be computed elsewhere (ranges of the Hub: one process asks it) runs on ``threads`` here.

    ``waiting`` is told why nothing goes on (no scheduler, no worker), and None when it does; after ``patience`` seconds of that the job
    fails with TryAgain (``no-scheduler``, ``no-workers``).
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        threads: int,
        device: str = "cpu",
        patience: float = PATIENCE,
        waiting: Waiting | None = None,
    ) -> None:
        self.cluster, self.threads, self.device, self.patience = cluster, threads, device, patience
        self._waiting = waiting or (lambda reason: None)

    @property
    def elsewhere(self) -> bool:
        return True

    def ready(self, device: str) -> None:
        """Whether there is such a device is known when workers are there: they come and go."""
        if device != self.device:
            raise ValueError(f"a pool for {self.device} was given work for {device}")

    def keeps(self, job: SlabJob) -> bool:
        """Whether slabs of ``job`` go to workers, which keep each as a file before they say so."""
        return job.folder is not None and job.portable() is not None

    def kept(self, job: SlabJob, slabs: Sequence[Slab]) -> Iterator[SlabResult]:
        files = _files(job)
        for slab in slabs:
            arrays = files.get(slab.index)
            if arrays is None:
                return
            yield SlabResult.from_arrays(slab.index, arrays)

    def forget(self, job: SlabJob, slabs: Sequence[Slab]) -> None:
        files = _files(job)
        for slab in slabs:
            files.remove(slab.index)

    def results(self, job: SlabJob, slabs: Iterable[Slab]) -> Iterator[SlabResult]:
        portable = job.portable()
        if portable is None or job.folder is None:
            yield from ThreadPool(self.threads).results(job, slabs)
            return
        files = _files(job)
        blob = pickle.dumps(portable)
        files.blob(blob)
        order = [slab.index for slab in slabs]
        yield from _Session(self, job, files, hashlib.sha256(blob).hexdigest(), order).results()


def _files(job: SlabJob) -> SlabFiles:
    assert job.folder is not None
    return SlabFiles(job.folder, job.key)


class _Session:
    """One job's slabs on the cluster."""

    def __init__(self, pool: DaskPool, job: SlabJob, files: SlabFiles, digest: str, order: list[int]) -> None:
        self.pool, self.job, self.files, self.digest, self.order = pool, job, files, digest, order
        self.done = {i for i in order if files.get(i) is not None}
        self.todo = [i for i in order if i not in self.done]
        self.stop_name = f"trajsvc-stop-{job.key[:16]}-{secrets.token_hex(8)}"
        self.rate = 0.0
        """bytes a second of one task, as measured"""
        self._finished: SimpleQueue[Future] = SimpleQueue()
        self._out: _Out | None = None
        self._surveyed = self._blocked_since = 0.0
        self._workers = 0
        self._failures = 0
        self._error: BaseException | None = None
        """what a task raised, until it is raised here: an OSError of its own is none of the scheduler's"""

    def results(self) -> Iterator[SlabResult]:
        try:
            for index in self.order:
                while index not in self.done:
                    self._step()
                arrays = self.files.get(index)
                if arrays is None:  # torn or altered since: compute it again
                    self.done.discard(index)
                    self.todo.insert(0, index)
                    while index not in self.done:
                        self._step()
                    arrays = self.files.get(index)
                    if arrays is None:
                        raise TryAgain("slab-lost", f"slab {index} was computed and cannot be read", hint="Try again.")
                yield SlabResult.from_arrays(index, arrays)
        finally:
            self._leave()

    def _step(self) -> None:
        """Keep tasks out, and take in one that is done; returns after a moment in any case."""
        if self.job.stop.is_set():
            raise Cancelled
        self._error = None
        try:
            self._submit()
            self._take_in()
        except TryAgain as error:
            if error.kind != "no-scheduler":
                raise
            self._lost(error.message)
        except (OSError, TimeoutError, CancelledError) as error:  # distributed's own connection errors are OSErrors
            self._lost(f"the dask scheduler went away ({type(error).__name__})")
        if self._error is not None:
            self._raise(self._error)

    def _submit(self) -> None:
        if not self._survey():
            return
        out = self._out
        client = self.pool.cluster.client()
        if out is None or out.event.client is not client:
            self._forget_tasks()
            out = self._out = _Out(Event(self.stop_name, client=client))
        resources = {"GPU": 1} if self.pool.device.startswith("cuda") else None
        while self.todo and len(out.tasks) < AHEAD * self._workers:
            batch = self._batch()
            future = client.submit(
                run_slabs, str(self.job.folder), self.job.key, self.digest, batch, self.stop_name,
                pure=False, resources=resources, retries=0, key=f"slabs-{self.job.key[:8]}-{batch[0]}-{secrets.token_hex(8)}",
            )  # fmt: skip
            out.tasks[future] = batch
            future.add_done_callback(self._finished.put)

    def _batch(self) -> tuple[int, ...]:
        """The next slabs, as many as take about a second; one each until the rate is known."""
        wanted = self.rate * TASK_SECONDS
        # The last tasks are small, so that no worker waits long for another.
        share = max(1, len(self.todo) // (2 * max(1, self._workers)))
        taken: list[int] = []
        size = 0
        while self.todo and len(taken) < min(MOST_SLABS, share):
            size += self.job.plan.slab_read_bytes(self.job.plan.slabs[self.todo[0]])
            if taken and size > wanted:
                break
            taken.append(self.todo.pop(0))
        return tuple(taken)

    def _take_in(self) -> None:
        try:
            future = self._finished.get(timeout=LOOK)
        except Empty:
            return
        out = self._out
        batch = out.tasks.pop(future, None) if out is not None else None
        if batch is None:
            return
        if future.status == "finished":
            done: Done = future.result()
            self.done.update(done.slabs)
            read = sum(self.job.plan.slab_read_bytes(self.job.plan.slabs[i]) for i in done.slabs)
            self.rate = read / max(done.seconds, 1e-3)
            self._failures = 0
            return
        self._again(batch)
        if future.status == "error":
            self._error = future.exception()
        # cancelled or lost: the scheduler or the worker that had it has gone

    def _raise(self, error: Any) -> None:
        if isinstance(error, KilledWorker):
            raise TryAgain(
                "workers-die", "dask workers die of this job's slabs", hint="Give the job less memory, or workers more."
            )
        if isinstance(error, Cancelled):
            if self.job.stop.is_set():
                raise Cancelled
            self._failures += 1  # the worker lost its scheduler for a moment: asked again, a few times
            if self._failures > 5:
                raise TryAgain("workers-stop", "dask workers stop before they are done", hint="Look at their logs.")
            return
        raise error

    def _again(self, batch: tuple[int, ...]) -> None:
        missing = [i for i in batch if self.files.get(i) is None]
        self.done.update(set(batch) - set(missing))
        self.todo[:0] = missing

    def _survey(self) -> bool:
        """Whether there are workers; asked now and then, and told when there are none."""
        at = time.monotonic()
        if at - self._surveyed > SURVEY or not self._workers:
            self._workers = self.pool.cluster.count(self.pool.device)
            self._surveyed = at
        if self._workers:
            if self._blocked_since:
                self._blocked_since = 0.0
                self.pool._waiting(None)
            return True
        device = "" if self.pool.device == "cpu" else f" with {self.pool.device}"
        self._blocked(f"no dask worker{device} is connected", "no-workers")
        time.sleep(LOOK)
        return False

    def _lost(self, why: str) -> None:
        self._forget_tasks()
        self._workers = 0
        self._blocked(why, "no-scheduler")
        self._pause(1.0)

    def _blocked(self, why: str, kind: str) -> None:
        at = time.monotonic()
        self._blocked_since = self._blocked_since or at
        self.pool._waiting(why)
        if at - self._blocked_since > self.pool.patience:
            raise TryAgain(kind, f"{why}, for {self.pool.patience:.0f} s", hint="Start workers, then submit again.")

    def _pause(self, seconds: float) -> None:
        if self.job.stop.wait(seconds):
            raise Cancelled

    def _forget_tasks(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            for batch in out.tasks.values():
                self._again(batch)
        self.todo.sort()

    def _leave(self) -> None:
        """Stop what still runs: a cancelled task goes on until it looks at the event, within a moment."""
        out, self._out = self._out, None
        if out is None or not out.tasks:
            return
        try:
            out.event.set()
            self.pool.cluster.client().cancel(list(out.tasks), force=True)
        except (OSError, TimeoutError, TryAgain):
            return
