"""Ranges of bytes of files on the Hub, several at once, whatever happens on the way.

A request for a part of a file goes to the Hub, which sends it on to a signed address of the storage behind it; that address is good for
further parts, so that nothing of the Hub's limits is spent on them, until it is refused. A body that is cut is taken up where it ended:
no byte is asked for again that was taken.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final
from urllib.parse import quote

from trajsvc.errors import UsageError
from trajsvc.sources.base import Sink, never
from trajsvc.sources.hub import problems
from trajsvc.sources.hub.attempt import Attempts, Task
from trajsvc.sources.hub.connections import Connections
from trajsvc.sources.hub.counts import Counts, Tally
from trajsvc.sources.hub.interrupt import Interrupted, Stop, check, pause
from trajsvc.sources.hub.limiter import Limiter, shared_limiter
from trajsvc.sources.hub.location import Location
from trajsvc.sources.hub.places import Places
from trajsvc.sources.hub.remote_file import RemoteFile
from trajsvc.sources.hub.scatter import Scatter
from trajsvc.sources.hub.troubles import Tries, Trouble

__all__ = ["Counts", "Fetcher", "Interrupted", "RemoteFile", "Scatter", "Sink"]

SLOWEST_BACKOFF: Final = 30.0


class Fetcher:
    """Reads files of one endpoint over at most ``connections`` connections. Thread-safe. Times in seconds.

    A request ends in an error after ``attempts`` tries in a row that brought nothing, each later than the one before by a random time
    that doubles from ``backoff`` on; a try is given up when less than 1 KiB/s has come for ``stall_seconds``.
    """

    def __init__(
        self, endpoint: str, token: str | None, *, connections: int = 16, attempts: int = 8, stall_seconds: float = 20.0,
        backoff: float = 0.5, limiter: Limiter | None = None,
    ) -> None:  # fmt: skip
        self.endpoint = endpoint.rstrip("/")
        self._attempts, self._backoff = attempts, backoff
        self._connections = Connections(connections, read_timeout=stall_seconds)
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="trajsvc-fetch")
        self._places = Places(self._home_of)
        self._tally = Tally()
        self._make = Attempts(
            _clean(token), self._connections, limiter or shared_limiter(self.endpoint), self._tally
        ).make

    @property
    def counters(self) -> Counts:
        """What was done so far."""
        return self._tally.counts

    def fetch_all(self, requests: Sequence[tuple[RemoteFile, int, int, Sink]], stop: Stop = never) -> None:
        """Make all requests, several at once. The first error stops the others and is raised; returns early when ``stop`` says so.

        No sink is touched after it returns.
        """
        over = threading.Event()
        errors: list[BaseException] = []

        def one(request: tuple[RemoteFile, int, int, Sink]) -> None:
            try:
                self.fetch(*request, lambda: over.is_set() or stop())
            except Interrupted:
                over.set()
            except BaseException as error:
                errors.append(error)
                over.set()

        if len(requests) == 1:
            one(requests[0])
        else:
            futures = [self._pool.submit(one, r) for r in requests]
            try:
                wait(futures)
            finally:
                over.set()
                wait(futures)
        if errors:
            raise errors[0]

    def fetch(self, file: RemoteFile, lo: int, hi: int, sink: Sink, stop: Stop = never) -> None:
        """Bytes [lo, hi) into ``sink``, in order.

        Raises TryAgain (``hub-unreachable``, ``hub-unavailable``, ``hub-rate-limited``, ``hub-file-changed``), Refused (``hub-gated``,
        ``range-ignored``, ``hub-offline`` …), NotFound (``hub-no-file`` …); Interrupted when ``stop`` says so.
        """
        if not 0 <= lo <= hi <= file.size:
            raise ValueError(f"{file.where} has no bytes [{lo}, {hi})")
        if lo == hi:
            return
        if _offline():
            raise problems.offline(file.where)
        task = Task(file, lo, hi, sink, stop, self._places.of(file))
        tries = Tries(self._attempts, hi - lo)
        while True:
            check(stop)
            before, served = task.at, self.counters.served
            trouble = self._make(task)
            if task.at == hi:
                return
            tries.count(trouble, progress=task.at > before, crowded=self.counters.served > served)
            if tries.too_many:
                raise problems.unreachable(file.where, "many tries brought too little of it")
            if trouble is None:
                continue  # a part of what was asked for, as the answer said
            if tries.hopeless(trouble):
                raise trouble.error()
            self._tally.add(retries=1)
            self._wait(task, trouble, tries.failures)

    def close(self) -> None:
        """Let go of connections and threads. Requests under way are finished first."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._connections.close()

    def _wait(self, task: Task, trouble: Trouble, failures: int) -> None:
        """Before the next try."""
        if failures > 1 and task.way is not None:
            task.place.forget(task.way)  # another address may be better
        if trouble.kind == "limited" or (trouble.kind == "expired" and failures < 2):
            return  # the limiter says how long, or there is nothing to wait for
        longest = min(SLOWEST_BACKOFF, self._backoff * 2.0 ** max(0, failures - 1))
        pause(random.uniform(0, longest), task.stop)

    def _home_of(self, file: RemoteFile) -> Location:
        """The file's address at the Hub."""
        path = f"{quote(file.repo)}/resolve/{quote(file.commit, safe='')}/{quote(file.path)}"
        try:
            return Location.parse(f"{self.endpoint}/{path}")
        except ValueError:
            raise UsageError(
                "bad-endpoint", "the Hub's endpoint is no http or https address", hint="Check HF_ENDPOINT."
            ) from None


def _clean(token: str | None) -> str | None:
    """The token without the line's end of the file that it was read from. Raises UsageError for what no header can carry."""
    token = (token or "").strip()
    if not token.isascii() or not token.isprintable():
        raise UsageError("bad-token", "the token for the Hub has characters that no token has", hint="Check HF_TOKEN.")
    return token or None


def _offline() -> bool:
    from huggingface_hub.constants import is_offline_mode

    return bool(is_offline_mode())
