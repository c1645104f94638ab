"""Cancel waits for a network: every wait is cut into slices, and ``stop`` is called between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, overload

from trajsvc.errors import Cancelled

T = TypeVar("T")

SLICE: Final = 0.1
"""Maximum seconds between two calls of ``stop``."""

Stop = Callable[[], bool]
"""Whether the caller wants the work to end."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of pauses, in seconds: ``monotonic`` never steps back, ``wall`` is the time of day."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    wall: Callable[[], float] = time.time


SYSTEM_CLOCK: Final = Clock()
"""The machine's."""


class Interrupted(Cancelled):
    """The caller's ``stop`` returned true. Not an error of the source."""


class Stoppable(Sequence[T]):
    """The same items; iterating over them raises Interrupted as soon as ``stop`` returns true, since each may take
    long.
    """

    def __init__(self, items: Sequence[T], stop: Stop) -> None:
        self._items, self._stop = items, stop

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return self._items[at]

    def __iter__(self) -> Iterator[T]:
        for item in self._items:
            check(self._stop)
            yield item


def check(stop: Stop) -> None:
    """Raise Interrupted if ``stop`` returns true."""
    if stop():
        raise Interrupted("stopped")


def pause(seconds: float, stop: Stop, clock: Clock = SYSTEM_CLOCK) -> None:
    """Wait ``seconds``. Raises Interrupted within ``SLICE`` seconds after ``stop`` returns true."""
    end = clock.monotonic() + seconds
    check(stop)
    while (left := end - clock.monotonic()) > 0:
        clock.sleep(min(left, SLICE))
        check(stop)
