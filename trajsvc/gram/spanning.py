"""Choose the tree of differences along which the points of a block are reached (``trajsvc.measures.trees``).

Its *stretch* at two stations is the length of the way between them along the tree, over their distance: digits of their difference are lost
with its square. A tree is grown in the order of the checkpoints; each point is reached from the station that keeps the largest stretch
least.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Starts = NDArray[np.int64]

RESOLUTION: Final = 2.0**-24
"""Distances smaller than this share of the norms are lost in inner products of points."""
NEIGHBOUR: Final = 1.5
"""The point before is taken where another station is not better by this factor."""
ROUNDABOUT: Final = 4.0
"""A point whose way from zero is longer than this times its norm is reached from zero, if that leaves no stretch above ``SHARED``;
otherwise points that keep shrinking would be reached by an ever longer way from zero."""
SHARED: Final = 64.0
"""A tree serves another block where its stretch there is no larger."""


def distances(points: Array) -> Array:
    """Compute distances between the zero vector and all points, (T + 1, T + 1), from the points' inner products (T, T),
    to ``RESOLUTION``.
    """
    squares = np.concatenate([[0.0], np.diagonal(points)])
    inner = np.pad(points, ((1, 0), (1, 0)))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = squares[:, None] + squares[None, :] - 2.0 * inner
        least = RESOLUTION**2 * np.maximum(squares[:, None], squares[None, :])
        found = np.sqrt(np.maximum(apart, least))
    unknown = ~np.isfinite(squares)
    found[unknown] = found[:, unknown] = np.inf
    np.fill_diagonal(found, 0.0)
    return np.where(np.isfinite(found), found, np.inf)


def grown(apart: Array) -> Starts:
    """Choose the station at which the leg to every point begins, (T,), from distances (T + 1, T + 1)."""
    along = np.zeros_like(apart)
    starts = np.zeros(len(apart) - 1, dtype=np.int64)
    for leg in range(len(starts)):
        here = slice(0, leg + 1)
        ways = along[here, here] + apart[here, leg + 1, None]
        worst = _stretch(ways, apart[None, here, leg + 1]).max(axis=1)
        start = leg if worst[leg] <= NEIGHBOUR * worst.min() else int(worst.argmin())
        far = along[start, 0] + apart[start, leg + 1] > ROUNDABOUT * apart[0, leg + 1]
        starts[leg] = start if np.isfinite(worst[start]) and not (far and worst[0] <= SHARED) else 0
        _extend(along, apart, leg, int(starts[leg]))
    return starts


def stretch(starts: Starts, apart: Array) -> float:
    """Return the largest stretch of a tree where distances are ``apart``."""
    along = np.zeros_like(apart)
    for leg, start in enumerate(starts.tolist()):
        _extend(along, apart, leg, start)
    return float(_stretch(along, apart).max())


def shared(apart: Sequence[Array]) -> list[tuple[Starts, list[int]]]:
    """Choose few trees for several blocks: each with the indices of the blocks that it serves."""
    left = list(range(len(apart)))
    found = []
    while left:
        starts = grown(apart[left[0]])
        served = [left[0], *(b for b in left[1:] if stretch(starts, apart[b]) <= SHARED)]
        found.append((starts, served))
        left = [b for b in left if b not in served]
    return found


def _extend(along: Array, apart: Array, leg: int, start: int) -> None:
    here = slice(0, leg + 1)
    along[here, leg + 1] = along[leg + 1, here] = along[start, here] + apart[start, leg + 1]


def _stretch(ways: Array, apart: Array) -> Array:
    """Divide ``ways`` by ``apart``; 1 where both are 0, 0 where the distance is not known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = ways / apart
    ratio = np.where((ways == 0.0) & (apart == 0.0), 1.0, ratio)
    return np.where(np.isinf(apart), 0.0, np.where(np.isnan(ratio), np.inf, ratio))
