"""Make one request for a listing at a time, retry failures that may be temporary, and bound answers by ``HubLimits``.

The requests go through the session of ``huggingface_hub``, so that its user's settings hold (certificates, proxies,
offline mode), but not through its listings: those wait without limit for an answer and retry without telling the
caller, whatever the session's timeout is. Each is made in a thread of its own, which is abandoned when the caller is to
stop: the session cannot be interrupted.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import getproxies

from trajsvc.errors import TrajsvcError
from trajsvc.sources.hub import answers, errors
from trajsvc.sources.hub.limits import HubLimits
from trajsvc.sources.transport.cancel import SLICE, Clock, Interrupted, Stop, check, pause
from trajsvc.sources.transport.rate_limit import RateLimiter
from trajsvc.sources.transport.url import Url
from trajsvc.version import __version__

T = TypeVar("T")

TIMEOUT: Final = 30.0
"""Seconds without a byte after which a request has failed."""
FIRST_CONTACT: Final = 2.0
"""Seconds for the name and for the connection of an endpoint that has never answered: without a network one is told soon."""
MOST_REDIRECTS: Final = 5
_SLOWEST: Final = 30.0
_PATIENT: Final = 100
"""Number of 429 answers after which a call fails: the limiter makes all threads wait after each."""
WINDOW: Final = 300.0
"""Seconds of the Hub's windows of its rate limit: a listing waits for one to end, whatever ``hub_seconds`` is."""
_PASSING: Final = frozenset(["hub-rate-limited", "hub-unavailable", "hub-unreachable"])
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class _Answered(Exception):
    """An unsuccessful answer."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers


@dataclass(slots=True)
class _Asked:
    """One listing: all its pages share one time limit, in which waits for a rate limit do not count."""

    where: str
    stop: Stop
    left: float
    """seconds"""
    waited: float = 0.0
    """seconds for the rate limit"""

    def over(self, until: float) -> Stop:
        """Return what says when a wait is to end: when the caller is to stop, or at the time ``until``."""
        return lambda: self.stop() or time.monotonic() > until


class ApiClient:
    """Requests to one endpoint's ``/api/models``. Thread-safe."""

    def __init__(
        self, endpoint: str, token: str | None, limiter: RateLimiter, limits: HubLimits, *, attempts: int, backoff: float, clock: Clock
    ) -> None:  # fmt: skip
        self._endpoint, self._address = endpoint, f"{endpoint}/api/models"
        self._signed_in, self._limiter, self._limits = token is not None, limiter, limits
        self._attempts, self._backoff, self._clock = attempts, backoff, clock
        self._headers = {
            "User-Agent": f"trajsvc/{__version__}", "Accept": "application/json", "Accept-Encoding": "gzip, identity",
        }  # fmt: skip
        self._token = token
        self._reached = False

    def pages(self, path: str, query: Mapping[str, str], where: str, stop: Stop) -> Iterator[list[Any]]:
        """Yield the rows of a listing, page by page.

        Raises DamagedCheckpoint (``hub-bad-answer``), LimitExceeded (``hub-limit``).
        """
        asked = _Asked(where, stop, self._limits.seconds)
        words: str | None = urlencode(query)
        seen: set[str] = set()
        while words is not None:
            if words in seen:
                raise answers.bad_answer(where, "its pages go in a circle")
            seen.add(words)
            if len(seen) > self._limits.pages:
                self._limits.exceeded("pages", where, f"{len(seen):,} pages")
            page, words = self._page(path, words, asked)
            yield answers.rows_of(page, where)

    def get(self, path: str, where: str, stop: Stop) -> Any:
        """Return the JSON of a listing that has a single page."""
        return self._page(path, "", _Asked(where, stop, self._limits.seconds))[0]

    def call(self, where: str, ask: Callable[[], T], stop: Stop) -> T:
        """Call ``ask``, again and again while a failure may be temporary.

        Raises errors of ``hub.errors``, and Interrupted.
        """
        from huggingface_hub import constants
        from huggingface_hub.errors import OfflineModeIsEnabled

        if constants.is_offline_mode():
            raise errors.offline(where)
        if not self._reached and not _name_known(self._endpoint, stop):
            raise errors.no_connection(where)
        failures = refusals = 0
        began = self._clock.monotonic()
        while True:
            try:
                return ask()
            except (Interrupted, TrajsvcError):
                raise
            except OfflineModeIsEnabled:
                raise errors.offline(where) from None
            except _Answered as answer:
                error = errors.of_response(answer.status, answer.headers, where, signed_in=self._signed_in)
            except Exception as broken:
                error = errors.unreachable(where, _why(broken))
                if not self._reached and (failures or _slow(broken)) and _unconnected(broken):
                    raise errors.no_connection(where) from None
            refusals += error.kind == "hub-rate-limited"
            if error.kind == "hub-rate-limited" and refusals <= _PATIENT:
                self._check_wait(where, self._clock.monotonic() - began)
            failures += error.kind != "hub-rate-limited"
            if error.kind not in _PASSING or failures >= self._attempts or refusals > _PATIENT:
                raise error
            if error.kind != "hub-rate-limited":
                longest = min(_SLOWEST, self._backoff * 2 ** (failures - 1))
                pause(random.uniform(0.5, 1) * longest, stop, self._clock)

    def _page(self, path: str, query: str, asked: _Asked) -> tuple[Any, str | None]:
        """Return the JSON of one answer, and the query of the next page. The token is sent only to the endpoint."""
        address = (f"{self._address}/{path}" if path else self._address) + (f"?{query}" if query else "")
        trusted = True
        for _ in range(MOST_REDIRECTS + 1):
            self._take_turn(asked)
            begun = time.monotonic()
            until = begun + asked.left
            try:  # the session's own limit is of the time between two bytes: a head may come in drops, or after any number of others
                found = _left_behind(partial(self._ask, address, trusted, asked), asked.over(until))
            except Exception as broken:
                check(asked.stop)
                asked.left -= time.monotonic() - begun
                if asked.left <= 0 and not isinstance(broken, TrajsvcError):
                    self._limits.exceeded("seconds", asked.where, "")
                raise
            asked.left -= time.monotonic() - begun
            if not isinstance(found, str):
                body, link = found
                following = answers.next_query(link, address, self._endpoint, asked.where)
                return answers.read_json(body, self._limits, asked.where), following
            address, trusted = self._moved(address, found, trusted, asked.where)
        raise answers.bad_answer(asked.where, "its redirects do not end")

    def _take_turn(self, asked: _Asked) -> None:
        """Wait as the Hub's rate limit asks. Raises TryAgain (``hub-rate-limited``) if that is longer than a listing waits."""
        self._check_wait(asked.where, asked.waited)
        begun = self._clock.monotonic()
        self._limiter.wait("api", asked.stop)
        asked.waited += self._clock.monotonic() - begun

    def _check_wait(self, where: str, waited: float) -> None:
        longest, needed = max(self._limits.seconds, WINDOW), self._limiter.asked_for("api")
        if needed > 0 and waited + needed > longest:
            raise errors.wait_too_long(where, needed, longest)

    def _moved(self, address: str, location: str, trusted: bool, where: str) -> tuple[str, bool]:
        """Return where a redirect leads, and whether the endpoint itself answers there."""
        said = answers.read(answers.Link, {"url": location}, where).url
        try:
            text = urljoin(address, said)
            here, there = Url.parse(address), Url.parse(text)
        except ValueError:
            raise answers.bad_answer(where, f"it leads to {answers.shown(location)}, which is no address") from None
        if here.origin.scheme == "https" != there.origin.scheme:
            raise errors.insecure(where)
        return text, trusted and there.origin == here.origin

    def _ask(self, address: str, trusted: bool, asked: _Asked, stop: Stop) -> tuple[bytes, str | None] | str:
        """Return the body of an answer and its link to the next page, or the address to which it redirects."""
        from httpx2 import Timeout
        from huggingface_hub import get_session

        headers = dict(self._headers)
        if trusted and self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        until = time.monotonic() + asked.left
        timeout = min(TIMEOUT, max(asked.left, 0.01))
        waits = timeout if self._reached else Timeout(timeout, connect=min(FIRST_CONTACT, timeout))
        with self._header_bound(asked.where), get_session().stream(
            "GET", address, headers=headers, timeout=waits, follow_redirects=False
        ) as answer:  # fmt: skip
            self._reached = True
            told = {k.lower(): v for k, v in answer.headers.items()}
            size = sum(len(k) + len(v) + 4 for k, v in answer.headers.raw)
            if size > self._limits.header:
                self._limits.exceeded("header", asked.where, f"{size:,} bytes of headers")
            self._limiter.note("api", answer.status_code, told)
            if answer.status_code in _REDIRECTS:
                return told.get("location", "")
            if not answer.is_success:
                raise _Answered(answer.status_code, told)
            body = self._body(answer.iter_raw(), told.get("content-encoding", ""), asked.where, until, stop)
            return body, answer.links.get("next", {}).get("url")

    @contextmanager
    def _header_bound(self, where: str) -> Iterator[None]:
        """Map the session's own limit on the size of headers to the error of the setting ``hub_header``."""
        import httpx2

        try:
            yield
        except httpx2.RemoteProtocolError as error:
            if "too long" not in str(error):
                raise
        else:
            return
        self._limits.exceeded("header", where, "headers that do not end")

    def _body(self, pieces: Iterator[bytes], encoding: str, where: str, until: float, stop: Stop) -> bytes:
        """Receive a body, unpacked as it comes, so that none of it is larger than the bounds."""
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise errors.encoded(where)
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in encoding else None
        limits, body, came = self._limits, bytearray(), 0
        for piece in pieces:
            check(stop)
            came += len(piece)
            if time.monotonic() > until:
                limits.exceeded("seconds", where, "")
            if came > limits.received:
                limits.exceeded("received", where, f"at least {came:,} bytes in one page")
            body += piece if unpack is None else unpack.decompress(piece, limits.unpacked + 1 - len(body))
            if len(body) > limits.unpacked:
                limits.exceeded("unpacked", where, f"at least {len(body):,} bytes in one page once it is unpacked")
        if unpack is not None and (not unpack.eof or unpack.unused_data):
            raise EOFError
        return bytes(body)


