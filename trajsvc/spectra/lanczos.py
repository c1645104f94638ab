"""The largest singular values of a matrix that is streamed: block Lanczos on WᵀW, fully reorthogonalised, with bounds from residuals.

Golub & Underwood, "The block Lanczos method for computing eigenvalues" (1977). One pass over the rows multiplies a block X of vectors by
WᵀW = Σ_panels PᵀP, so W is read once a step and never held. A Ritz pair (θ, x), ‖x‖ = 1, has an eigenvalue of WᵀW within
r = ‖WᵀW x − θ x‖; so there is a singular value σ with |σ − √θ| ≤ r / √θ. The residuals are computed anew in a last pass, and what rounding
may add to them, ε √n ‖W‖_F² a product, is added. √θ_i ≤ σ_i + that rounding (Cauchy's interlacing): none is too large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from trajsvc.errors import LimitExceeded
from trajsvc.measures.base import Array
from trajsvc.measures.spectra.spectrum import EPSILON, Spectrum, undefined
from trajsvc.spectra.exact import frobenius_norm
from trajsvc.spectra.matrices import Matrix

BLOCK: Final = 16
WANTED: Final = 32
"""singular values that are asked for"""
TOLERANCE: Final = 1e-9
"""relative to σ_i, at which no more steps are made for it"""
STEPS: Final = 40
"""passes at most"""
_SEED: Final = 20240607

Panels = Callable[[], Iterable[tuple[int, Array]]]


def lanczos_bytes(matrix: Matrix, steps: int = STEPS) -> int:
    """Bytes for the basis, its images and the Ritz vectors, after so many steps."""
    return 8 * matrix.columns * (steps * BLOCK * 2 + 3 * WANTED + 4 * BLOCK)


def steps_within(matrix: Matrix, budget: int) -> int:
    """Return how many steps the budget allows, at most ``STEPS``. Raises LimitExceeded (``memory-budget``) for fewer than three."""
    steps = next((s for s in range(STEPS, 2, -1) if lanczos_bytes(matrix, s) <= budget), 0)
    if not steps:
        need = -(-lanczos_bytes(matrix, 3) // 2**20)
        words = (
            f"the largest singular values of {matrix.name} take {need} MiB, more than the budget of {budget >> 20} MiB"
        )
        raise LimitExceeded("memory-budget", words, hint=f"Give --budget {need}MiB.")
    return steps


def largest_spectrum(matrix: Matrix, panels: Panels, budget: int) -> Spectrum:
    """Compute the largest singular values of a matrix from passes over its ``panels``.

    Those are returned whose bound is below a thousandth of them, at most ``WANTED``. Raises as ``steps_within``.
    """
    steps, n = steps_within(matrix, budget), matrix.columns
    norm = _norm(panels)
    if not np.isfinite(norm) or norm == 0:
        zero = Spectrum(np.zeros(1), matrix.rows, n, 0.0, False, np.zeros(1))
        return zero if norm == 0 else undefined(matrix.rows, n)
    block = min(BLOCK, n)
    scale = 1 / norm  # so that no square overflows or vanishes
    random = np.random.default_rng(_SEED)
    next_block = np.linalg.qr(random.standard_normal((n, block)))[0]
    basis, images = np.empty((n, 0)), np.empty((n, 0))
    while True:
        image = _product(panels, next_block, scale)
        basis, images = np.hstack([basis, next_block]), np.hstack([images, image])
        projected = basis.T @ images
        theta, vectors = np.linalg.eigh((projected + projected.T) / 2)
        theta, vectors = theta[::-1][:WANTED], vectors[:, ::-1][:, :WANTED]
        left = images @ vectors - (basis @ vectors) * theta
        residual = np.linalg.norm(left, axis=0)
        if basis.shape[1] + block > min(n, steps * block) or np.all(residual <= 2 * TOLERANCE * np.abs(theta)):
            break
        fresh = image - basis @ (basis.T @ image)
        fresh = np.linalg.qr(fresh - basis @ (basis.T @ fresh))[0]
        fresh -= basis @ (basis.T @ fresh)  # directions that were all rounding are made orthogonal too
        next_block = np.linalg.qr(fresh - basis @ (basis.T @ fresh))[0]
    ritz = basis @ vectors
    ritz /= np.linalg.norm(ritz, axis=0)
    residual = np.linalg.norm(_product(panels, ritz, scale) - ritz * theta, axis=0) + EPSILON * np.sqrt(n) * 4
    values = np.sqrt(np.maximum(theta, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = residual / values
    good = np.cumprod((values > 0) & (bound <= 1e-3 * values)).astype(bool)
    good[:1] = values[:1] > 0  # the largest is given with its bound, however wide
    return Spectrum(values[good] * norm, matrix.rows, n, norm, False, bound[good] * norm)


def _product(panels: Panels, vectors: Array, scale: float) -> Array:
    """Return (scale W)ᵀ(scale W) X, (n, b)."""
    total = np.zeros_like(vectors)
    for _, panel in panels():
        scaled = panel * scale
        total += scaled.T @ (scaled @ vectors)
    return total


def _norm(panels: Panels) -> float:
    norms = []
    for _, panel in panels():
        if not np.isfinite(panel).all():
            return float(np.nan)
        norms.append(frobenius_norm([panel]))
    return float(np.hypot.reduce(norms)) if norms else 0.0
