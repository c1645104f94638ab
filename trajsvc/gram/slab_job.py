"""The work on one run's slabs, as a pool is given it: here, or in a process elsewhere that sees the same files.

Workers read ahead: there is one more than slots to compute in, and only reading happens outside the slots, so while every
core multiplies the next slab's bytes are on their way. BLAS runs one thread in each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from trajsvc.gram.kernels.cpu import Kernel
from trajsvc.gram.plan import Plan, Slab
from trajsvc.gram.slab_worker import RowSink, SlabWorker, Theta
from trajsvc.gram.sums import SlabResult


@dataclass(frozen=True)
class PortableJob:
    """What another process needs to compute slabs of a job; it can be pickled."""

    theta: Theta
    plan: Plan
    kernel: Callable[[], Kernel]
    key: str

    def here(self, slots: int) -> SlabJob:
        """The job in this process, where ``slots`` slabs are multiplied at once."""
        return SlabJob(self.theta, self.plan, self.kernel, key=self.key, slots=slots)


class SlabJob:
    """Computes slabs of one plan over one Θ. ``run`` may be called from several threads. ``folder`` is where processes elsewhere may keep
    what they have done."""

    def __init__(
        self,
        theta: Theta,
        plan: Plan,
        kernel: Callable[[], Kernel],
        sink: RowSink | None = None,
        stop: threading.Event | None = None,
        *,
        key: str = "",
        folder: Path | None = None,
        slots: int | None = None,
    ) -> None:
        self.theta, self.plan, self.kernel, self.sink = theta, plan, kernel, sink
        self.key, self.folder = key, folder
        self.stop = stop or threading.Event()
        self._idle: SimpleQueue[SlabWorker] = SimpleQueue()
        self._slots = threading.BoundedSemaphore(slots or plan.threads)

    @property
    def threads(self) -> int:
        """How many slabs the plan multiplies at once in one process."""
        return self.plan.threads

    def run(self, slab: Slab, halted: Callable[[], bool]) -> SlabResult:
        """The partial sums of ``slab``. Raises Cancelled when the job is stopped or ``halted`` says so."""
        try:
            worker = self._idle.get_nowait()
        except Empty:
            worker = SlabWorker(self.theta, self.plan, self.kernel(), self.sink)
        try:
            return worker.run(slab, self._slots, lambda: self.stop.is_set() or halted())
        finally:
            self._idle.put(worker)

    def until(self, stop: threading.Event) -> SlabJob:
        """The same job, its buffers and slots too, for a part of the work that ends when ``stop`` is set."""
        part = copy(self)
        part.stop = stop
        return part

    def portable(self) -> PortableJob | None:
        """The job for another process; None where its Θ lies in this one, or a copy is made as the bytes pass."""
        theta = self.theta.portable()
        return None if theta is None or self.sink is not None else PortableJob(theta, self.plan, self.kernel, self.key)
