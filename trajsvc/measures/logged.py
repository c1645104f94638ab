"""What a trainer logged, at the checkpoints, and how it goes with a measure. Everything is float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import Array

LEAST_PAIRS = 3
MOST_LAGS = 10


@dataclass(frozen=True)
class Lagged:
    """Correlations of two curves at lags −K … K, NaN where fewer than three pairs or no spread; ``pairs`` counts them."""

    lag: NDArray[np.int64]
    value: Array
    pairs: NDArray[np.int64]


def at_checkpoints(
    steps: NDArray[np.int64], logged_steps: Sequence[int], values: Sequence[float]
) -> tuple[Array, NDArray[np.bool_]]:
    """Return a logged quantity at the checkpoints' steps, (T), and where it was logged at that very step, (T).

    Between two entries of the log it is interpolated linearly in the step; before the first and after the last it is NaN.

    >>> at_checkpoints(np.array([0, 10, 15, 30]), [10, 20], [4.0, 2.0])[0]
    array([nan,  4.,  3., nan])
    """
    known = np.asarray(logged_steps, dtype=np.int64)
    found = np.interp(steps, known, np.asarray(values, dtype=np.float64), left=np.nan, right=np.nan)
    return found, np.isin(steps, known)


def lagged_correlation(first: Array, second: Array, most: int = MOST_LAGS) -> Lagged:
    """Pearson's r of first_t and second_{t+k} over the checkpoints at which both are defined, for k = −K … K; unit: 1.

    Both are (T); lags count checkpoints, K is ``most`` or what leaves three pairs. A positive lag: the second follows the first.
    Neighbouring checkpoints are not independent, so an r that n independent pairs would make significant need not be.
    """
    count = len(first)
    reach = max(0, min(most, count - LEAST_PAIRS))
    lags = np.arange(-reach, reach + 1)
    values, pairs = np.full(len(lags), np.nan), np.zeros(len(lags), np.int64)
    for i, k in enumerate(lags.tolist()):
        a, b = (first[: count - k], second[k:]) if k >= 0 else (first[-k:], second[: count + k])
        both = np.isfinite(a) & np.isfinite(b)
        pairs[i] = int(both.sum())
        values[i] = _pearson(a[both], b[both])
    return Lagged(lags, values, pairs)


def _pearson(a: Array, b: Array) -> float:
    if len(a) < LEAST_PAIRS:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / spread, -1.0, 1.0)) if spread > 0.0 else float("nan")
