"""Variance of gradient estimators, from the Gram of the gradients of single examples.

Source: *Variance* (Faghri et al., "A Study of Gradient Variance in Deep Learning"), §3 and §4. All are float64 functions of K.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.gradients.vector_gram import VectorGram


def average_variance(
    gram: VectorGram, batch: int = 1, *, population: int | None = None, replacement: bool = True
) -> float:
    """V₁ / (B · P): the variance of the mean of B examples, averaged over the P parameters (SG-B).

    ``gram`` is of all N examples, or of n < N of them (``population`` = N): then V₁ is scaled by n / (n − 1) to be unbiased. Without
    ``replacement`` the variance is (N − B) / (N − 1) of that. SG-2B is this with 2B. NaN for an empty group, and for a sample of one.
    """
    n = len(gram)
    total = n if population is None else population
    if batch < 1 or total < n or (not replacement and batch > total):
        raise ValueError(f"no batches of {batch} from {total} examples, {n} of which are known")
    variance = gram.variance
    if total > n:
        variance = variance * n / (n - 1) if n > 1 else float("nan")
    if not replacement:
        variance *= (total - batch) / (total - 1) if total > 1 else 0.0
    return variance / (batch * gram.parameters) if gram.parameters else float("nan")


def average_variance_sg2b(
    gram: VectorGram, batch: int = 1, *, population: int | None = None, replacement: bool = True
) -> float:
    """``average_variance`` of batches of 2B examples (SG-2B): with replacement exactly half of SG-B's."""
    return average_variance(gram, 2 * batch, population=population, replacement=replacement)


def average_variance_svrg(gram: VectorGram, batch: int = 1) -> float:
    """V₁ / (B · P) of the differences g_i(θ) − g_i(θ̃), θ̃ an earlier checkpoint (SVRG): 0 at θ = θ̃.

    It is the variance of the estimator mean_B[g_i(θ) − g_i(θ̃)] + ḡ(θ̃), whose last term does not vary.
    """
    return average_variance(gram, batch)


def average_variance_drawn(gram: VectorGram) -> float:
    """Σ_s ‖e_s − ē‖² / ((S − 1) P) of S estimates e_s of the gradient: the Monte Carlo form of ``average_variance``, unbiased.

    ``gram`` is of gradients of S batches drawn apart from each other. NaN with one, and for an empty group.
    """
    n = len(gram)
    return gram.variance * n / ((n - 1) * gram.parameters) if n > 1 and gram.parameters else float("nan")


def stratified_variance(gram: VectorGram, assignment: Sequence[int] | NDArray[np.int64]) -> float:
    """N⁻² Σ_k N_k² v_k / P: the variance of Σ_k (N_k/N) g_{i_k}, with one example drawn from each stratum k (proposition 3.1).

    ``assignment`` is the stratum of every example; v_k = trace of the covariance within stratum k. One stratum for all examples is
    ``average_variance`` with B = 1, one for each is 0.
    """
    return objective(gram, assignment) / (len(gram) ** 2 * gram.parameters) if gram.parameters else float("nan")


def objective(gram: VectorGram, assignment: Sequence[int] | NDArray[np.int64]) -> float:
    """J = Σ_k N_k Σ_{i in k} ‖g_i − C_k‖² = ½ Σ_k Σ_{i, j in k} ‖g_i − g_j‖² (*Variance*, eq. 2), C_k the mean of stratum k."""
    strata = np.asarray(assignment, dtype=np.int64)
    if strata.shape != (len(gram),):
        raise ValueError(f"{strata.size} strata for {len(gram)} examples")
    return 0.5 * float(gram.spread[strata[:, None] == strata[None, :]].sum())


def normalised_variance(gram: VectorGram, batch: int = 1) -> float:
    """V / (V + ‖ḡ‖²) with V = V₁ / B: the share of an estimate's expected square that is variance, 0 … 1. NaN where all vectors are zero.

    With B = 1 it is 1 − ``coherence``.
    """
    variance, square = gram.variance / batch, gram.mean_square
    return variance / (variance + square) if variance + square > 0.0 else float("nan")


def noise_to_signal(gram: VectorGram, batch: int = 1) -> float:
    """V / ‖ḡ‖² with V = V₁ / B. Infinite where the mean vector is zero and the vectors are not; NaN where all are zero."""
    variance, square = gram.variance / batch, gram.mean_square
    return variance / square if square > 0.0 else float("inf") if variance > 0.0 else float("nan")


def snr(gram: VectorGram, batch: int = 1) -> float:
    """‖ḡ‖² / V with V = V₁ / B, the inverse of ``noise_to_signal``. Infinite where all vectors are equal; NaN where all are zero."""
    variance, square = gram.variance / batch, gram.mean_square
    return square / variance if variance > 0.0 else float("inf") if square > 0.0 and variance == 0.0 else float("nan")


def normalised_variance_coordinates(ratios: float, coordinates: float) -> float:
    """Mean over coordinates of Σ_s (ē − e_s)² / Σ_s e_s², over S estimates e_s, ē the mean of S others (*Variance*, published code).

    ``ratios`` is the sum over the ``coordinates`` whose Σ_s e_s² is not zero. Gaussian noise takes it to 1 + 1/(S − 2), of three or more
    estimates; of two it has no expectation. ``normalised_variance`` goes to 1 there: the two are not to be compared. It is no function of
    inner products. NaN without a coordinate.
    """
    return ratios / coordinates if coordinates > 0 else float("nan")


def noise_scale(gram: VectorGram) -> float:
    """B_simple = tr Σ / ‖ḡ‖², Σ the unbiased covariance of single examples and ‖ḡ‖² corrected for the noise of the mean.

    The batch above which larger ones help little (McCandlish et al., "An Empirical Model of Large-Batch Training", appendix A). NaN with
    one example, and where the mean's square is no larger than its noise.
    """
    n = len(gram)
    if n < 2:
        return float("nan")
    trace = gram.variance * n / (n - 1)
    signal = gram.mean_square - trace / n
    return trace / signal if signal > 0.0 else float("nan")
