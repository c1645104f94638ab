"""Angles of a trajectory, in degrees: between successive updates, and of the cones it sweeps.

An angle with a zero vector is NaN. Angles come from 1 − cos without cancellation (``trajsvc.measures.geometry``), so that those
of 1e-6 degrees have as many digits as those of 60. Source: *Hallmarks* (arXiv 2403.07379).
"""

from __future__ import annotations

import numpy as np

from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.geometry import along_points, degrees, distances_of, one_minus_cosine, one_minus_cosine_of_basis
from trajsvc.measures.maps import dissimilarity_map


def update_angle(gram: GroupGram) -> Array:
    """∠(θ_{t+1} − θ_t, θ_t − θ_{t−1}) for t = 1 … T − 2, (T − 2), degrees. NaN where either update is zero.

    >>> update_angle(GroupGram.of_points([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    array([90.])
    """
    return degrees(np.diagonal(one_minus_cosine_of_basis(gram.gram[1:, 1:]), 1))


def apex_angle_init(gram: GroupGram) -> Array:
    """∠(θ_1 − θ_0, θ_t − θ_0) for t = 1 … T − 1, (T − 1), degrees: the cone with its vertex at the first checkpoint.

    The first entry is 0. All are NaN when θ_1 = θ_0; entry t is when θ_t = θ_0.
    """
    return degrees(_relative_to_first(gram)[:1].ravel())


def sweep_angle_init(gram: GroupGram) -> Array:
    """∠(θ_t − θ_0, θ_{t+1} − θ_0) for t = 1 … T − 2, (T − 2), degrees: what the last step added to the sweep seen from θ_0."""
    return degrees(np.diagonal(_relative_to_first(gram), 1))


def apex_angle_origin(gram: GroupGram) -> Array:
    """∠(θ_0, θ_t) for t = 1 … T − 1, (T − 1), degrees: the cone with its vertex at the zero vector."""
    return degrees(dissimilarity_map(gram)[0, 1:])


def sweep_angle_origin(gram: GroupGram) -> Array:
    """∠(θ_t, θ_{t+1}) for t = 0 … T − 2, (T − 1), degrees: the sweep seen from the zero vector."""
    return degrees(np.diagonal(dissimilarity_map(gram), 1))


def update_location_angle(gram: GroupGram) -> Array:
    """∠(θ_{t+1} − θ_t, θ_t) for t = 0 … T − 2, (T − 1), degrees: whether an update leads away from the zero vector or to it.

    NaN where the update or θ_t is zero. Source: *Hallmarks* (arXiv 2403.07379), appendix E.
    """
    updates, points = np.diagonal(gram.gram)[1:], distances_of(gram)[0, 1:-1]
    along = along_points(gram)
    apart = updates + points - 2.0 * along
    return degrees(one_minus_cosine(updates, points, along, apart, updates - points))


def _relative_to_first(gram: GroupGram) -> Array:
    return dissimilarity_map(gram, int(gram.steps[0]))
