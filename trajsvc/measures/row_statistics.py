"""Numbers of the rows (neurons) of a group's matrices, one a checkpoint: made of the rows' norms when they are first asked for.

Squared norms are summed in float64 in the pass that multiplies (``trajsvc.gram.kernels.rows``). What is known of an update is known between
successive stored checkpoints only: where a selection leaves out a checkpoint between two others, its numbers are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UPDATE, DISPLACEMENT, WEIGHTS = range(3)
"""What the squared norms of a row are of."""
TOP: Final = 20
"""The rows that move most are one in so many: 5 %."""
SPREAD: Final = (5.0, 95.0)
"""Percentiles between which the rows' angles are called spread."""

COLUMNS: Final = ("top_share", "participation", "still", "never", "angle", "spread", "overlap", "chance")
AFTER_ONE: Final = 6
"""Columns of an update; those after them compare it with the one before."""


@dataclass(frozen=True, eq=False)
class RowStatistics:
    """The numbers of ``COLUMNS`` at stored checkpoints ``at`` (all of them where it is None)."""

    load: Callable[[], Array | None]
    """(T, columns) of all stored checkpoints; None where rows were not counted"""
    at: NDArray[np.int64] | None = None

    @classmethod
    def lazy(cls, load: Callable[[], Array | None]) -> RowStatistics:
        """Return statistics that ``load`` computes once."""
        return cls(cache(load))

    def select(self, index: NDArray[np.int64]) -> RowStatistics:
        return replace(self, at=index if self.at is None else self.at[index])

    def columns(self) -> Array | None:
        """Return the numbers, (selected checkpoints, columns), NaN beside a checkpoint that was left out."""
        found = self.load()
        if found is None or self.at is None:
            return found
        follows = np.append(False, np.diff(self.at) == 1)
        twice = follows & np.append(False, follows[:-1])
        known = np.where(np.arange(len(COLUMNS)) < AFTER_ONE, follows[:, None], twice[:, None])
        return np.where(known, found[self.at], np.nan)


def statistics_of(norms: Array) -> Array:
    """Compute the numbers of ``COLUMNS`` at every checkpoint, (T, columns), from squared norms (rows, 3, T).

    NaN at the first checkpoint, where an update is not finite, and everywhere if there are no rows.
    """
    rows, _, total = norms.shape
    found = np.full((total, len(COLUMNS)), np.nan)
    moved, before = np.zeros(rows, bool), None
    for t in range(1, total if rows else 0):
        energy = norms[:, UPDATE, t]
        if not np.isfinite(energy).all():
            moved, before = moved | ~(energy == 0.0), None
            continue
        moved |= energy > 0.0
        top = largest(energy)
        angles = angles_of(norms[:, WEIGHTS, t - 1], norms[:, WEIGHTS, t], energy)
        angles = angles[np.isfinite(angles)]
        found[t, :AFTER_ONE] = [
            *_concentration(energy, top),
            np.count_nonzero(energy == 0.0) / rows,
            np.count_nonzero(~moved) / rows,
            np.median(angles) if angles.size else np.nan,
            np.subtract(*np.percentile(angles, SPREAD[::-1])) if angles.size else np.nan,
        ]
        if before is not None:
            found[t, AFTER_ONE:] = _overlap(before, top)
        before = top
    return found


def largest(energy: Array) -> NDArray[np.bool_]:
    """Mark the ``TOP``-th part of the rows with the largest update, (rows); those that did not move are not among them."""
    count = math.ceil(len(energy) / TOP)
    order = np.argsort(-energy, kind="stable")[:count]
    marked = np.zeros(len(energy), bool)
    marked[order] = energy[order] > 0.0
    return marked


def angles_of(before: Array, after: Array, update: Array) -> Array:
    """Compute the angle in degrees between rows of squared norms ``before`` and ``after`` whose difference has that of ``update``.

    From the difference, so that small angles keep their digits; NaN where either is zero.
    """
    a, b = np.sqrt(before), np.sqrt(after)
    with np.errstate(divide="ignore", invalid="ignore"):
        sine = np.sqrt(np.clip((update - (a - b) ** 2) / (4.0 * a * b), 0.0, 1.0))
    return np.asarray(np.degrees(2.0 * np.arcsin(sine)))


def _concentration(energy: Array, top: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the share of the update's squared norm in the top rows, and the participation ratio as a share of the rows."""
    scaled = energy / energy.max() if energy.any() else energy
    total = float(scaled.sum())
    if not total:
        return math.nan, math.nan
    return float(scaled[top].sum()) / total, total * total / (len(scaled) * float((scaled * scaled).sum()))


def _overlap(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, float]:
    """Return |A ∩ B| / |A ∪ B| of two sets of rows, and what it is of random sets of their sizes, about."""
    either = np.count_nonzero(before | after)
    if not either:
        return math.nan, math.nan
    p, q = np.count_nonzero(before) / len(before), np.count_nonzero(after) / len(after)
    return np.count_nonzero(before & after) / either, p * q / (p + q - p * q)
