"""Read byte ranges of a service's files, several at once, and repeat what fails.

A request for a part of a file goes to the service, which redirects it to a signed URL of the storage behind it. That URL is used for
further parts, which then do not count against the service's rate limit, until it is refused. A body that is cut is resumed where it ended:
no byte is asked for twice.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from trajsvc.errors import UsageError
from trajsvc.sources.base import Sink, never
from trajsvc.sources.transport.cancel import SYSTEM_CLOCK, Clock, Interrupted, Stop, check, pause
from trajsvc.sources.transport.errors import ConnectionFailed
from trajsvc.sources.transport.pool import ConnectionPool, Response
from trajsvc.sources.transport.rate_limit import RateLimiter, shared_limiter
from trajsvc.sources.transport.retry import RETRIED, FailedAttempt, RetryPolicy, TransferCounter, TransferCounts
from trajsvc.sources.transport.service import RemoteFile, ServiceErrors
from trajsvc.sources.transport.signed_urls import FileUrl, FileUrls, SignedUrl
from trajsvc.sources.transport.url import Url
from trajsvc.version import __version__

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS: Final = 5
EXPIRED: Final = frozenset({400, 401, 403, 404, 410})
"""How a storage refuses a signed URL whose time is over."""
STORAGE: Final = "storage"
"""The rate limiter's name for what is asked of signed URLs."""

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


@dataclass(slots=True)
class _Task:
    """The bytes [at, hi) of a file that are still to come."""

    file: RemoteFile
    at: int
    hi: int
    sink: Sink
    stop: Stop
    known: FileUrl
    asked: SignedUrl | None = None
    """where it was asked for last"""


