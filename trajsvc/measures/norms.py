"""Lengths of a trajectory: norms, distances, path length, settling step. Unit: that of the parameters.

The norm of a zero vector is 0; what divides by it is NaN. Source: *Hallmarks* (arXiv 2403.07379) for norms and distances along
the trajectory; path length over displacement is the usual tortuosity of a path.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.geometry import distances_of
from trajsvc.measures.maps import trajectory_map

SETTLED = 0.9


def norm(gram: GroupGram) -> Array:
    """‖θ_t‖, (T)."""
    return gram.unit * np.sqrt(distances_of(gram)[0, 1:])


def distance_from_init(gram: GroupGram) -> Array:
    """‖θ_t − θ_0‖, (T); the first is 0."""
    return gram.unit * np.sqrt(distances_of(gram)[1, 1:])


def update_norm(gram: GroupGram) -> Array:
    """‖θ_{t+1} − θ_t‖ for t = 0 … T − 2, (T − 1)."""
    return np.asarray(gram.unit * np.sqrt(np.maximum(np.diagonal(gram.gram)[1:], 0.0)))


def update_ratio(gram: GroupGram) -> Array:
    """‖θ_{t+1} − θ_t‖ / ‖θ_t‖ for t = 0 … T − 2, (T − 1); unit: 1. NaN where θ_t is zero. Source: common usage."""
    before = norm(gram)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0.0, update_norm(gram) / before, np.nan)


def update_rms(gram: GroupGram) -> Array:
    """‖θ_{t+1} − θ_t‖ / √P per step of training between the two, (T − 1), for P parameters; unit: that of the parameters.

    The root mean square change of a parameter in one step of training. Source: common usage.
    """
    return np.asarray(update_norm(gram) / (np.sqrt(float(gram.parameters)) * np.diff(gram.steps)))


def path_length(gram: GroupGram) -> float:
    """Σ_t ‖θ_{t+1} − θ_t‖ over the checkpoints of the selection; 0 for a single checkpoint."""
    return float(update_norm(gram).sum())


def tortuosity(gram: GroupGram) -> float:
    """Path length over displacement, Σ_t ‖θ_{t+1} − θ_t‖ / ‖θ_{T−1} − θ_0‖, at least 1; unit: 1.

    NaN where the trajectory ends where it began, as it does with one checkpoint.

    >>> round(tortuosity(GroupGram.of_points([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])), 4)
    1.4142
    """
    displacement = float(distance_from_init(gram)[-1])
    return path_length(gram) / displacement if displacement > 0.0 else float("nan")


def cosine_to_final(gram: GroupGram) -> Array:
    """cos(θ_t, θ_{T−1}), (T), unit: 1; the last is 1. NaN where θ_t is zero, everywhere when θ_{T−1} is."""
    return trajectory_map(gram)[:, -1].copy()


def settling_step(gram: GroupGram, threshold: float = SETTLED) -> float:
    """Find the first step from which ``cosine_to_final`` is at least ``threshold`` and stays so; unit: step.

    The cosine is interpolated linearly in the step between the last checkpoint below the threshold and the next defined
    one, and the result is the crossing, usually a fraction of a step; the first defined step if the cosine never was
    below. Zero vectors are skipped; NaN when the final point is one, or the threshold is above 1.
    """
    return settling(cosine_to_final(gram), gram.steps, threshold)


def settling(cosine: Array, steps: NDArray[np.int64], threshold: float = SETTLED) -> float:
    """Return ``settling_step`` of a curve of cosines, (T), at ``steps``, (T)."""
    defined = ~np.isnan(cosine)
    at, values = steps[defined].astype(np.float64), cosine[defined]
    if not values.size:
        return float("nan")
    below = np.flatnonzero(values < threshold)
    if not below.size:
        return float(at[0])
    last = int(below[-1])
    if last + 1 == len(values):
        return float("nan")
    share = (threshold - values[last]) / (values[last + 1] - values[last])
    return float(at[last] + share * (at[last + 1] - at[last]))
