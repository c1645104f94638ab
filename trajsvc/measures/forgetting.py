"""How fast a network forgets where it was: the decay of the cosine to later checkpoints, and the stationary walk with that decay.

Under a steady learning rate η and weight decay λ, θ approaches a stationary Ornstein–Uhlenbeck process, of which

    cos(θ_t, θ_{t+Δ}) = e^{−Δ/τ},   τ = 1/(ηλ)   (Δ in steps of training).

−log cos is computed as −log1p(−x) from x = 1 − cos, which keeps its digits where the cosine is near 1. Everything is float64.
"""

from __future__ import annotations

import numpy as np

from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.geometry import mean_defined
from trajsvc.measures.maps import dissimilarity_map

WINDOW = 10


def forgetting_time(gram: GroupGram, window: int = WINDOW) -> Array:
    """τ of cos(θ_t, θ_{t+Δ}) = e^{−Δ/τ} from checkpoint t on, (T); unit: step.

    Fitted through (0, 0) to the next ``window`` checkpoints (fewer near the end) by least squares of −log cos against Δ:
    τ = ΣΔ² / ΣΔ(−log cos). After the first, a cosine below 1/e ends the window: the logarithm of a small one is mostly scatter.
    NaN at the last checkpoint, where θ_t or the next point is zero or their cosine not positive, and where nothing moved: then
    nothing is forgotten. Raises ValueError for a window below 1.

    >>> turns = [[1.0, 0.0], [0.9, (1 - 0.9**2) ** 0.5]]
    >>> round(float(forgetting_time(GroupGram.of_points(turns, [0, 100]))[0]), 3)
    949.122
    """
    if window < 1:
        raise ValueError(f"a window holds at least one later checkpoint, not {window}")
    decay, apart = _decay(gram), _apart(gram)
    found = np.full(len(decay), np.nan)
    for t in range(len(decay) - 1):
        rates, steps = decay[t, t + 1 : t + 1 + window], apart[t, t + 1 : t + 1 + window]
        far = np.flatnonzero(~(rates[1:] <= 1.0))
        end = int(far[0]) + 1 if far.size else len(rates)
        found[t] = _time(rates[:end], steps[:end])
    return found


def ornstein_uhlenbeck(gram: GroupGram) -> Array:
    """e^{−|s_i − s_j|/τ} at the steps s, (T, T); unit: 1: the map of a stationary process that forgets as fast as this run.

    τ is fitted as in ``forgetting_time``, to all pairs of checkpoints at once whose cosine is at least 1/e (to neighbours
    where there is none). A second null beside ``random_walk``: a run in equilibrium has this map, one that still travels has
    not. NaN with one checkpoint and where nothing moved.
    """
    decay, apart = _decay(gram), _apart(gram)
    pairs = np.triu(decay <= 1.0, 1)
    if not pairs.any():
        pairs = np.eye(len(decay), k=1, dtype=bool) & ~np.isnan(decay)
    time = _time(decay[pairs], apart[pairs])
    return np.exp(-apart / time) if time == time else np.full(decay.shape, np.nan)


def ornstein_uhlenbeck_mds(gram: GroupGram) -> float:
    """Mean of all entries of ``ornstein_uhlenbeck``: what ``mds`` is compared to; unit: 1."""
    return mean_defined(ornstein_uhlenbeck(gram))


def _decay(gram: GroupGram) -> Array:
    """−log cos of all pairs, (T, T); NaN where the cosine is not positive."""
    apart = dissimilarity_map(gram)
    return -np.log1p(-np.where(apart < 1.0, apart, np.nan))


def _apart(gram: GroupGram) -> Array:
    return np.abs(np.subtract.outer(gram.steps, gram.steps)).astype(np.float64)


def _time(decay: Array, apart: Array) -> float:
    total = float(apart @ decay)
    return float(apart @ apart) / total if total > 0.0 else float("nan")
