"""Units of work on dask workers, submitted in tasks of about a second and given in their order; results outlive processes.

A task keeps every unit's result as a file of its own (``storage_schema.files.slab_results``) and returns their numbers only. So a worker's
death costs its running task, and a scheduler's death (which cancels finished futures too) the running tasks: what is on disk is not asked
for again.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final

from distributed import Event, Future
from distributed.scheduler import KilledWorker

from storage_schema.files.journal import Arrays
from storage_schema.files.slab_results import SlabFiles
from trajsvc.errors import Cancelled, TryAgain
from workers.cluster import Cluster
from workers.tasks import Done

TASK_SECONDS: Final = 1.0
MOST_UNITS: Final = 64
AHEAD: Final = 2
"""tasks for each worker that are out at once"""
LOOK: Final = 0.25
SURVEY: Final = 2.0
PATIENCE: Final = 600.0

Waiting = Callable[[str | None], None]


@dataclass(frozen=True)
class WorkerPool:
    """The workers that tasks are sent to.

    ``waiting`` is called with the reason when there is no progress (no scheduler, no worker), and with None when there
    is again; after ``patience`` seconds without progress the job fails with TryAgain (``no-scheduler``,
    ``no-workers``).
    """

    cluster: Cluster
    device: str
    patience: float
    waiting: Waiting


@dataclass(frozen=True)
class UnitWork:
    """The work: ``task(folder, key, digest, units, stop_name) -> Done`` stores the result of every unit in ``files``."""

    task: Callable[[str, str, str, tuple[int, ...], str], Done]
    files: SlabFiles
    blob: bytes
    """the description of the job, which tasks read from ``files``"""
    order: list[int]
    cost: Callable[[int], float]
    """of a unit, in any unit of measurement"""
    stop: threading.Event


@dataclass
class _Out:
    """The tasks that are submitted to one scheduler."""

    event: Event
    tasks: dict[Future, tuple[int, ...]] = field(default_factory=dict)


class UnitSession:
    """One job's units on the cluster."""

    def __init__(self, pool: WorkerPool, work: UnitWork) -> None:
        self.pool, self.work, self.files = pool, work, work.files
        self.digest = hashlib.sha256(work.blob).hexdigest()
        self.done = {i for i in work.order if self.files.get(i) is not None}
        self.todo = [i for i in work.order if i not in self.done]
        self.stop_name = f"trajsvc-stop-{self.files.key[:16]}-{secrets.token_hex(8)}"
        self.rate = 0.0
        """cost a second of one task, as measured"""
        self._finished: SimpleQueue[Future] = SimpleQueue()
        self._out: _Out | None = None
        self._surveyed = self._blocked_since = 0.0
        self._workers = 0
        self._failures = 0
        self._error: BaseException | None = None
        """what a task raised, until it is raised here: an OSError of its own is none of the scheduler's"""

    def results(self) -> Iterator[tuple[int, Arrays]]:
        """Yield the units' results in order, each when it is there.

        Raises Cancelled, TryAgain, and what a task raises.
        """
        self.files.blob(self.work.blob)
        try:
            for index in self.work.order:
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
                        raise TryAgain("slab-lost", f"part {index} was computed and cannot be read", hint="Try again.")
                yield index, arrays
        finally:
            self._leave()

    def _step(self) -> None:
        """Keep tasks submitted, and collect one that is done; returns after a moment in any case."""
        if self.work.stop.is_set():
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
                self.work.task, str(self.files.base), self.files.key, self.digest, batch, self.stop_name, pure=False,
                resources=resources, retries=0, key=f"units-{self.files.key[:8]}-{batch[0]}-{secrets.token_hex(8)}",
            )  # fmt: skip
            out.tasks[future] = batch
            future.add_done_callback(self._finished.put)

    def _batch(self) -> tuple[int, ...]:
        """Take the next units, as many as need about a second; one each until the rate is known."""
        wanted = self.rate * TASK_SECONDS
        # The last tasks are small, so that no worker waits long for another.
        share = max(1, len(self.todo) // (2 * max(1, self._workers)))
        taken: list[int] = []
        size = 0.0
        while self.todo and len(taken) < min(MOST_UNITS, share):
            size += self.work.cost(self.todo[0])
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
            self.done.update(done.units)
            self.rate = sum(map(self.work.cost, done.units)) / max(done.seconds, 1e-3)
            self._failures = 0
            return
        self._again(batch)
        if future.status == "error":
            self._error = future.exception()
        # cancelled or lost: the scheduler or the worker that had it has gone

    def _raise(self, error: Any) -> None:
        if isinstance(error, KilledWorker):
            raise TryAgain(
                "workers-die", "dask workers die of this job's tasks", hint="Give the job less memory, or workers more."
            )
        if isinstance(error, Cancelled):
            if self.work.stop.is_set():
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
        """Return whether there are workers; they are counted now and then, and ``waiting`` is called when there are
        none.
        """
        at = time.monotonic()
        if at - self._surveyed > SURVEY or not self._workers:
            self._workers = self.pool.cluster.count(self.pool.device)
            self._surveyed = at
        if self._workers:
            if self._blocked_since:
                self._blocked_since = 0.0
                self.pool.waiting(None)
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
        self.pool.waiting(why)
        if at - self._blocked_since > self.pool.patience:
            raise TryAgain(kind, f"{why}, for {self.pool.patience:.0f} s", hint="Start workers, then submit again.")

    def _pause(self, seconds: float) -> None:
        if self.work.stop.wait(seconds):
            raise Cancelled

    def _forget_tasks(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            for batch in out.tasks.values():
                self._again(batch)
        self.todo.sort()

    def _leave(self) -> None:
        """Stop the tasks that still run: a cancelled task goes on until it checks the event, within a moment."""
        out, self._out = self._out, None
        if out is None or not out.tasks:
            return
        try:
            out.event.set()
            self.pool.cluster.client().cancel(list(out.tasks), force=True)
        except (OSError, TimeoutError, TryAgain):
            return
