"""Correlations of updates: cosines between them, by lag and over all pairs, and against what chance gives.

g_i = U_i/‖U_i‖ is the i-th normalised update, i = 1 … T − 1. Zero updates have none and are left out of every mean. Unit: 1.

Sources: *Correlations* (Rothchild et al., "An Empirical Exploration of Gradient Correlations in Deep Learning") for μ and α;
*Layer updates* (Zhang et al., "Understanding Stochastic Optimization Behavior at the Layer Update Level") for the random bound.
"""

from __future__ import annotations

import math

import numpy as np

from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.geometry import mean_defined, one_minus_cosine_of_basis


def update_map(gram: GroupGram) -> Array:
    """g_i·g_j for all pairs of updates, (T − 1, T − 1); the diagonal is 1. NaN with a zero update."""
    return 1.0 - one_minus_cosine_of_basis(gram.gram[1:, 1:])


def mu(gram: GroupGram) -> float:
    """μ = mean of g_i·g_j over all pairs i < j. NaN with fewer than two defined updates."""
    return mean_defined(pairs_of(update_map(gram)))


def alpha(gram: GroupGram) -> float:
    """α = sqrt(mean of (g_i·g_j)² over all pairs i < j): about 1/√P for independent directions. NaN as ``mu``."""
    return math.sqrt(mean_defined(pairs_of(update_map(gram)) ** 2))


def inv_sqrt_parameters(gram: GroupGram) -> float:
    """1/√P, the value of α for updates of independent random directions in P dimensions. NaN for an empty group."""
    return 1.0 / math.sqrt(gram.parameters) if gram.parameters > 0 else float("nan")


def mu_lag(gram: GroupGram) -> Array:
    """μ(k) = mean over i of g_i·g_{i+k} for lags k = 0 … T − 2, (T − 1); μ(0) = 1. NaN at a lag without a defined pair."""
    return mean_by_lag(update_map(gram))


def alpha_lag(gram: GroupGram) -> Array:
    """α(k) = sqrt(mean over i of (g_i·g_{i+k})²) for lags k = 0 … T − 2, (T − 1); α(0) = 1. NaN as ``mu_lag``."""
    return np.sqrt(mean_by_lag(update_map(gram) ** 2))


def update_cosine(gram: GroupGram) -> Array:
    """cos(U_t, U_{t+1}) for t = 1 … T − 2, (T − 2). NaN with a zero update."""
    return np.diagonal(update_map(gram), 1).copy()


def random_bound(gram: GroupGram) -> float:
    """sqrt(ln n / n) for the group's n parameters: cosines of independent directions rarely exceed it. NaN for an empty group."""
    n = gram.parameters
    return math.sqrt(math.log(n) / n) if n > 0 else float("nan")


def nonrandom_fraction(gram: GroupGram) -> float:
    """Share of the defined ``update_cosine`` that are above ``random_bound``: updates that persist. NaN without any."""
    return share_above(update_cosine(gram), random_bound(gram))


def nonrandom_fraction_absolute(gram: GroupGram) -> float:
    """Share of the defined |``update_cosine``| above ``random_bound``: updates that persist or turn back. NaN without any."""
    return share_above(np.abs(update_cosine(gram)), random_bound(gram))


def pairs_of(values: Array) -> Array:
    """Return the entries i < j of (n, n), as (n (n − 1) / 2)."""
    return values[np.triu_indices(len(values), 1)]


def mean_by_lag(values: Array) -> Array:
    """Average the defined entries of each upper diagonal of (n, n), (n); NaN where a diagonal has none."""
    rows, columns = np.triu_indices(len(values))
    entries = values[rows, columns]
    defined = ~np.isnan(entries)
    lags = (columns - rows)[defined]
    counts = np.bincount(lags, minlength=len(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.bincount(lags, entries[defined], minlength=len(values)) / counts)


def share_above(cosines: Array, bound: float) -> float:
    defined = cosines[~np.isnan(cosines)]
    return float((defined > bound).mean()) if defined.size and not math.isnan(bound) else float("nan")
