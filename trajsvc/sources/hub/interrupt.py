"""Stopping what waits for a network: everything that waits does so in slices and asks between them whether to go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from trajsvc.errors import Cancelled

SLICE: Final = 0.1
"""Seconds that pass at most before ``stop`` is asked again."""

Stop = Callable[[], bool]
"""Whether the caller wants no more."""


class Interrupted(Cancelled):
    """The caller's ``stop`` said so. Not an error: nothing is wrong with the source."""


def check(stop: Stop) -> None:
    """Raise Interrupted where ``stop`` says so."""
    if stop():
        raise Interrupted("stopped")


def pause(
    seconds: float, stop: Stop, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Let ``seconds`` pass. Raises Interrupted within ``SLICE`` seconds after ``stop`` says so."""
    end = clock() + seconds
    check(stop)
    while (left := end - clock()) > 0:
        sleep(min(left, SLICE))
        check(stop)
