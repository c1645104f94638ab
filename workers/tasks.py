"""The task of a dask worker: compute some slabs of a job, and store each result as soon as it is done."""

from __future__ import annotations

import hashlib
import pickle
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from distributed import get_worker

from storage_schema.files.regular import read_file
from storage_schema.files.slab_results import SlabFiles
from trajsvc.errors import DamagedStore, TryAgain
from trajsvc.gram.slab_worker import PortableJob, SlabJob
from trajsvc.gram.thread_pool import ThreadPool

POLL: Final = 0.25
"""seconds between looks at whether the job was stopped"""

IDLE: Final = 30.0
"""seconds after its last task for which a job's buffers are kept"""

_held: dict[str, SlabJob] = {}
"""the last job, by its description's digest"""
_used: dict[str, float] = {}
"""when its last task ended"""
_lock = threading.Lock()


@dataclass(frozen=True)
class Done:
    """What a task returns when the results of its units are stored."""

    units: tuple[int, ...]
    seconds: float


def run_slabs(folder: str, key: str, digest: str, slabs: tuple[int, ...], stop_name: str) -> Done:
    """Compute slabs of the job that is described in ``folder``, unless they are there, and keep each.

    ``digest`` is the SHA-256 of the description; ``stop_name`` names the distributed.Event that stops the work between two chunks.
    Raises Cancelled, TryAgain (``store-not-shared``), and what reading raises.
    """
    begun = time.perf_counter()
    files = SlabFiles(folder, key)
    stop = threading.Event()
    job = _job(files, key, digest).until(stop)
    with watching(stop_name, stop):
        todo = [job.plan.slabs[i] for i in slabs if files.get(i) is None]
        for result in ThreadPool(1).results(job, todo):
            files.put(result.slab, result.arrays())
    _drop_later(digest)
    return Done(slabs, time.perf_counter() - begun)


def _drop_later(digest: str) -> None:
    """Free the buffers of the last job once the worker has been idle for a while."""
    with _lock:
        timed = digest in _used
        _used[digest] = time.monotonic()
    if not timed:
        _timer(digest, IDLE)


def _timer(digest: str, seconds: float) -> None:
    timer = threading.Timer(seconds, _drop, (digest,))
    timer.daemon = True
    timer.start()


def _drop(digest: str) -> None:
    with _lock:
        left = _used[digest] + IDLE - time.monotonic()
        if left <= 0:
            del _used[digest]
            _held.pop(digest, None)
            return
    _timer(digest, left)


def described(files: SlabFiles, digest: str) -> Any:
    """Return the description of a job, which its runner wrote. Raises TryAgain (``store-not-shared``), DamagedStore (``job-damaged``)."""
    path = files.blob()
    try:
        data = read_file(path)
    except FileNotFoundError:
        raise TryAgain(
            "store-not-shared",
            f"a worker does not see {path}",
            hint="Workers must see the store, and the folders of checkpoints, under the same paths as the runner.",
        ) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedStore("job-damaged", f"{path} is not what the runner wrote", hint="Submit the job again.")
    return pickle.loads(data)  # written by the runner, and proved by the digest that it sent


def _job(files: SlabFiles, key: str, digest: str) -> SlabJob:
    """Return the job with its buffers, cached between tasks: making them anew takes a tenth of a task's time."""
    with _lock:
        if digest in _held:
            return _held[digest]
    portable: PortableJob = described(files, digest)
    job = portable.here(get_worker().state.nthreads)
    with _lock:
        _held.clear()  # the buffers of one job are what a worker's memory is for
        return _held.setdefault(digest, job)


class watching:  # noqa: N801 (used as a statement)
    """Set ``stop`` when the job's event is set, or when the scheduler cannot be asked any more."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        from distributed import Event, get_client

        self.stop = stop
        self._event = Event(name, client=get_client())  # here: a thread of our own has no worker
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="trajsvc-stop")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        try:
            while not self._over.wait(POLL):
                if self._event.is_set():
                    self.stop.set()
                    return
        except Exception:  # without a scheduler there is no client: the runner that submitted this has gone
            if not self._over.is_set():
                self.stop.set()
