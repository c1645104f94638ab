"""The singular values σ_1 ≥ σ_2 ≥ … of an m × n matrix W, and what is measured on them.

Everything is of float64 values. Squares are formed of σ_i / σ_1, so that none overflows. Of the zero matrix σ and ‖W‖_F are 0 and the
ratios are undefined (NaN); of a matrix with NaN or infinite values all is undefined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trajsvc.measures.base import Array

EPSILON: Final = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Spectrum:
    """Singular values, (k), descending.

    ``complete`` says that they are all min(m, n) of them; else they are the largest. ``bound`` (k) is how far each may be from a
    singular value of the matrix, in its units. ``norm`` is ‖W‖_F.
    """

    values: Array
    rows: int
    columns: int
    norm: float
    complete: bool
    bound: Array

    @property
    def defined(self) -> bool:
        return bool(np.isfinite(self.norm)) and bool(np.isfinite(self.values).all())

    @property
    def shares(self) -> Array:
        """(σ_i / σ_1)², (k)."""
        return np.asarray(np.square(self.values / self.values[0]))


def undefined(rows: int, columns: int) -> Spectrum:
    """Return the spectrum of a matrix with NaN or infinite values."""
    return Spectrum(np.empty(0), rows, columns, np.nan, False, np.empty(0))


def floor(spectrum: Spectrum) -> float:
    """Return max(m, n) ε σ_1: what the rounding of a backward stable algorithm in float64 may leave of a singular value 0."""
    return max(spectrum.rows, spectrum.columns) * EPSILON * sigma_1(spectrum)


def sigma_1(spectrum: Spectrum) -> float:
    """Return σ_1 = ‖W‖_2, the largest singular value, in units of a parameter."""
    if not spectrum.defined:
        return np.nan
    return float(spectrum.values[0]) if len(spectrum.values) else 0.0


def frobenius(spectrum: Spectrum) -> float:
    """Return ‖W‖_F = √Σ W_ij² = √Σ σ_i², in units of a parameter; of the elements, and so exact whatever σ are known."""
    return spectrum.norm


def stable_rank(spectrum: Spectrum) -> float:
    """Return ‖W‖_F² / σ_1², between 1 and the rank; NaN of the zero matrix.

    Rudelson & Vershynin, "Sampling from large matrices" (2007).
    """
    largest = sigma_1(spectrum)
    return float((spectrum.norm / largest) ** 2) if largest > 0 else np.nan


def effective_rank(spectrum: Spectrum) -> float:
    """Return exp(−Σ p_i ln p_i) with p_i = σ_i² / Σ σ_j²: the exponential of the entropy of the squares, between 1 and the rank.

    Roy & Vetterli, "The effective rank" (2007), take p_i = σ_i / Σ σ_j; the squares are the shares of ‖W‖_F², as in the stable rank
    and the participation ratio. NaN of the zero matrix and where not all σ are known.
    """
    if not _whole(spectrum):
        return np.nan
    shares = spectrum.shares[spectrum.shares > 0]
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def participation_ratio(spectrum: Spectrum) -> float:
    """Return (Σ σ_i²)² / Σ σ_i⁴, between 1 and the rank; NaN of the zero matrix and where not all σ are known."""
    if not _whole(spectrum):
        return np.nan
    shares = spectrum.shares
    return float(shares.sum() ** 2 / np.square(shares).sum())


def rank(spectrum: Spectrum) -> float:
    """Return how many σ_i are above ``floor``, as ``numpy.linalg.matrix_rank`` counts; 0 of the zero matrix, NaN where not all σ are
    known."""
    if not spectrum.defined or not spectrum.complete:
        return np.nan
    return float(np.count_nonzero(spectrum.values > floor(spectrum)))


def _whole(spectrum: Spectrum) -> bool:
    return spectrum.defined and spectrum.complete and sigma_1(spectrum) > 0
