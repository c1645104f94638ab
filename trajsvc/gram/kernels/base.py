"""The protocol of a kernel: it takes rows of stored bytes and adds inner products of the update basis to sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.anatomy.blocks import Extent


@dataclass(frozen=True)
class RowGroup:
    """Consecutive checkpoints, from the ``first`` on, that store a segment of a tensor in one type."""

    first: int
    dtype: str
    raw: NDArray[np.uint8]
    """(rows, bytes)"""


class Kernel(Protocol):
    """The arithmetic of one worker. Not shared between threads; it owns its buffers."""

    def multiply(
        self,
        rows: Sequence[RowGroup],
        extent: Extent,
        lo: int,
        hi: int,
        sums: NDArray[np.float64],
        nonfinite: NDArray[np.int64],
    ) -> int:
        """Add the inner products of a block's elements, those of ``extent`` in columns [lo, hi) of its tensor, which ``rows`` hold.

        ``sums`` (2, pairs) takes them for every pair of rows that is wanted (``trajsvc.gram.sums``): the sum and what its additions
        lost. An element that is not finite counts as unchanged since the last finite checkpoint (as 0 before the first), so that the
        updates on both sides of it still add up, and is counted in ``nonfinite`` (T). Returns how many elements there are.
        """
        ...

    def widened(self, rows: Sequence[RowGroup], extent: Extent, lo: int, hi: int) -> Iterator[NDArray[np.float64]]:
        """Yield the same elements' values (T, some), as they are multiplied, in pieces that the next piece overwrites."""
        ...


def part_of(rows: Sequence[RowGroup], first: int, begin: int, end: int) -> list[RowGroup]:
    """Return the rows from checkpoint ``first`` on, numbered from 0, with their elements [begin, end); nothing is copied."""
    found = []
    for group in rows:
        item, skipped = ITEMSIZE[group.dtype], max(0, first - group.first)
        if skipped < len(group.raw):
            raw = group.raw[skipped:, begin * item : end * item]
            found.append(RowGroup(group.first + skipped - first, group.dtype, raw))
    return found


def raw_size(dtypes: Sequence[str], elements: int) -> int:
    """Return the number of bytes that ``raw_rows`` needs."""
    return sum(ITEMSIZE[d] * elements + 64 for d in dtypes)


def raw_rows(buffer: NDArray[np.uint8], dtypes: Sequence[str], elements: int) -> list[RowGroup]:
    """Cut ``buffer`` into runs of rows of equal type; each row holds ``elements``. Every run begins on a cache line."""
    groups: list[RowGroup] = []
    at = first = 0
    while first < len(dtypes):
        last = first
        while last < len(dtypes) and dtypes[last] == dtypes[first]:
            last += 1
        width = elements * ITEMSIZE[dtypes[first]]
        end = at + (last - first) * width
        groups.append(RowGroup(first, dtypes[first], buffer[at:end].reshape(last - first, width)))
        at, first = -(-end // 64) * 64, last
    return groups
