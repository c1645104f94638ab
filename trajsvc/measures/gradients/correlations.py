"""Directions of a set of gradients: μ, α, their lags, explained variance and the cosines of successive vectors, functions of its Gram.

Sources: *Correlations* (Rothchild et al., "An Empirical Exploration of Gradient Correlations in Deep Learning"), *Layer updates* (Zhang et
al., "Understanding Stochastic Optimization Behavior at the Layer Update Level"). A zero vector has no direction: its cosines are left out
of means, and
``VectorGram.zero_vectors`` counts it. float64.
"""

from __future__ import annotations

import math

import numpy as np

from trajsvc.measures.base import Array
from trajsvc.measures.correlations import mean_by_lag, pairs_of, share_above
from trajsvc.measures.geometry import mean_defined
from trajsvc.measures.gradients.conditioning import DRAWS, gaussian_eigenvalues
from trajsvc.measures.gradients.vector_gram import VectorGram
from trajsvc.measures.variance import eigenvalues, shares


def mu(gram: VectorGram) -> float:
    """μ = mean over i < j of ĝ_i·ĝ_j, ĝ the unit vectors (*Correlations* §2). NaN with fewer than two vectors that are not zero."""
    return mean_defined(pairs_of(gram.cosines))


def alpha(gram: VectorGram) -> float:
    """α = sqrt(mean over i < j of (ĝ_i·ĝ_j)²), 1/√P for independent directions (*Correlations* §2). NaN as ``mu``."""
    return math.sqrt(mean_defined(pairs_of(gram.cosines) ** 2))


def mu_lag(gram: VectorGram) -> Array:
    """μ(k) = mean of ĝ_i·ĝ_{i+k} over the n − k pairs of an ordered set, k = 0 … n − 1, (n); at large k few pairs."""
    return mean_by_lag(gram.cosines)


def alpha_lag(gram: VectorGram) -> Array:
    """α(k) = sqrt(mean of (ĝ_i·ĝ_{i+k})²) over the n − k pairs of an ordered set, k = 0 … n − 1, (n)."""
    return np.sqrt(mean_by_lag(gram.cosines**2))


def explained_variance(gram: VectorGram) -> Array:
    """Eigenvalues of the centred K over their sum, descending, (n − 1), sum 1 (*Correlations*, appendix B). NaN where all are equal."""
    n = len(gram)
    return shares(eigenvalues(np.eye(n) - 1.0 / n, gram.gram))


def explained_variance_gaussian(gram: VectorGram, seed: int = 0) -> Array:
    """``explained_variance`` of n independent normal vectors in as many dimensions, the mean of 10 draws, (n − 1): what chance gives.

    Centred, they are n − 1 such vectors. NaN for an empty group.
    """
    n, parameters = len(gram), gram.parameters
    out = np.zeros(max(0, n - 1))
    few, many = sorted((n - 1, parameters))
    if few < 1:
        return np.full_like(out, np.nan)
    drawn = gaussian_eigenvalues(few, many, DRAWS, seed)
    out[:few] = np.mean([values / values.sum() for values in drawn], axis=0)
    return out


def gradient_cosine(gram: VectorGram) -> Array:
    """cos(g_t, g_{t+1}) of an ordered set, (n − 1) (*Layer updates*). NaN with a zero vector."""
    return np.diagonal(gram.cosines, 1).copy()


def mean_gradient_cosine(gram: VectorGram) -> float:
    """Mean of the defined ``gradient_cosine``. NaN without any."""
    return mean_defined(gradient_cosine(gram))


def random_bound(gram: VectorGram) -> float:
    """sqrt(ln P / P) for the group's P parameters: |cos| of independent directions exceeds it with a probability below 1/P
    (*Layer updates*). NaN for an empty group."""
    return math.sqrt(math.log(gram.parameters) / gram.parameters) if gram.parameters > 0 else float("nan")


def gradient_cosine_share(gram: VectorGram) -> float:
    """Share of the defined ``gradient_cosine`` above ``random_bound`` (*Layer updates*). NaN without any."""
    return share_above(gradient_cosine(gram), random_bound(gram))


def gradient_cosine_share_absolute(gram: VectorGram) -> float:
    """Share of the defined |``gradient_cosine``| above ``random_bound``. NaN without any."""
    return share_above(np.abs(gradient_cosine(gram)), random_bound(gram))


def inv_sqrt_parameters(gram: VectorGram) -> float:
    """1/√P: ``alpha`` of independent uniform directions (*Correlations*, appendix A). NaN for an empty group."""
    return 1.0 / math.sqrt(gram.parameters) if gram.parameters > 0 else float("nan")
