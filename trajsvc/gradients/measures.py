"""Measures of a set of gradients, each a function of its Gram.

Sources: *Correlations* (Rothchild et al.), *Variance* (Faghri et al.), *Conditioning* (Nelson, thesis), *Layer updates* (Zhang et al.).
A zero vector has no direction: its cosines are left out of means and minima, and ``VectorGram.zero_vectors`` counts it. float64.
"""

from __future__ import annotations

import math

import numpy as np

from trajsvc.gradients.vector_gram import VectorGram
from trajsvc.measures.base import Array
from trajsvc.measures.correlations import mean_by_lag, pairs_of
from trajsvc.measures.geometry import mean_defined
from trajsvc.measures.variance import eigenvalues, shares

ASYMPTOTIC = 16
"""Vectors and parameters from which on the stable rank of a Gaussian matrix is taken from its limit."""
DRAWS = 10


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


def norm(gram: VectorGram) -> Array:
    """‖g_i‖, (n)."""
    return np.sqrt(gram.squares)


def gradient_cosine(gram: VectorGram) -> Array:
    """cos(g_t, g_{t+1}) of an ordered set, (n − 1) (*Layer updates*). NaN with a zero vector."""
    return np.diagonal(gram.cosines, 1).copy()


def confusion(gram: VectorGram) -> float:
    """−min(min over pairs of cos(g_i, g_j), 0), 0 … 1 (*Conditioning* 3.11): how far two batches disagree. It grows with n.

    NaN with fewer than two vectors that are not zero.
    """
    cosines = pairs_of(gram.cosines)
    defined = cosines[~np.isnan(cosines)]
    return float(max(0.0, -defined.min())) if defined.size else float("nan")


def confusion_bound(gram: VectorGram) -> float:
    """max(0, −min over pairs of g_i·g_j) (*Conditioning* 3.10), in the gradients' units squared. NaN with one vector."""
    products = pairs_of(gram.gram)
    return float(max(0.0, -products.min())) if products.size else float("nan")


def diversity(gram: VectorGram) -> float:
    """Σ‖g_i‖² / ‖Σ g_i‖² = tr K / **1**ᵀK**1** (*Conditioning* 3.12): 1/n where all are equal, 1 where they are orthogonal, unbounded.

    Infinite where the vectors sum to zero; NaN where all are zero.
    """
    total, whole = float(gram.squares.sum()), gram.mean_square * len(gram) ** 2
    return total / whole if whole > 0.0 else float("inf") if total > 0.0 else float("nan")


def coherence(gram: VectorGram) -> float:
    """Σ⟨ḡ, g_i⟩ / Σ‖g_i‖² = (**1**ᵀK**1**/n) / tr K, 0 … 1 (*Conditioning* 3.13): 1 where all are equal, 1/n where they are orthogonal.

    n times it is how many examples one gradient helps. NaN where all are zero.
    """
    total = float(gram.squares.sum())
    return gram.mean_square * len(gram) / total if total > 0.0 else float("nan")


def batch_dissonance(gram: VectorGram) -> float:
    """Mean over ordered pairs i ≠ j of ‖g_i − g_j‖/‖g_i‖ (*Conditioning* 3.1). Terms of a zero g_i are left out; NaN without any."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.sqrt(gram.squared_distances) / norm(gram)[:, None]
    terms[~np.isfinite(terms)] = np.nan
    return mean_defined(terms[~np.eye(len(gram), dtype=bool)])


def gain_ratio(batches: VectorGram, examples: VectorGram) -> float:
    """E‖ḡ_χ‖² / E‖g_i‖², 0 … 1 (*Conditioning* 3.9), of gradients of batches and of examples. NaN where all examples' are zero."""
    total = float(examples.squares.mean())
    return float(batches.squares.mean()) / total if total > 0.0 else float("nan")


def stable_rank(gram: VectorGram) -> float:
    """‖A‖_F² / ‖A‖₂² = tr K / λ_max(K) of the matrix A whose columns are the vectors, 1 … min(n, P). NaN where all are zero."""
    largest = float(np.linalg.eigvalsh(gram.gram)[-1])
    return float(gram.squares.sum()) / largest if largest > 0.0 else float("nan")


def gradient_rank(gram: VectorGram, seed: int = 0) -> float:
    """``stable_rank`` over that of a Gaussian matrix of the same shape, in (0, about 1] (*Conditioning* 3.6 and 3.7).

    The Gaussian's is n P / (√n + √P)² from 16 vectors and parameters on, else the mean of 10 draws made with ``seed``.
    """
    return stable_rank(gram) / gaussian_rank(len(gram), gram.parameters, seed)


def gaussian_rank(n: int, parameters: int, seed: int = 0) -> float:
    """The expected stable rank of an n × P matrix of independent normal values, by its limit or by 10 draws. NaN for an empty group."""
    few, many = sorted((n, parameters))
    if few < 1:
        return float("nan")
    if few >= ASYMPTOTIC:
        return few * many / (math.sqrt(few) + math.sqrt(many)) ** 2
    rng = np.random.default_rng(seed)
    ranks = []
    for _ in range(DRAWS):  # Bartlett: the triangle has the Gram of a few × many Gaussian matrix
        triangle = np.tril(rng.normal(size=(few, few)), -1) + np.diag(np.sqrt(rng.chisquare(many - np.arange(few))))
        values = np.linalg.svd(triangle, compute_uv=False) ** 2
        ranks.append(values.sum() / values[0])
    return float(np.mean(ranks))
