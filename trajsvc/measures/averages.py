"""Averages of checkpoints, from the Gram alone: what a window of the last ones, or any weights, would give.

With θ̄ = Σ_t w_t θ_t, Σ_t w_t = 1, all differences are sums of updates: θ̄ − θ_{T−1} has the coefficient −Σ_{t<k} w_t at U_k, so that nothing
large is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trajsvc.measures.base import Array, GroupGram, certain
from trajsvc.measures.trees import Tree, path


@dataclass(frozen=True)
class Average:
    """What one average of checkpoints is: lengths in units of the parameters, NaN where undefined."""

    distance: float
    """‖θ̄ − θ_{T−1}‖"""
    variance_removed: float
    """Σ_t w_t ‖θ_t − θ̄‖² / Σ_t w_t ‖θ_t − θ_0‖²: the share of the averaged points' mean squared displacement that lies off their mean"""
    norm: float
    """‖θ̄‖"""


def average_of(gram: GroupGram, weights: Array) -> Average:
    """Describe the average of a group's points with ``weights``, (T,), which sum to 1.

    ``variance_removed`` is NaN where no averaged point has left θ_0, and where weights are negative. float64, certified as
    all lengths are (``certain``).
    """
    parts = [(tree, _stations(tree, gram)) for tree in gram.trees or (path(gram.gram),)]
    used = np.flatnonzero(weights)
    means = [
        weights @ (points - points[-1]) for _, points in parts
    ]  # about the last point: what all share is exactly 0
    last = _lengths(gram, [(t, m[None]) for (t, _), m in zip(parts, means, strict=True)])
    size = _lengths(gram, [(t, (p[-1] + m)[None]) for (t, p), m in zip(parts, means, strict=True)])
    off = _lengths(gram, [(t, p[used] - p[-1] - m) for (t, p), m in zip(parts, means, strict=True)])
    away = _lengths(gram, [(t, p[used] - p[0]) for t, p in parts])
    spread, moved = float(weights[used] @ off), float(weights[used] @ away)
    removed = spread / moved if moved > 0.0 and (weights >= 0.0).all() else float("nan")
    unit = gram.unit
    return Average(float(unit * np.sqrt(last[0])), removed, float(unit * np.sqrt(size[0])))


def average_distance(gram: GroupGram) -> Array:
    """‖mean(θ_t … θ_{T−1}) − θ_{T−1}‖, (T): how far the mean of the checkpoints from t on lies from the last; unit: parameter.

    0 at the last checkpoint.
    """
    return np.array([each.distance for each in _windows(gram)])


def average_variance_removed(gram: GroupGram) -> Array:
    """Share of the checkpoints' mean squared distance from θ_0 that their mean from t on leaves out, (T), in [0, 1]; unit: 1.

    With n = T − t points and mean θ̄: Σ‖θ_s − θ̄‖² / Σ‖θ_s − θ_0‖², s = t … T − 1. 0 for one point; NaN where none has left θ_0.
    """
    return np.array([each.variance_removed for each in _windows(gram)])


def average_norm(gram: GroupGram) -> Array:
    """‖mean(θ_t … θ_{T−1})‖, (T): the norm of the mean of the checkpoints from t on; unit: parameter."""
    return np.array([each.norm for each in _windows(gram)])


def last_weights(count: int, last: int) -> Array:
    """Return equal weights of the ``last`` of ``count`` checkpoints, (T,). Raises ValueError unless 1 ≤ last ≤ count.

    >>> last_weights(4, 2)
    array([0. , 0. , 0.5, 0.5])
    """
    if not 1 <= last <= count:
        raise ValueError(f"between 1 and {count} checkpoints can be averaged, not {last}")
    return np.where(np.arange(count) >= count - last, 1.0 / last, 0.0)


def ema_weights(count: int, decay: float) -> Array:
    """Return the weights of an exponential moving average, (T,): w_t = (1 − d) d^{T−1−t}, and d^{T−1} of the first.

    That is e_t = d e_{t−1} + (1 − d) θ_t from e_0 = θ_0. Raises ValueError unless 0 ≤ d < 1.

    >>> ema_weights(3, 0.5)
    array([0.25, 0.25, 0.5 ])
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"a decay is at least 0 and below 1, not {decay}")
    back = np.arange(count - 1, -1, -1, dtype=np.float64)
    weights = (1.0 - decay) * decay**back
    weights[0] = decay ** float(count - 1)
    return weights


def _windows(gram: GroupGram) -> list[Average]:
    count = len(gram.steps)
    return [average_of(gram, last_weights(count, count - t)) for t in range(count)]


def _stations(tree: Tree, gram: GroupGram) -> Array:
    """Return the group's points as sums of the tree's legs, (T, legs)."""
    at = gram.at if gram.trees else np.arange(len(gram.steps))
    return tree.coefficients[at + 1]


def _lengths(gram: GroupGram, sums: list[tuple[Tree, Array]]) -> Array:
    """Squared lengths of sums of legs, added over the trees."""
    values, terms = zip(*(tree.squares(rows) for tree, rows in sums), strict=True)
    return certain(np.asarray(sum(values)), np.asarray(sum(terms)), gram.error)
