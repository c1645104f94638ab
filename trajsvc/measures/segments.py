"""Segmentation of a sequence: costs of all its segments from a kernel or a curve, and the best cut for a price."""

from __future__ import annotations

from typing import Any

import numpy as np

from trajsvc.measures.base import Array


def without_lag(cosines: Array) -> Array:
    """The cosines less the mean of all with the same lag; the diagonal becomes 0."""
    count = len(cosines)
    lag = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    means = np.bincount(lag.ravel(), cosines.ravel()) / np.bincount(lag.ravel())
    return np.asarray(cosines - means[lag])


def scatter_cost(kernel: Array) -> Array:
    """Σ_t K_tt − (1/m) Σ_st K_st of every segment [a, b), m = b − a; 0 where it is empty."""
    sums = np.zeros((len(kernel) + 1, len(kernel) + 1))
    sums[1:, 1:] = kernel.cumsum(axis=0).cumsum(axis=1)
    corner = np.diag(sums)
    inside = corner[None, :] - sums - sums.T + corner[:, None]
    return _between(np.diag(kernel)) - inside / members(len(kernel))


def line_cost(x: Array, y: Array) -> Array:
    """Squared residuals of y about its least-squares line in x, for every segment [a, b)."""
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
    """Σ_{a ≤ t < b} v_t for every a, b (its negative where b < a)."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(total[None, :] - total[:, None])


def members(count: int) -> Array:
    """(n + 1, n + 1): the size b − a of every segment [a, b), 1 where it is empty."""
    size = np.subtract.outer(np.arange(count + 1), np.arange(count + 1)).T
    return np.maximum(size, 1).astype(np.float64)


def best_segments(costs: Array, price: float, shortest: int) -> list[int]:
    """Ends of the segments that minimise Σ costs[a, b] + ``price`` · (number of changes), each of ``shortest`` members at least.

    The last end is n, for ``costs`` of shape (n + 1, n + 1). The search is ``ruptures``' PELT with nothing pruned: a slack r is
    added to the cost of every member but the first of a segment, and to the price of a change, which moves every
    segmentation's total alike. Pruning would need costs that no cut raises, and misses optima where segments have a least length.
    """
    import ruptures
    from ruptures.base import BaseCost

    count = len(costs) - 1
    if count < 2 * shortest:
        return [count]
    slack = price + 2.0 * float(np.abs(costs).max())
    total = costs + slack * (members(count) - 1.0)

    class Tabled(BaseCost):  # type: ignore[misc]  # ruptures has no types
        """A cost whose every segment is known beforehand."""

        model = "tabled"
        min_size = shortest

        def fit(self, signal: Any) -> Tabled:
            self.signal = signal
            return self

        def error(self, start: int, end: int) -> float:
            return float(total[start, end])

    search = ruptures.Pelt(custom_cost=Tabled(), min_size=shortest, jump=1).fit(np.zeros((count, 1)))
    return [int(end) for end in search.predict(pen=price + slack)]
