"""Sums of inner products: one for every pair of rows, with the digits that additions lose.

A *pair* is (i, j), j ≤ i, for the last ``new`` rows i, in the order of i and then of j. A sum is two numbers: itself,
and what all its additions lost. Together they are good to twice the digits, so that a total rounded to float64 does not
depend on the order of its parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pair_count(rows: int, new: int) -> int:
    """Return the number of pairs of the last ``new`` of ``rows`` rows with the rows up to them."""
    return new * (2 * rows - new + 1) // 2


def pair_indices(rows: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (i, j) of every pair, in order."""
    i, j = np.tril_indices(rows)
    first = len(i) - pair_count(rows, new)
    return i[first:].astype(np.int64), j[first:].astype(np.int64)


def matrices(values: NDArray[np.float64], rows: int, new: int) -> NDArray[np.float64]:
    """Build (…, new, T) symmetric matrices, or their last rows, from values of their pairs (…, pairs)."""
    i, j = pair_indices(rows, new)
    found = np.empty((*values.shape[:-1], new, rows))
    old = rows - new
    found[..., i - old, j] = values
    mirrored = j >= old
    found[..., j[mirrored] - old, i[mirrored]] = values[..., mirrored]
    return found


def add_exactly(
    sums: NDArray[np.float64], values: NDArray[np.float64], lost: NDArray[np.float64] | None = None
) -> None:
    """Add ``values`` (pairs), and what they lost themselves, to ``sums`` (2, pairs) in place (two-sum, Knuth 1969)."""
    with np.errstate(invalid="ignore", over="ignore"):  # what overflowed is noticed later
        before = sums[0].copy()
        after = before + values
        gained = after - before
        sums[1] += (before - (after - gained)) + (values - gained)
        if lost is not None:
            sums[1] += lost
        sums[0] = after
