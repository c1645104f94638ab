"""A pool of threads on this machine: what ``analyze`` computes on unless told otherwise."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from trajsvc.gram.partial import SlabResult
from trajsvc.gram.plan import Slab


class ThreadPool:
    """A ``SlabPool`` of ``threads`` computing threads and one that reads ahead."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    @property
    def threads(self) -> int:
        return self._threads

    def results(
        self, task: Callable[[Slab], SlabResult], slabs: Iterable[Slab], halt: threading.Event
    ) -> Iterator[SlabResult]:
        """Results in the order of ``slabs``; at most one waiting result for each thread beyond those that run."""
        running = self._threads + 1
        with ThreadPoolExecutor(running, thread_name_prefix="trajsvc-slab", initializer=_one_torch_thread) as pool:
            waiting: deque[Future[SlabResult]] = deque()
            try:
                for slab in slabs:
                    waiting.append(pool.submit(task, slab))
                    if len(waiting) > running:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:
                halt.set()
                for future in waiting:
                    future.cancel()
                raise


def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)
