"""Decide when a failed attempt is repeated, after what delay, and when its error is raised; count what all threads did."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from trajsvc.errors import TrajsvcError

FailureKind = Literal["failed", "limited", "expired", "ignored", "other"]
"""No answer or a temporary error; too many requests; an expired signed URL; the whole file instead of a part; another part."""

MOST_IN_A_ROW: Final[dict[FailureKind, int]] = {"expired": 4, "ignored": 2, "other": 2}
"""Failures in a row, without a byte received, that end a request, where they are fewer than ``attempts``."""
LEAST_BYTES: Final = 2**16
"""Average bytes that an attempt must bring, so that a server that sends less each time cannot keep a request alive indefinitely."""
RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of temporary errors; all above 499 may be repeated."""
LONGEST_DELAY: Final = 30.0
"""Seconds before the next attempt at most."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """Why an attempt failed that may be repeated. ``error`` makes the error to raise if repeating does not help: one for each thread."""

    kind: FailureKind
    error: Callable[[], TrajsvcError]


class RetryPolicy:
    """Decides about the attempts of one request for ``size`` bytes.

    ``attempts`` in a row that bring nothing end it. The delay before the next is random, up to a bound that doubles from ``backoff``
    seconds on.
    """

    def __init__(self, attempts: int, size: int, backoff: float = 0.5) -> None:
        self._attempts, self._left = attempts, attempts + size // LEAST_BYTES + size.bit_length()
        self._backoff = backoff
        self._row: Counter[FailureKind] = Counter()

    @property
    def failures(self) -> int:
        """Attempts in a row that brought nothing."""
        return self._row.total()

    @property
    def exhausted(self) -> bool:
        """Whether there were more attempts than the size justifies, though each may have brought some bytes."""
        return self._left < 0

    def record(self, failure: FailedAttempt | None, *, progress: bool, crowded: bool) -> None:
        """Count an attempt. ``progress``: it brought bytes; ``crowded``: others were served meanwhile, so its turn will come."""
        turned_away = crowded and failure is not None and failure.kind in ("limited", "expired")
        self._left -= not turned_away
        if progress:
            self._row.clear()
        elif failure is not None and not turned_away:
            self._row[failure.kind] += 1

    def gives_up(self, failure: FailedAttempt) -> bool:
        """Return whether ``failure``, which was recorded, is to be raised instead of repeated."""
        most = MOST_IN_A_ROW.get(failure.kind, self._attempts)
        return self.failures >= self._attempts or self._row[failure.kind] >= most

    def delay(self, failure: FailedAttempt) -> float:
        """Return the seconds to wait before the next attempt: 0 after a rate limit (the limiter waits) or the first
        expired URL.
        """
        if failure.kind == "limited" or (failure.kind == "expired" and self.failures < 2):
            return 0.0
        return random.uniform(0, min(LONGEST_DELAY, self._backoff * 2.0 ** max(0, self.failures - 1)))


@dataclass(frozen=True, slots=True)
class TransferCounts:
    """A snapshot: ``requests`` that were answered, ``resolves`` of them by the service itself, ``served`` that brought what was asked for;
    the bytes of a body are counted at its end."""

    requests: int = 0
    resolves: int = 0
    served: int = 0
    retries: int = 0
    bytes: int = 0


class TransferCounter:
    """Counts of all threads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts = TransferCounts()

    def add(self, *, requests: int = 0, resolves: int = 0, served: int = 0, retries: int = 0, bytes: int = 0) -> None:
        with self._lock:
            c = self.counts
            self.counts = TransferCounts(
                c.requests + requests, c.resolves + resolves, c.served + served, c.retries + retries, c.bytes + bytes
            )
