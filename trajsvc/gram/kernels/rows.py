"""Sum the squares of a matrix's rows at every checkpoint, while their bytes are in memory.

Values are those that are multiplied: rounded to the run's ``dtype``, if any. Differences and sums are in float64 whatever the precision of
the products. A row with a NaN or infinite value has NaN in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import FLOAT_TYPES, ITEMSIZE
from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.extents import position
from trajsvc.gram.kernels.base import Kernel, RowGroup
from trajsvc.gram.kernels.fused import row_addresses, runs_of
from trajsvc.gram.kernels.native import library
from trajsvc.gram.kernels.values import is_exact

SHORT: Final = 2**9
"""Runs of fewer values are widened together first, since each takes a call."""


def add_row_norms(
    rows: Sequence[RowGroup],
    extent: Extent,
    lo: int,
    hi: int,
    width: int,
    sums: NDArray[np.float64],
    kernel: Kernel,
    wide: bool,
    dtype: str | None,
) -> None:
    """Add to ``sums`` (rows, 3, new) the squares of a block's elements in columns [lo, hi) of its tensor, for the last ``new``
    checkpoints: of updates, of displacements from the first checkpoint, of the weights.

    The block's elements are a matrix ``width`` wide; ``sums`` begins with the row of the first of those in [lo, hi). ``kernel`` widens
    what is stored in several types, what is rounded, and short runs. ``wide``: which compiled library is in use.
    """
    native, at = library(wide), position(extent, lo)
    first = at // width

    def add(places: NDArray[np.int64], kind: int, count: int) -> None:
        nonlocal at
        line = sums[at // width - first :]
        total = len(places)
        native.rows[kind](
            places.ctypes.data, total, total - sums.shape[2], at % width, width, count, line.ctypes.data
        )  # fmt: skip
        at += count

    plain = len(rows) == 1 and is_exact(rows[0].dtype, dtype)
    if plain and (extent.outer == 1 or extent.stride == extent.length or extent.length >= SHORT):
        [group] = rows
        size = ITEMSIZE[group.dtype]
        for begin, end in runs_of(extent, lo, hi):
            add(row_addresses(group, (begin - lo) * size), FLOAT_TYPES.index(group.dtype), end - begin)
        return
    for values in kernel.widened(rows, extent, lo, hi):
        held = values if values.strides[1] == 8 else np.ascontiguousarray(values)
        places = held.ctypes.data + np.arange(len(held)) * held.strides[0]
        add(np.asarray(places, np.int64), FLOAT_TYPES.index("float64"), held.shape[1])
