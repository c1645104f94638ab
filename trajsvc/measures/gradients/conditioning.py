"""How gradients of examples and of batches go together: confusion, diversity, coherence, dissonance, rank; functions of their Gram.

Source: *Conditioning* (Nelson, "Gradient Conditioning in Deep Neural Networks", thesis). A zero vector has no direction: its cosines are
left out of means and minima, and ``VectorGram.zero_vectors`` counts it. float64.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from trajsvc.measures.base import Array
from trajsvc.measures.correlations import pairs_of
from trajsvc.measures.geometry import mean_defined
from trajsvc.measures.gradients.vector_gram import VectorGram

ASYMPTOTIC: Final = 16
"""Vectors and parameters from which on the stable rank of a Gaussian matrix is taken from its limit."""
DRAWS: Final = 10


def norm(gram: VectorGram) -> Array:
    """‖g_i‖, (n)."""
    return np.sqrt(gram.squares)


def mean_norm(gram: VectorGram) -> float:
    """‖ḡ‖, ḡ the mean vector; 0 where rounding could explain it."""
    return math.sqrt(gram.mean_square)


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


def batch_dissonance_examples(examples: VectorGram, batch: int = 1) -> float:
    """Mean over batches χ and examples i of ‖ḡ_χ − g_i‖/‖ḡ_χ‖, χ the examples jB … (j+1)B − 1 (*Conditioning* 3.1–3.3).

    ``examples`` is the Gram of single examples, of which batches are means; a rest that fills no batch is left out of batches. Terms of a
    zero ḡ_χ are left out; NaN without any.
    """
    count = len(examples) // batch
    means = np.kron(np.eye(count), np.full((1, batch), 1.0 / batch))
    cross = np.zeros((count, len(examples)))
    if count:
        cross = means @ examples.gram[: count * batch]
    squares = np.maximum(np.einsum("ij,ij->i", cross[:, : count * batch], means), 0.0)
    distances = np.maximum(squares[:, None] + examples.squares[None, :] - 2.0 * cross, 0.0)
    if batch == 1:
        np.fill_diagonal(distances, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.sqrt(distances) / np.sqrt(squares)[:, None]
    terms[squares <= 0.0] = np.nan
    return mean_defined(terms)


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
    """Return the expected stable rank of an n × P matrix of independent normal values, by its limit or by 10 draws.

    NaN for an empty group.
    """
    few, many = sorted((n, parameters))
    if few < 1:
        return float("nan")
    if few >= ASYMPTOTIC:
        return few * many / (math.sqrt(few) + math.sqrt(many)) ** 2
    return float(np.mean([values.sum() / values[0] for values in gaussian_eigenvalues(few, many, DRAWS, seed)]))


def gaussian_eigenvalues(few: int, many: int, draws: int, seed: int = 0) -> list[Array]:
    """Draw the eigenvalues of the Gram of a few × many matrix of independent normal values, descending, (few), ``draws`` times.

    By Bartlett's decomposition: a triangle of few × few has the same Gram.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        triangle = np.tril(rng.normal(size=(few, few)), -1) + np.diag(np.sqrt(rng.chisquare(many - np.arange(few))))
        found.append(np.linalg.svd(triangle, compute_uv=False) ** 2)
    return found