class Fetcher:
    """Reads files of one service over at most ``connections`` connections. Thread-safe. Times in seconds.

    ``errors`` are the service's. ``resource`` is what its rate limit calls requests for files. A request ends in an error after
    ``attempts`` in a row that brought nothing, each later than the one before by a random time that doubles from ``backoff`` on; an
    attempt is given up when less than 1 KiB/s has come for ``stall_seconds``. ``clock`` is that of the pauses between attempts.
    """

    def __init__(
        self, endpoint: str, token: str | None, errors: ServiceErrors, *, resource: str = "files", connections: int = 16,
        attempts: int = 8, stall_seconds: float = 20.0, backoff: float = 0.5, limiter: RateLimiter | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:  # fmt: skip
        self.endpoint = endpoint.rstrip("/")
        self._token, self._errors, self._resource = token, errors, resource
        self._attempts, self._backoff, self._clock = attempts, backoff, clock
        self._connections = ConnectionPool(connections, read_timeout=stall_seconds)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="trajsvc-fetch")
        self._limiter = limiter or shared_limiter(self.endpoint, clock)
        self._urls = FileUrls(self._home_of)
        self._counter = TransferCounter()

    @property
    def counters(self) -> TransferCounts:
        """What was done so far."""
        return self._counter.counts

    def fetch_all(self, requests: Sequence[tuple[RemoteFile, int, int, Sink]], stop: Stop = never) -> None:
        """Make all requests, several at once. The first error stops the others and is raised; returns early when ``stop`` returns true.

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
            futures = [self._threads.submit(one, r) for r in requests]
            try:
                wait(futures)
            finally:
                over.set()
                wait(futures)
        if errors:
            raise errors[0]

    def fetch(self, file: RemoteFile, lo: int, hi: int, sink: Sink, stop: Stop = never) -> None:
        """Fetch bytes [lo, hi) of ``file`` into ``sink``, in order.

        Raises errors of the service (``ServiceErrors``) and Interrupted when ``stop`` returns true.
        """
        if not 0 <= lo <= hi <= file.size:
            raise ValueError(f"{file.where} has no bytes [{lo}, {hi})")
        if lo == hi:
            return
        task = _Task(file, lo, hi, sink, stop, self._urls.of(file))
        policy = RetryPolicy(self._attempts, hi - lo, self._backoff)
        while True:
            check(stop)
            before, served = task.at, self.counters.served
            failure = self._attempt(task)
            if task.at == hi:
                return
            policy.record(failure, progress=task.at > before, crowded=self.counters.served > served)
            if policy.exhausted:
                raise self._errors.unreachable(file.where, "many tries brought too little of it")
            if failure is None:
                continue  # a part of what was asked for, as the answer said
            if policy.gives_up(failure):
                raise failure.error()
            self._counter.add(retries=1)
            if policy.failures > 1 and task.asked is not None:
                task.known.forget(task.asked)  # another URL may be better
            pause(policy.delay(failure), stop, self._clock)

    def close(self) -> None:
        """Close connections and threads. Requests under way are finished first."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._connections.close()

    def _home_of(self, file: RemoteFile) -> Url:
        """Return the file's URL at the service itself."""
        try:
            return Url.parse(f"{self.endpoint}/{file.target}")
        except ValueError:
            raise UsageError(
                "bad-endpoint", "the endpoint is no http or https address",
                hint="Give one such as https://huggingface.co (HF_ENDPOINT for the Hub).",
            ) from None  # fmt: skip

    def _attempt(self, task: _Task) -> FailedAttempt | None:
        """Ask once and take what comes; None when that is what was asked for, or the beginning of it.

        Raises errors of the service that will not pass, Interrupted, and whatever the task's sink raises.
        """
        with task.known.turn(task.stop) as turn:
            if turn.failure is not None:
                return turn.failure
            try:
                turn.failure = self._follow(task, turn.url)
                return turn.failure
            except ConnectionFailed as failed:
                why, final = failed.why, failed.final
            if final:
                raise self._errors.unreachable(task.file.where, why)
            turn.failure = FailedAttempt("failed", partial(self._errors.unreachable, task.file.where, why))
            return turn.failure

    def _follow(self, task: _Task, url: SignedUrl) -> FailedAttempt | None:
        """Ask ``url``, then wherever redirects lead."""
        for _ in range(MOST_REDIRECTS + 1):
            task.asked = url
            with self._ask(task, url) as response:
                if url.trusted and response.status < 400:
                    task.file.check_answer(response.headers)
                if response.status not in REDIRECTS:
                    return self._use(task, url, response)
                url = self._redirected(task, url, response)
                task.known.learn(url)
                response.discard()
        task.known.forget(url)
        raise ConnectionFailed("its redirects lead in a circle", final=True)

    def _ask(self, task: _Task, url: SignedUrl) -> Response:
        resource = self._resource if url.trusted else STORAGE
        headers = {
            "User-Agent": f"trajsvc/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Range": f"bytes={task.at}-{task.hi - 1}",
        }
        if url.trusted and self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        self._limiter.wait(resource, task.stop)
        response = self._connections.get(url.url, headers, task.stop)
        self._counter.add(requests=1, resolves=url.trusted)
        self._limiter.note(resource, response.status, response.headers)
        return response

    def _redirected(self, task: _Task, url: SignedUrl, response: Response) -> SignedUrl:
        """Return the URL to which a redirect leads."""
        try:
            leads = url.follow(response.headers.get("Location") or "")
        except ValueError:
            raise ConnectionFailed("its redirect leads nowhere", final=True) from None
        if url.url.origin.scheme == "https" != leads.url.origin.scheme:
            raise self._errors.insecure(task.file.where)
        return leads

    def _use(self, task: _Task, url: SignedUrl, response: Response) -> FailedAttempt | None:
        """Take what a response that is no redirect brings."""
        where, status = task.file.where, response.status
        if status in (200, 206):
            if url.trusted:
                task.known.learn(url)
            return self._take(task, response)
        if status == 416:
            raise self._errors.changed(where, "is shorter than its listing says")
        response.discard()
        if not url.trusted and status in EXPIRED:
            task.known.forget(url)
            return FailedAttempt(
                "expired", partial(self._errors.unreachable, where, "its signed addresses are refused")
            )
        signed_in = self._token is not None
        error = partial(self._errors.of_response, status, response.headers, where, signed_in=signed_in)
        if status == 429:
            return FailedAttempt("limited", error)
        if status in RETRIED or status >= 500:
            return FailedAttempt("failed", error)
        raise error()

    def _take(self, task: _Task, response: Response) -> FailedAttempt | None:
        """Receive the body of a 200 or 206, if it is about the bytes that are missing."""
        where = task.file.where
        part = self._part(task, response)
        if part == "ignored":
            return FailedAttempt("ignored", partial(self._errors.range_ignored, where))
        if part == "other":
            what = "is answered with another part than was asked for"
            return FailedAttempt("other", partial(self._errors.changed, where, what))
        begin = task.at
        end = begin + part
        try:
            while task.at < end:
                count = response.readinto(task.sink.room()[: end - task.at])
                if not count:
                    raise ConnectionFailed("the body was cut")
                task.sink.take(count)
                task.at += count
            response.discard()  # the end of a chunked body
        finally:
            self._counter.add(served=1, bytes=task.at - begin)
        return None

    def _part(self, task: _Task, response: Response) -> int | Literal["ignored", "other"]:
        """Return how many of the bytes [at, hi) the body brings, from ``at`` on: all, or fewer as ``Content-Range``
        says (RFC 9110, 15.3.7).

        ``ignored``: it is the whole file instead of a part; ``other``: another part. Raises the service's errors if the
        file has another size, or the body is transformed.
        """
        where, size, headers, length = task.file.where, task.file.size, response.headers, response.length
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise self._errors.encoded(where)
        if response.status == 200:
            if (task.at, task.hi) != (0, size):
                return "ignored"
            if length is not None and length != size:
                raise self._errors.changed(where, f"has {length} bytes, and {size} in its listing")
            return size
        said = _CONTENT_RANGE.fullmatch((headers.get("Content-Range") or "").strip())
        if said is None:
            return "other"
        first, last, total = said.groups()
        if total != "*" and int(total) != size:
            raise self._errors.changed(where, f"has {total} bytes, and {size} in its listing")
        count = int(last) + 1 - int(first)
        if int(first) != task.at or not 0 < count <= task.hi - task.at or length not in (None, count):
            return "other"
        return count
