"""Trajectory maps: the cosines between all pairs of points of a trajectory, and their mean.

Source: *Hallmarks* (Singh, He, Hofmann, Schölkopf, arXiv 2403.07379): trajectory map, relative trajectory map, mean directional
similarity (MDS).
"""

from __future__ import annotations

import numpy as np

from trajsvc.errors import NotFound
from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.geometry import mean_defined, one_minus_cosines_of


def trajectory_map(gram: GroupGram, origin: int | None = None) -> Array:
    """C_ij = cos(θ_i, θ_j), (T, T); with ``origin`` o, a step of the selection, C_ij = cos(θ_i − θ_o, θ_j − θ_o), the relative map.

    The point o is left out of a relative map: it is (T − 1, T − 1), its rows and columns the other steps in order. Rows and
    columns of a zero vector (θ_i = 0, or θ_i = θ_o) are NaN; the diagonal is 1 elsewhere. Unit: 1.

    Raises NotFound (``step-not-found``) when no checkpoint has the step ``origin``.

    >>> gram = GroupGram.of_points([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], steps=[0, 100, 200])
    >>> trajectory_map(gram).round(3)
    array([[1.   , 0.707, 0.   ],
           [0.707, 1.   , 0.707],
           [0.   , 0.707, 1.   ]])
    >>> trajectory_map(gram, origin=0).round(3)
    array([[1.   , 0.707],
           [0.707, 1.   ]])
    """
    return 1.0 - dissimilarity_map(gram, origin)


def dissimilarity_map(gram: GroupGram, origin: int | None = None) -> Array:
    """1 − ``trajectory_map``, with all its digits where points are nearly parallel. The same shapes and undefined entries."""
    if origin is None:
        return one_minus_cosines_of(gram)[1:, 1:]
    point = point_of(gram, origin)
    kept = np.delete(np.arange(len(gram.steps)), point) + 1
    return one_minus_cosines_of(gram, point + 1)[np.ix_(kept, kept)]


def mds(gram: GroupGram, origin: int | None = None) -> float:
    """Mean of all entries of the trajectory map, the diagonal included: ‖(1/T) Σ_t θ_t/‖θ_t‖‖². In [0, 1]; unit: 1.

    Zero vectors are left out of the mean; NaN when no point is defined. With ``origin``, the mean of the relative map.
    """
    return 1.0 - mean_defined(dissimilarity_map(gram, origin))


def relative_mds(gram: GroupGram, origin: int | None = None) -> float:
    """Mean of all entries of the relative trajectory map at ``origin``, by default the first step. In [0, 1]; unit: 1.

    Points equal to the origin are left out of the mean; NaN when there are no others.
    """
    return mds(gram, int(gram.steps[0]) if origin is None else origin)


def mds_by_length(gram: GroupGram, origin: int | None = None) -> float:
    """Length-weighted MDS, wᵀ C w / (Σ w)², with w_t half the length of the two updates beside point t (of the one at the ends).

    The mean of the map along the path instead of over the checkpoints that were kept: it hardly depends on how densely which part of
    training was saved, where ``mds`` does. In [0, 1]; unit: 1. Zero vectors are left out of both sums; NaN when the path has no
    length or no point is defined. With ``origin``, the same of the relative map, whose point o is left out. Source: trajsvc.
    """
    lengths = np.sqrt(np.maximum(np.diagonal(gram.gram)[1:], 0.0))
    weights = (np.append(lengths, 0.0) + np.insert(lengths, 0, 0.0)) / 2.0
    apart = dissimilarity_map(gram, origin)
    if origin is not None:
        weights = np.delete(weights, point_of(gram, origin))
    defined = ~np.isnan(np.diagonal(apart))
    w, total = weights[defined], float(weights[defined].sum())
    return 1.0 - float(w @ apart[np.ix_(defined, defined)] @ w) / total**2 if total > 0.0 else float("nan")


def relative_mds_by_length(gram: GroupGram, origin: int | None = None) -> float:
    """``mds_by_length`` of the relative trajectory map at ``origin``, by default the first step. In [0, 1]; unit: 1."""
    return mds_by_length(gram, int(gram.steps[0]) if origin is None else origin)


def point_of(gram: GroupGram, step: int) -> int:
    """Return the index of the checkpoint with the number ``step``. Raises NotFound (``step-not-found``)."""
    found = np.flatnonzero(gram.steps == step)
    if not found.size:
        nearest = gram.steps[np.argsort(np.abs(gram.steps - step), kind="stable")[:3]]
        raise NotFound(
            "step-not-found",
            f"{gram.group} has no step {step} among its {len(gram.steps)} checkpoints",
            hint=f"The nearest are {', '.join(str(s) for s in sorted(nearest.tolist()))}.",
        )
    return int(found[0])
