"""Heterogeneity of Q, K and V of one layer: distances between their trajectory maps, and the settling step of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trajsvc.errors import UsageError
from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.geometry import mean_defined
from trajsvc.measures.maps import dissimilarity_map
from trajsvc.measures.norms import SETTLED, settling

PATTERN = 1e-10
"""share of a map's largest entry below which a pattern is rounding: entries have twelve digits, and the centring sums them"""


@dataclass(frozen=True)
class QkvHeterogeneity:
    """Q, K and V of one layer, compared by two distances between their maps; NaN where undefined.

    ``distance_*`` compare the maps' *shape*, in [0, 2], 0 for maps of the same pattern (``map_distance``); ``rms_*`` their level too, in
    units of cosine, 0 for equal maps (``map_rms``). The two may order layers differently: the first ignores level and scale.
    """

    distance_qk: float
    distance_qv: float
    distance_kv: float
    mean: float
    """mean of the three distances; NaN when one is"""
    rms_qk: float
    rms_qv: float
    rms_kv: float
    rms_mean: float
    """mean of the three root mean square differences; NaN when one is"""
    mds_q: float
    mds_k: float
    mds_v: float
    settling_step_q: float
    settling_step_k: float
    settling_step_v: float
    points: int
    """checkpoints at which all three are defined: those that the distances are taken over"""


def qkv_heterogeneity(
    q: GroupGram, k: GroupGram, v: GroupGram, origin: int | None = None, threshold: float = SETTLED
) -> QkvHeterogeneity:
    """Compute the distances between the trajectory maps of Q, K and V (relative maps with an ``origin``), and their
    settling steps.

    Distances are ``map_distance`` and ``map_rms`` over the checkpoints at which all three maps are defined, so that the
    three compare the same steps. Raises UsageError (``different-steps``) when the three are not at the same steps,
    NotFound (``step-not-found``).
    """
    if not (np.array_equal(q.steps, k.steps) and np.array_equal(q.steps, v.steps)):
        raise UsageError(
            "different-steps",
            f"{q.group}, {k.group} and {v.group} are not at the same steps",
            hint="Select the same checkpoints of all three.",
        )
    maps = [dissimilarity_map(part, origin) for part in (q, k, v)]
    defined = ~np.isnan(sum(np.diag(m) for m in maps))
    common = [m[np.ix_(defined, defined)] for m in maps]
    pairs = [(common[a], common[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    qk, qv, kv = (map_distance(a, b) for a, b in pairs)
    rms_qk, rms_qv, rms_kv = (map_rms(a, b) for a, b in pairs)
    mds_q, mds_k, mds_v = (1.0 - mean_defined(m) for m in maps)
    to_final = [
        1.0 - (m if origin is None else dissimilarity_map(p))[:, -1] for m, p in zip(maps, (q, k, v), strict=True)
    ]
    settled_q, settled_k, settled_v = (settling(cosine, q.steps, threshold) for cosine in to_final)
    return QkvHeterogeneity(
        distance_qk=qk,
        distance_qv=qv,
        distance_kv=kv,
        mean=(qk + qv + kv) / 3.0,
        rms_qk=rms_qk,
        rms_qv=rms_qv,
        rms_kv=rms_kv,
        rms_mean=(rms_qk + rms_qv + rms_kv) / 3.0,
        mds_q=mds_q,
        mds_k=mds_k,
        mds_v=mds_v,
        settling_step_q=settled_q,
        settling_step_k=settled_k,
        settling_step_v=settled_v,
        points=int(defined.sum()),
    )


def map_distance(a: Array, b: Array) -> float:
    """1 − ⟨Ã, B̃⟩ / (‖Ã‖ ‖B̃‖), with Ã, B̃ the off-diagonal parts of two symmetric n × n maps, centred. In [0, 2].

    Centring is that of the unbiased kernel alignment (Székely and Rizzo's U-centring): for i ≠ j

        Ã_ij = A_ij − Σ_k A_ik/(n−2) − Σ_k A_kj/(n−2) + Σ_kl A_kl/((n−1)(n−2)),  sums over off-diagonal entries,

    which makes every row sum 0 and removes constants, so that maps of cosines and maps of 1 − cos are as far apart: what is compared
    is their pattern, not their level or their scale. NaN with n < 4 or when a map has no pattern.
    """
    if len(a) < 4:
        return float("nan")
    first, second = _centred(a), _centred(b)
    norms = math.sqrt(float((first**2).sum())) * math.sqrt(float((second**2).sum()))
    return float(np.clip(1.0 - float((first * second).sum()) / norms, 0.0, 2.0)) if norms > 0.0 else float("nan")


def map_rms(a: Array, b: Array) -> float:
    """sqrt(mean_{i ≠ j} (A_ij − B_ij)²): root mean square difference of the off-diagonal parts of two n × n maps.

    In units of the maps' entries (cosines); 0 for equal maps. NaN with n < 2.
    """
    n = len(a)
    if n < 2:
        return float("nan")
    apart = np.square(a - b)
    return math.sqrt(float(apart.sum() - np.trace(apart)) / (n * (n - 1)))


def _centred(a: Array) -> Array:
    """Return the U-centred off-diagonal part of a map; exactly zero where only rounding is left."""
    n = len(a)
    off = a - np.diag(np.diag(a))
    rows = off.sum(axis=1)
    centred = off - (rows[:, None] + rows[None, :]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0.0)
    return centred if float(np.abs(centred).max()) > PATTERN * float(np.abs(off).max()) else np.zeros_like(centred)
