"""Divide a sequence into segments: costs of all its segments from a kernel or a curve, and the best division for a
price a change.
"""

from __future__ import annotations

import numpy as np

from trajsvc.measures.base import Array


def without_lag(cosines: Array) -> Array:
    """Subtract from each cosine the mean of all with the same lag; the diagonal becomes 0."""
    count = len(cosines)
    lag = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    means = np.bincount(lag.ravel(), cosines.ravel()) / np.bincount(lag.ravel())
    return np.asarray(cosines - means[lag])


def scatter_cost(kernel: Array) -> Array:
    """Compute Σ_t K_tt − (1/m) Σ_st K_st of every segment [a, b), m = b − a; 0 where it is empty."""
    sums = np.zeros((len(kernel) + 1, len(kernel) + 1))
    sums[1:, 1:] = kernel.cumsum(axis=0).cumsum(axis=1)
    corner = np.diag(sums)
    inside = corner[None, :] - sums - sums.T + corner[:, None]
    return _between(np.diag(kernel)) - inside / members(len(kernel))


def line_cost(x: Array, y: Array) -> Array:
    """Compute the squared residuals of y about its least-squares line in x, for every segment [a, b)."""
    x, y = x - x.mean(), y - y.mean()
    size = members(len(x))
    sx, sy = _between(x), _between(y)
    xx, xy, yy = (
        _between(x * x) - sx**2 / size,
        _between(x * y) - sx * sy / size,
        _between(y * y) - sy**2 / size,
    )
    return np.asarray(np.maximum(yy - xy**2 / np.where(xx > 0.0, xx, 1.0), 0.0))


def _between(values: Array) -> Array:
    """Compute Σ_{a ≤ t < b} v_t for every a, b (its negative where b < a)."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(total[None, :] - total[:, None])


def members(count: int) -> Array:
    """Return the size b − a of every segment [a, b), 1 where it is empty, (n + 1, n + 1)."""
    size = np.subtract.outer(np.arange(count + 1), np.arange(count + 1)).T
    return np.maximum(size, 1).astype(np.float64)


def best_segments(costs: Array, price: float, shortest: int) -> list[int]:
    """Find the segments that minimise Σ costs[a, b] + ``price`` · (number of changes), each of at least ``shortest``
    members; return their ends.

    The last end is n, for ``costs`` of shape (n + 1, n + 1). Optimal partitioning (Jackson et al. 2005): the best
    division of the first b members ends with some segment [a, b), preceded by the best division of the first a. Exact,
    n² / 2 sums.
    """
    count = len(costs) - 1
    if count < 2 * shortest:
        return [count]
    best = np.full(count + 1, np.inf)
    best[0] = -price
    start_of = np.zeros(count + 1, dtype=np.int64)
    for end in range(shortest, count + 1):
        totals = best[: end - shortest + 1] + costs[: end - shortest + 1, end] + price
        start_of[end] = int(np.argmin(totals))
        best[end] = totals[start_of[end]]
    ends = [count]
    while start_of[ends[-1]] > 0:
        ends.append(int(start_of[ends[-1]]))
    return ends[::-1]
