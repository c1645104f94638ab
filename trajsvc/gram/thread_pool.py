"""A pool of threads on this machine: what ``analyze`` computes on unless told otherwise."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from trajsvc.gram.kernels.choose import check_device
from trajsvc.gram.plan import Slab
from trajsvc.gram.slab_worker import SlabJob
from trajsvc.gram.sums import SlabResult


class ThreadPool:
    """A ``SlabPool`` of ``threads`` computing threads and one that reads ahead."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @property
    def elsewhere(self) -> bool:
        return False

    def ready(self, device: str) -> None:
        check_device(device)

    def keeps(self, job: SlabJob) -> bool:
        """Return False: results of threads do not survive the process."""
        return False

    def kept(self, job: SlabJob, slabs: Sequence[Slab]) -> Iterator[SlabResult]:
        return iter(())

    def forget(self, job: SlabJob, slabs: Sequence[Slab]) -> None:
        return None

    def results(self, job: SlabJob, slabs: Iterable[Slab]) -> Iterator[SlabResult]:
        """Yield results in the order of ``slabs``; at most one waiting result for each thread beyond those that run."""
        running = self.threads + 1
        halt = threading.Event()
        with ThreadPoolExecutor(running, thread_name_prefix="trajsvc-slab") as pool:
            waiting: deque[Future[SlabResult]] = deque()
            try:
                for slab in slabs:
                    waiting.append(pool.submit(job.run, slab, halt.is_set))
                    if len(waiting) > running:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:
                halt.set()
                for future in waiting:
                    future.cancel()
                raise
