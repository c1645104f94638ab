"""Keep to a service's rate limits: one limiter for all threads that make requests to the same endpoint.

A service counts requests by resource (``api`` for listings, ``resolvers`` for files) in fixed windows. Its answers say
how many are left (``RateLimit: "api";r=12;t=55``), out of how many (``RateLimit-Policy: …;q=500;w=300``), and when to
come back (``Retry-After``). The syntax of the first two is that of the IETF's draft-ietf-httpapi-ratelimit-headers-09.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from trajsvc.sources.base import never
from trajsvc.sources.transport.cancel import SLICE, SYSTEM_CLOCK, Clock, Stop, check

NEAR: Final = 16
"""Requests left from which on they are spread over the rest of the window; or a tenth of the window's, if that is more."""
LONGEST: Final = 900.0
"""Seconds that one answer can make everyone wait; after that the service is asked again."""

_LIMIT: Final = re.compile(r'"(\w{1,64})"\s*;\s*r\s*=\s*(\d{1,12})\s*;\s*t\s*=\s*(\d{1,12})')
_POLICY: Final = re.compile(r"q\s*=\s*(\d{1,12}).{0,64}?w\s*=\s*(\d{1,12})")


@dataclass(slots=True)
class _Resource:
    """What is known of one resource; times are those of the limiter's clock."""

    paused_until: float = 0.0
    asked_until: float = 0.0
    """as far as answers asked, however long that is"""
    spread_until: float = 0.0
    interval: float = 0.0
    """seconds between two requests until ``spread_until``"""
    next_at: float = 0.0
    refusals: int = 0
    """answers 429 in a row that did not say how long to wait"""


@dataclass(frozen=True, slots=True)
class _RateLimit:
    """Requests ``left`` of ``resource`` for the next ``seconds``, of ``quota`` in ``window`` seconds where the policy says so."""

    resource: str
    left: int
    seconds: int
    quota: int | None = None
    window: int | None = None


class RateLimiter:
    """Keeps to the limits that a service's answers state, for all threads.

    ``base`` and ``cap`` (seconds) bound the pauses after an answer 429 that gives no time.

    ``clock`` is monotonic, ``wall`` is the time of day, ``jitter`` gives numbers in [0, 1).
    """

    def __init__(
        self,
        *,
        base: float = 1.0,
        cap: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._base, self._cap = base, cap
        self._clock, self._sleep, self._wall, self._jitter = clock, sleep, wall, jitter
        self._lock = threading.Lock()
        self._resources: dict[str, _Resource] = {}

    def wait(self, resource: str, stop: Stop = never) -> None:
        """Block until a request for ``resource`` may be made, and count it as made.

        Raises Interrupted when ``stop`` returns True.
        """
        check(stop)
        while (left := self._take_turn(resource)) > 0:
            self._sleep(min(left, SLICE))
            check(stop)

    def note(self, resource: str, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer to a request for ``resource``; headers' names in any case."""
        lower = {name.lower(): value for name, value in headers.items()}
        rate = _rate_limit(lower)
        after = self._retry_after(lower) if status in (429, 503) else None
        with self._lock:
            now = self._clock()
            known = self._of(resource)
            if after is not None:
                self._pause(known, now, after)
            if rate is not None:
                for one in {resource, rate.resource}:
                    if rate.left == 0:
                        self._pause(self._of(one), now, rate.seconds)
                    self._spread(self._of(one), now, rate.left, rate.seconds, rate.quota)
            if status == 429:
                self._refused(known, now)
                if rate is not None and rate.quota and rate.window:
                    # all waiting threads see a full window and would use it up at once
                    known.interval = rate.window / rate.quota
                    known.spread_until = known.paused_until + rate.window
            else:
                known.refusals = 0

    def paused_for(self, resource: str) -> float:
        """Return the seconds until requests for ``resource`` are made again; 0 when they are."""
        with self._lock:
            return max(0.0, self._of(resource).paused_until - self._clock())

    def asked_for(self, resource: str) -> float:
        """Return the seconds that answers ask to wait, which may be more than ``paused_for``."""
        with self._lock:
            return max(0.0, self._of(resource).asked_until - self._clock())

    def _of(self, resource: str) -> _Resource:
        return self._resources.setdefault(resource, _Resource())

    def _take_turn(self, resource: str) -> float:
        """Take a turn and return 0, or return the seconds to wait before asking again."""
        with self._lock:
            now, known = self._clock(), self._of(resource)
            due = known.paused_until
            if now < known.spread_until:
                due = max(due, known.next_at)
            if due > now:
                return due - now
            known.next_at = now + known.interval
            return 0.0

    def _pause(self, known: _Resource, now: float, seconds: float) -> None:
        known.paused_until = max(known.paused_until, now + min(seconds, LONGEST))
        known.asked_until = max(known.asked_until, now + seconds)

    def _spread(self, known: _Resource, now: float, left: int, seconds: float, limit: int | None) -> None:
        if 0 < left <= max(NEAR, (limit or 0) // 10):
            known.interval, known.spread_until = seconds / left, now + seconds
        elif left:
            known.spread_until = 0.0

    def _refused(self, known: _Resource, now: float) -> None:
        """Wait longer each time where the answer gave no time. Answers to requests made before a pause tell nothing new."""
        if known.paused_until > now:
            return
        if now - known.paused_until > self._cap:
            known.refusals = 0
        longest = min(self._cap, self._base * 2.0**known.refusals)
        known.refusals = min(known.refusals + 1, 16)
        self._pause(known, now, longest * (0.5 + 0.5 * self._jitter()))

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Return the seconds that ``Retry-After`` asks for; a date is compared with the answer's own, since its clock
        may differ from ours.
        """
        asked = headers.get("retry-after", "").strip()
        if asked.isascii() and asked.isdigit():
            return float(asked)
        until = _timestamp(asked)
        if until is None:
            return None
        answered = _timestamp(headers.get("date", ""))
        return max(0.0, until - (self._wall() if answered is None else answered))


def _rate_limit(headers: Mapping[str, str]) -> _RateLimit | None:
    """Parse the ``RateLimit`` and ``RateLimit-Policy`` headers (names in lower case).

    None if there is no readable one.
    """
    limit = _LIMIT.search(headers.get("ratelimit", ""))
    if limit is None:
        return None
    policy = _POLICY.search(headers.get("ratelimit-policy", ""))
    quota, window = (None, None) if policy is None else (int(policy[1]), int(policy[2]))
    return _RateLimit(limit[1], int(limit[2]), int(limit[3]), quota, window)


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, OSError, TypeError):  # what is no date, and dates that no clock reaches
        return None


_shared: Final[dict[tuple[str, Clock], RateLimiter]] = {}
_shared_lock: Final = threading.Lock()


def shared_limiter(endpoint: str, clock: Clock = SYSTEM_CLOCK) -> RateLimiter:
    """Return the process's limiter of an endpoint, by one clock."""
    with _shared_lock:
        made = RateLimiter(clock=clock.monotonic, sleep=clock.sleep, wall=clock.wall)
        return _shared.setdefault((endpoint.rstrip("/"), clock), made)
