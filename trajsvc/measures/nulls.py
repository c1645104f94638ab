"""Null models: a random walk, the rounding of the stored type; and counts of undefined points.

Source of the random walk: *Hallmarks* (arXiv 2403.07379), appendix C. The noise floor is the arithmetic of rounding: a value stored
with spacing ulp is off by a variance of ulp²/12.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.geometry import distances_of, mean_defined, zero_updates
from trajsvc.measures.maps import dissimilarity_map, point_of
from trajsvc.measures.norms import update_norm


def random_walk(gram: GroupGram, relative: bool = True) -> Array:
    """Compute the trajectory map expected of a random walk with the same update norms, in high dimension; unit: 1.

    Updates of independent directions are orthogonal there, so with S_t = Σ_{k ≤ t} U_k,

        E⟨S_s, S_t⟩ = m_min(s,t),  m_t = Σ_{k ≤ t} ‖U_k‖²,   C_st = sqrt(m_min(s,t) / m_max(s,t)).

    (T − 1, T − 1): the relative map at the first step. With ``relative=False`` the walk starts at θ_0 instead of at zero,
    m_t gains ‖θ_0‖², and the map is (T, T). NaN while m_t is 0.
    """
    squares = np.maximum(np.diagonal(gram.gram), 0.0)
    travelled = np.cumsum(squares[1:] if relative else squares)
    less, more = np.minimum.outer(travelled, travelled), np.maximum.outer(travelled, travelled)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(less > 0.0, np.sqrt(less / more), np.nan)


def random_walk_mds(gram: GroupGram, relative: bool = True) -> float:
    """Mean of all defined entries of ``random_walk``: what ``relative_mds`` (or, not relative, ``mds``) is compared to; unit: 1."""
    return mean_defined(random_walk(gram, relative))


def noise_floor(gram: GroupGram) -> Array:
    """sqrt(r_t + r_{t+1}) / ‖θ_{t+1} − θ_t‖ for t = 0 … T − 2, (T − 1), r_t the expected squared norm of the rounding of θ_t; unit: 1.

    The share of every update that rounding of the stored type can explain. Rounding alone gives 1; an update far above the
    spacing of stored values is near 0, and above 1 the update is smaller than rounding would make it: most values did not
    move. NaN for a zero update and where the rounding is unknown.
    """
    norms = update_norm(gram)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norms > 0.0, _rounding_norm(gram) / norms, np.nan)


def below_floor(gram: GroupGram, share: float = 1.0) -> NDArray[np.bool_]:
    """Return which updates rounding could explain, ‖U‖ · ``share`` ≤ sqrt(r_t + r_{t+1}), (T − 1,).

    A zero update of values that have a rounding is one of them: a move of less than half a spacing is stored as no
    move. If the rounding is unknown or zero (all values 0), no update is.
    """
    floor = _rounding_norm(gram)
    return np.asarray((floor > 0.0) & (update_norm(gram) * share <= floor))


def below_floor_map(gram: GroupGram, origin: int | None = None) -> NDArray[np.bool_]:
    """Return which entries of ``trajectory_map(gram, origin)`` rest on a difference that rounding could explain; the
    same shape.

    Without an origin 1 − C_ij is a function of θ_i − θ_j, which is compared with sqrt(r_i + r_j), i ≠ j; with one, C_ij of
    θ_i − θ_o and θ_j − θ_o, and both are. Raises NotFound (``step-not-found``).
    """
    distance = distances_of(gram)[1:, 1:]
    floor = np.add.outer(gram.rounding, gram.rounding)
    noise = (floor > 0.0) & (distance <= floor)
    if origin is None:
        np.fill_diagonal(noise, False)
        return np.asarray(noise)
    point = point_of(gram, origin)
    doubtful = np.delete(noise[point], point)
    return np.asarray(np.logical_or.outer(doubtful, doubtful), dtype=np.bool_)


def undefined(gram: GroupGram) -> dict[str, int]:
    """Count what is undefined.

    ``points`` are θ_t = 0, ``updates`` U_t = 0, ``relative_points`` θ_t = θ_0 with t > 0; ``map_cells`` are undefined
    cells of the trajectory map, whose other cells ``mds`` averages, and ``relative_map_cells`` those of the relative
    map at the first step.
    """
    squares = distances_of(gram)
    return {
        "points": int((squares[0, 1:] == 0.0).sum()),
        "updates": int(zero_updates(gram.gram).sum()),
        "relative_points": int((squares[1, 2:] == 0.0).sum()),
        "map_cells": int(np.isnan(dissimilarity_map(gram)).sum()),
        "relative_map_cells": int(np.isnan(dissimilarity_map(gram, int(gram.steps[0]))).sum()),
    }


def _rounding_norm(gram: GroupGram) -> Array:
    return np.asarray(gram.unit * np.sqrt(gram.rounding[:-1] + gram.rounding[1:]))
