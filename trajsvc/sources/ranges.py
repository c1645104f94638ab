"""Merge many small byte ranges of files into few requests: neighbours are asked for at once.

Pure arithmetic, so that a plan can count the requests and bytes that reading will make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from trajsvc.sources.base import ReadRequest

BRIDGE: Final = 2**16
"""The largest gap between two ranges that one request reads in passing: what a request costs in bytes."""
LARGEST: Final = 2**24
"""Bytes of one request at most: a broken one loses little, and several connections share a long range."""

Gap = Callable[[str, int, int], bool]
"""Whether bytes [lo, hi) of a file, which are not needed, may be read: they must not be needed by a later request either."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [lo, hi) of a file; ``index`` is the caller's own number for them."""

    file: str
    lo: int
    hi: int
    index: int = -1


@dataclass(frozen=True, slots=True)
class MergedRange:
    """Consecutive bytes [lo, hi) of a file that hold ``ranges`` (in order; equal ranges may be there more than once)."""

    file: str
    lo: int
    hi: int
    ranges: tuple[ByteRange, ...]

    @property
    def size(self) -> int:
        return self.hi - self.lo

    def requests(self, largest: int = LARGEST) -> list[tuple[int, int]]:
        """Return [lo, hi) of each request that reads the range: as few as ``largest`` allows, of about equal size."""
        count = max(1, -(-self.size // largest))
        cuts = [self.lo + self.size * i // count for i in range(count + 1)]
        return list(pairwise(cuts))


def coalesce(ranges: Iterable[ByteRange], gap: Gap | None = None) -> list[MergedRange]:
    """Merge ``ranges``: each byte once, in order of file (as first met) and offset.

    Two ranges are merged when they touch or overlap, or when the bytes between them are at most ``BRIDGE`` and ``gap`` allows them.
    """
    by_file: dict[str, list[ByteRange]] = {}
    for span in ranges:
        if span.hi > span.lo:
            by_file.setdefault(span.file, []).append(span)
    found: list[MergedRange] = []
    for file, wanted in by_file.items():
        wanted.sort(key=lambda s: (s.lo, s.hi))
        held: list[ByteRange] = []
        lo = hi = 0
        for span in wanted:
            between = span.lo - hi
            if held and (between <= 0 or (between <= BRIDGE and gap is not None and gap(file, hi, span.lo))):
                held.append(span)
                hi = max(hi, span.hi)
                continue
            if held:
                found.append(MergedRange(file, lo, hi, tuple(held)))
            held, lo, hi = [span], span.lo, span.hi
        if held:
            found.append(MergedRange(file, lo, hi, tuple(held)))
    return found


def read_requests(merged: MergedRange, buffers: Sequence[memoryview], largest: int = LARGEST) -> list[ReadRequest]:
    """Return requests that fill ``buffers[range.index]`` of every range of ``merged``, which do not overlap."""
    parts: list[tuple[int, memoryview | int]] = []  # where each part begins, and the part
    at = merged.lo
    for span in merged.ranges:
        if span.lo > at:
            parts.append((at, span.lo - at))
        parts.append((span.lo, buffers[span.index]))
        at = span.hi
    made = []
    for lo, hi in merged.requests(largest):
        cut: list[memoryview | int] = []
        for begin, part in parts:
            end = begin + (part if isinstance(part, int) else part.nbytes)
            first, last = max(begin, lo), min(end, hi)
            if first < last:
                cut.append(last - first if isinstance(part, int) else part[first - begin : last - begin])
        made.append(ReadRequest(merged.file, lo, tuple(cut)))
    return made
