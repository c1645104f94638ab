"""Count the stored values that do not change from one checkpoint to the next, while their bytes are in memory.

A value changes when its bits do: −0 and 0 differ, two equal NaN do not. Where two checkpoints store a tensor in different types, their
values are compared instead, as float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.kernels.base import Kernel, RowGroup
from trajsvc.gram.kernels.fused import row_addresses, runs_of
from trajsvc.gram.kernels.native import library


def count_changes(
    rows: Sequence[RowGroup],
    extent: Extent,
    lo: int,
    hi: int,
    new: int,
    counts: NDArray[np.int64],
    kernel: Kernel,
    wide: bool,
) -> None:
    """Add to ``counts`` (T, 2) the changes of a block's elements in columns [lo, hi) of its tensor, for the last ``new`` checkpoints.

    ``counts[t, 0]``: elements that differ between checkpoints t − 1 and t; ``counts[t, 1]``: those among them that also differ between
    t − 2 and t − 1. ``kernel`` widens what is stored in several types. ``wide``: which compiled library is in use.
    """
    total = len(counts)
    first = max(1, total - new)
    if first >= total:
        return
    if len(rows) > 1:
        _count_values(rows, extent, lo, hi, first, counts, kernel)
        return
    [group] = rows
    size = ITEMSIZE[group.dtype]
    changed = library(wide).changed[size]
    for begin, end in runs_of(extent, lo, hi):
        places = row_addresses(group, (begin - lo) * size)
        changed(places.ctypes.data, total, first, end - begin, counts.ctypes.data)


def _count_values(
    rows: Sequence[RowGroup], extent: Extent, lo: int, hi: int, first: int, counts: NDArray[np.int64], kernel: Kernel
) -> None:
    """Compare values; rows of one type were widened exactly, so that equal bits are equal values and others are not."""
    start = max(0, first - 2)
    for values in kernel.widened(rows, extent, lo, hi):
        bits = np.ascontiguousarray(values[start:]).view(np.int64)
        changed = bits[1:] != bits[:-1]
        one, two = changed.sum(axis=1), (changed[1:] & changed[:-1]).sum(axis=1)
        counts[first:, 0] += one[first - start - 1 :]
        counts[max(first, 2) :, 1] += two[max(first, 2) - start - 2 :]
