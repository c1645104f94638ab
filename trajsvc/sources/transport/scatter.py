"""A sink for the bytes of one request: several buffers in order, with bytes between them that are skipped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

SCRATCH: Final = 2**18
"""Bytes of a thread's buffer for what is skipped."""


class _Threads(threading.local):
    """Each thread's own scratch buffer, made when first needed."""

    def __init__(self) -> None:
        self.scratch = memoryview(bytearray(SCRATCH))


_threads: Final = _Threads()


class Scatter:
    """A ``Sink`` over (length, buffer) pairs in order; None instead of a buffer skips that many bytes.

    Buffers are contiguous and writable, of any item type. Raises ValueError where a length is not its buffer's.
    """

    def __init__(self, parts: Iterable[tuple[int, memoryview | None]]) -> None:
        self._parts: deque[tuple[int, memoryview | None]] = deque()
        for length, view in parts:
            if view is not None and view.nbytes != length:
                raise ValueError(f"a buffer of {view.nbytes} bytes for {length} bytes")
            if length:
                self._parts.append((length, None if view is None else _as_bytes(view)))

    def room(self) -> memoryview:
        """Return the buffer for the next bytes; empty when all have come."""
        if not self._parts:
            return memoryview(b"")
        length, view = self._parts[0]
        return _threads.scratch[:length] if view is None else view

    def take(self, count: int) -> None:
        """Accept ``count`` bytes, at most as many as ``room`` has."""
        length, view = self._parts[0]
        if count == length:
            self._parts.popleft()
        else:
            self._parts[0] = length - count, None if view is None else view[count:]


def _as_bytes(view: memoryview) -> memoryview:
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
