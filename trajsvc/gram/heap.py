"""What is freed goes back to the system: the memory budget counts what lies in the heap, whether it is in use or not."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
LARGE: Final = 2**20
"""bytes from which on an array has pages of its own, which go when it goes"""
TOP: Final = 2**25
"""bytes at the end of the heap that stay for the next array"""


@cache
def steady_heap() -> bool:
    """Fix the sizes by which glibc's malloc decides what to keep, for this process; False where it is another malloc.

    Left alone, malloc takes the first large array that is freed as a sign to take such arrays from the heap from then on; results that
    one thread makes and another frees leave holes there. Measured with 154 checkpoints in a budget of 80 MiB: 81 MB at most without,
    68 MB with these settings, in the same time.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, TOP))
