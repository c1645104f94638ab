"""Gradient Clustering: strata of examples whose gradients are alike, from the Gram alone.

Source: *Variance* (Faghri et al., "A Study of Gradient Variance in Deep Learning"), §3. The objective J is N² times the variance of the
estimator that draws one example from every cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import Array
from trajsvc.measures.gradients.estimators import objective, stratified_variance
from trajsvc.measures.gradients.vector_gram import VectorGram

RESTARTS: Final = 10
SWEEPS: Final = 100
ROUNDS: Final = 10
CLUSTERS: Final = 8


@dataclass(frozen=True)
class Clustering:
    """The cluster of every example (n), the clusters' sizes N_k and traces of covariance v_k, J, and the estimator's average variance."""

    assignment: NDArray[np.int64]
    sizes: NDArray[np.int64]
    traces: Array
    objective: float
    average_variance: float

    @classmethod
    def of(cls, gram: VectorGram, assignment: NDArray[np.int64]) -> Clustering:
        """Evaluate an assignment on ``gram``, which may be of another checkpoint than the one it was found on."""
        sizes = np.bincount(assignment)
        within = np.array([gram.spread[np.ix_(m, m)].sum() for m in _members(assignment)])
        with np.errstate(invalid="ignore", divide="ignore"):
            traces = np.where(sizes > 0, within / (2.0 * sizes.astype(np.float64) ** 2), np.nan)
        return cls(assignment, sizes, traces, objective(gram, assignment), stratified_variance(gram, assignment))

    @property
    def order(self) -> NDArray[np.int64]:
        """The examples cluster by cluster, the largest first: a Gram in this order shows its clusters along the diagonal."""
        rank = np.empty(len(self.sizes), dtype=np.int64)
        rank[np.argsort(-self.sizes, kind="stable")] = np.arange(len(self.sizes))
        return np.argsort(rank[self.assignment], kind="stable").astype(np.int64)


def average_variance_clustered(gram: VectorGram, clusters: int = CLUSTERS, seed: int = 0) -> float:
    """``stratified_variance`` of the clusters that ``cluster`` finds, at most one an example (GC).

    NaN where distances are lost in rounding.
    """
    if np.isnan(gram.spread).any():
        return float("nan")
    return cluster(gram, min(clusters, len(gram)), seed=seed).average_variance


def cluster(gram: VectorGram, clusters: int, *, seed: int = 0, restarts: int = RESTARTS) -> Clustering:
    """Find the best of ``restarts`` local minima of J over assignments to at most ``clusters`` clusters; deterministic
    for a seed.

    Each begins with k-means++ centres and moves one example at a time to the cluster that lowers J most: every move
    lowers it by exactly the difference of two sums of squared distances, so it ends. O(n²) memory, O(n · clusters) a
    sweep and O(n) a move.

    Raises ValueError for a number of clusters that is not 1 … n, and if distances are lost in rounding.
    """
    distances = _distances(gram, clusters)
    rng = np.random.default_rng(seed)
    found = [_descend(distances, _start(distances, clusters, rng), clusters) for _ in range(max(1, restarts))]
    best = min(found, key=lambda a: objective(gram, a))
    return Clustering.of(gram, best)


def cluster_by_iteration(gram: VectorGram, clusters: int, *, seed: int = 0, rounds: int = ROUNDS) -> Clustering:
    """Find the best assignment met by the paper's iteration.

    It assigns each example to argmin_k N_k ‖C_k − g_i‖² at fixed sizes (eq. 3), then updates sizes, then centres as
    means (eq. 4).

    It is not monotone: J may rise. An empty cluster, which would cost nothing and stay empty, is begun anew with an
    example drawn by its squared distance to its own centre. ``cluster`` finds lower J; this function serves for
    comparison. Raises ValueError as ``cluster``.
    """
    distances = _distances(gram, clusters)
    rng = np.random.default_rng(seed)
    best = assignment = _begun_anew(distances, _start(distances, clusters, rng), clusters, rng)
    for _ in range(rounds):
        assignment = _begun_anew(distances, _weighted(distances, assignment, clusters).argmin(axis=1), clusters, rng)
        best = min(best, assignment, key=lambda a: objective(gram, a))
    return Clustering.of(gram, best)


def _distances(gram: VectorGram, clusters: int) -> Array:
    """‖g_i − g_j‖². Raises ValueError."""
    if not 1 <= clusters <= len(gram):
        raise ValueError(f"{clusters} clusters of {len(gram)} examples")
    distances = gram.spread
    if np.isnan(distances).any():
        raise ValueError(
            "distances of these vectors are lost in rounding: form their differences before their products"
        )
    return distances


def _weighted(distances: Array, assignment: NDArray[np.int64], clusters: int) -> Array:
    """N_k ‖C_k − g_i‖² = Σ_{j in k} d_ij² − ½ Σ_{j, l in k} d_jl² / N_k, (n, clusters); infinite for an empty cluster."""
    member = np.eye(clusters)[assignment]
    to, sizes = distances @ member, member.sum(axis=0)
    within = np.einsum("ik,ik->k", member, to) / 2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(sizes > 0.0, np.maximum(to - within / sizes, 0.0), np.inf))


def _begun_anew(
    distances: Array, assignment: NDArray[np.int64], clusters: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give every empty cluster an example of one that has others, drawn by its squared distance to its centre."""
    out = assignment.astype(np.int64)
    for k in range(clusters):
        sizes = np.bincount(out, minlength=clusters)
        if sizes[k]:
            continue
        far = np.where(sizes[out] > 1, _weighted(distances, out, clusters)[np.arange(len(out)), out] / sizes[out], 0.0)
        free = np.where(sizes[out] > 1, 1.0, 0.0)
        weights = far if far.sum() > 0.0 else free
        out[rng.choice(len(out), p=weights / weights.sum())] = k
    return out


def _start(distances: Array, clusters: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw centres among the examples (k-means++) and assign every example to the nearest.

    Each centre is drawn with a probability proportional to the squared distance to the nearest centre drawn before.
    """
    centres = [int(rng.integers(len(distances)))]
    while len(centres) < clusters:
        nearest = distances[:, centres].min(axis=1)
        total = nearest.sum()
        share = nearest / total if total > 0.0 else None
        centres.append(int(rng.choice(len(distances), p=share)))
    return np.asarray(distances[:, centres].argmin(axis=1), dtype=np.int64)


def _descend(distances: Array, assignment: NDArray[np.int64], clusters: int) -> NDArray[np.int64]:
    """Move single examples until no move lowers J."""
    out = assignment.copy()
    to = np.stack([distances[:, out == k].sum(axis=1) for k in range(clusters)], axis=1)  # Σ_{j in k} d_ij²
    for _ in range(SWEEPS):
        moved = False
        for i in range(len(out)):
            here, best = int(out[i]), int(to[i].argmin())
            if to[i, best] < to[i, here] * (1.0 - 1e-12):
                to[:, here] -= distances[:, i]
                to[:, best] += distances[:, i]
                out[i], moved = best, True
        if not moved:
            break
        np.maximum(to, 0.0, out=to)
    return out


def _members(assignment: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for k in range(int(assignment.max()) + 1):
        yield np.flatnonzero(assignment == k)
