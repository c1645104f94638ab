"""Inner products in another basis than that of the updates: the legs of a tree (``trajsvc.measures.trees``).

For the few blocks whose digits are lost in the update basis. Values are widened by the kernel of the
device, moved by a power of two, and multiplied by BLAS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.kernels.base import Kernel, RowGroup
from trajsvc.gram.kernels.values import hold
from trajsvc.gram.pairs import add_exactly, pair_indices

SMALLEST: Final = 2.0**-480
"""Values below this have squares that float64 does not hold with all their digits."""
MARK: Final = 2.0**-1000
"""Added to the squared length of a leg that has only such values, so that it is not taken for zero."""


class TreeKernel:
    """Multiplies legs: values times 2^``exponent``, less those of the row at which the leg begins."""

    def __init__(self, inner: Kernel, starts: Sequence[int], exponent: int) -> None:
        self._inner, self._factor = inner, 2.0**exponent
        start = np.asarray(starts, dtype=np.int64)
        self._legs, self._from = np.flatnonzero(start), start[start > 0] - 1
        self._rows, self._columns = pair_indices(len(start), len(start))
        self._squares = np.flatnonzero(self._rows == self._columns)

    def multiply(
        self,
        rows: Sequence[RowGroup],
        extent: Extent,
        lo: int,
        hi: int,
        sums: NDArray[np.float64],
        nonfinite: NDArray[np.int64],
    ) -> int:
        seen = 0
        for values in self.widened(rows, extent, lo, hi):
            if not np.isfinite(values).all():
                nonfinite += hold(values)
            values *= self._factor
            legs = values.copy()
            legs[self._legs] -= values[self._from]
            products = (legs @ legs.T)[self._rows, self._columns]
            largest = np.abs(legs).max(axis=1, initial=0.0)
            products[self._squares[(largest > 0.0) & (largest < SMALLEST)]] += MARK
            add_exactly(sums, products)
            seen += values.shape[1]
        return seen

    def widened(self, rows: Sequence[RowGroup], extent: Extent, lo: int, hi: int) -> Iterator[NDArray[np.float64]]:
        return self._inner.widened(rows, extent, lo, hi)


@dataclass(frozen=True)
class TreeFactory:
    """Makes kernels, in this process or in another."""

    inner: Callable[[], Kernel]
    starts: tuple[int, ...]
    exponent: int = 0

    def __call__(self) -> Kernel:
        return TreeKernel(self.inner(), self.starts, self.exponent)