def _name_known(endpoint: str, stop: Stop) -> bool:
    """Return False if the name of ``endpoint`` is not found out in ``FIRST_CONTACT`` seconds: without a network a resolver may wait much
    longer. A proxy looks names up itself; a name that does not exist is left to the request to say.
    """
    parts = urlsplit(endpoint)
    if getproxies() or parts.hostname is None:
        return True

    def look_up(over: Stop) -> None:
        with suppress(OSError, UnicodeError):
            socket.getaddrinfo(parts.hostname, parts.port or 443)

    until = time.monotonic() + FIRST_CONTACT
    try:
        _left_behind(look_up, lambda: stop() or time.monotonic() > until)
    except Interrupted:
        check(stop)
        return False
    return True


def _unconnected(error: Exception) -> bool:
    """Return whether no connection was made: the name is not known, the port closed, the network away."""
    import httpx2

    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)


def _slow(error: Exception) -> bool:
    import httpx2

    return isinstance(error, httpx2.ConnectTimeout)


def _left_behind(work: Callable[[Stop], T], stop: Stop) -> T:
    """Return the result of ``work``, run in a thread of its own; when ``stop`` returns True, signal the thread to stop
    and abandon it.
    """
    done: Future[T] = Future()
    over = threading.Event()

    def run() -> None:
        try:
            done.set_result(work(over.is_set))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="trajsvc-listing", daemon=True).start()
    try:
        while not wait([done], SLICE / 2).done:
            check(stop)
    except BaseException:
        over.set()
        raise
    return done.result()


def _why(error: Exception) -> str:
    """Return a few words on what failed, without the error's own text, which may hold addresses.

    Re-raise what is not a network failure.
    """
    import httpx2

    if isinstance(error, httpx2.TimeoutException):
        return "it does not answer in time"
    if isinstance(error, httpx2.ConnectError):
        return "there is no connection to it"
    if isinstance(
        error, httpx2.HTTPError | json.JSONDecodeError | UnicodeDecodeError | OSError | EOFError | zlib.error
    ):
        return "the answer breaks off"
    if isinstance(error, ValueError | LookupError | TypeError | RecursionError):
        return "its answer cannot be read"
    # Other users of the client library close its session when they lose their connection.
    if isinstance(error, RuntimeError) and "closed" in str(error):
        return "the connection was closed"
    raise error
