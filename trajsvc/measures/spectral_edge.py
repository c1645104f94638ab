"""The spectral edge: how many directions the latest updates share, and when those directions turn.

The updates in a rolling window are the rows of a matrix; its singular values σ_1 ≥ σ_2 ≥ … and right singular vectors v_1, v_2, …
come from the eigenvalues of the window's Gram, so they are those of the parameters. Nothing is centred. float64 throughout; a
singular value is off by up to 1e-15 σ_1² / σ, so that one below 1e-4 σ_1 is known to less than 1e-7 of itself and counts as 0.

A value belongs to the update at which its window ends: (T − 1), NaN until the first window is full. A run of fewer updates than
the window has one window, of all of them. NaN where a window holds an undefined update.

A gap (a large ratio σ_k/σ_{k+1}) is no warning of grokking by itself: in the experiment ``e1`` it opens in every control that never
groks, and in no run that groks before test accuracy has made half of its rise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.geometry import degrees

WINDOW = 10
RESOLVED = 1e-4
"""the least singular value that counts, as a share of the largest"""


@dataclass(frozen=True)
class _Window:
    """The updates ``first`` … ``last`` (counted from 0) with a positive length of their own."""

    first: int
    last: int
    values: Array
    """those that count, descending, (r)"""
    left: Array
    """left singular vectors, (w, r)"""

    @property
    def rank(self) -> int:
        """The k of the largest σ_k/σ_{k+1}; 0 where fewer than two singular values count."""
        return int(np.argmax(self.values[:-1] / self.values[1:])) + 1 if len(self.values) > 1 else 0


def spectral_edge(gram: GroupGram, window: int = WINDOW) -> Array:
    """Largest ratio σ_k/σ_{k+1} of neighbouring singular values of the last ``window`` updates, (T − 1); unit: 1.

    NaN where fewer than two singular values count. Raises ValueError for a window below 2.

    >>> points = [[0.0, 0.0], [3.0, 0.0], [3.0, 1.0]]
    >>> round(float(spectral_edge(GroupGram.of_points(points))[-1]), 6)
    3.0
    """
    return _each(gram, window, lambda w: float(w.values[w.rank - 1] / w.values[w.rank]) if w.rank else float("nan"))


def spectral_edge_rank(gram: GroupGram, window: int = WINDOW) -> Array:
    """Count the singular values above the spectral edge, its k: directions that stand out in the last ``window`` updates.

    (T − 1); unit: 1.
    """
    return _each(gram, window, lambda w: float(w.rank) if w.rank else float("nan"))


def leading_share(gram: GroupGram, window: int = WINDOW) -> Array:
    """σ_1²/Σσ² of the last ``window`` updates, (T − 1), 1/w … 1; unit: 1. NaN where none of them moved."""
    return _each(
        gram, window, lambda w: float(w.values[0] ** 2 / (w.values**2).sum()) if len(w.values) else float("nan")
    )


def leading_residual(gram: GroupGram, window: int = WINDOW) -> Array:
    """‖U − (U·v_1) v_1‖ / ‖U‖ of the newest update of a window, v_1 its leading direction, (T − 1), 0 … 1; unit: 1.

    With U = Σ_k σ_k u_k v_k, u its row of the left singular vectors: sqrt(Σ_{k>1} σ_k² u_k² / Σ_k σ_k² u_k²). NaN for a zero
    update.
    """

    def residual(w: _Window) -> float:
        parts = (w.values * w.left[-1]) ** 2
        zero = not gram.gram[w.last + 1, w.last + 1] > 0.0
        return float("nan") if zero or not len(parts) else float(np.sqrt(parts[1:].sum() / parts.sum()))

    return _each(gram, window, residual)


def subspace_angle(gram: GroupGram, window: int = WINDOW) -> Array:
    """Largest principal angle between the leading subspaces of a window of updates and of the window before, (T − 1).

    Unit: degree. Both have the k dimensions that ``spectral_edge_rank`` gives for the later window. With the Gram K between
    the two windows, their bases V = Σ⁻¹WᵀU have the inner products M = Σ_a⁻¹ W_aᵀ K W_b Σ_b⁻¹, whose smallest singular value
    is the cosine of the angle; an angle below 1e-5 degrees is not resolved. NaN in the first window, and where a window has
    fewer than k directions.
    """
    updates = gram.gram[1:, 1:]
    found = np.full(len(updates), np.nan)
    before: _Window | None = None
    for w in _windows(gram, window):
        k = w.rank
        if before is not None and before.last == w.last - 1 and 0 < k <= len(before.values):
            between = updates[before.first : before.last + 1, w.first : w.last + 1]
            a, b = before.left[:, :k] / before.values[:k], w.left[:, :k] / w.values[:k]
            cosine = np.linalg.svd(a.T @ between @ b, compute_uv=False)[-1]
            found[w.last] = float(degrees(np.asarray(max(1.0 - cosine, 0.0))))
        before = w
    return found


def _each(gram: GroupGram, window: int, value: Callable[[_Window], float]) -> Array:
    found = np.full(max(len(gram.steps) - 1, 0), np.nan)
    for w in _windows(gram, window):
        found[w.last] = value(w)
    return found


def _windows(gram: GroupGram, window: int) -> Iterator[_Window]:
    if window < 2:
        raise ValueError(f"a window holds at least two updates, not {window}")
    updates = gram.gram[1:, 1:]
    size = min(window, len(updates))
    for last in range(size - 1, len(updates)) if size else ():
        first = last - size + 1
        part = updates[first : last + 1, first : last + 1]
        if not np.isfinite(part).all():
            continue
        values, vectors = np.linalg.eigh(part)
        sigma = np.sqrt(np.maximum(values[::-1], 0.0))
        kept = sigma > RESOLVED * sigma[0]
        yield _Window(first, last, sigma[kept], vectors[:, ::-1][:, kept])
