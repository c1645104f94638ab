"""The power law p(λ) ∝ λ^−α of the tail of the eigenvalues λ_i = σ_i² of WᵀW.

Clauset, Shalizi & Newman, "Power-law distributions in empirical data" (2009), as WeightWatcher (Martin & Mahoney) applies it to weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trajsvc.measures.base import Array
from trajsvc.measures.spectra.spectrum import Spectrum, floor

LEAST: Final = 20
"""Eigenvalues below which no exponent is given: the fit of fewer depends on the rule that chooses its range."""


@dataclass(frozen=True)
class PowerLaw:
    """A fit: ``alpha`` of the ``tail`` eigenvalues from ``least`` to the largest, ``distance`` from them by Kolmogorov and Smirnov."""

    alpha: float
    least: float
    tail: float
    distance: float


NONE: Final = PowerLaw(np.nan, np.nan, np.nan, np.nan)


def power_law(spectrum: Spectrum) -> PowerLaw:
    """Fit the eigenvalues σ_i² of a matrix above rounding; undefined where not all σ are known, or fewer than ``LEAST`` are left."""
    if not spectrum.defined or not spectrum.complete or not len(spectrum.values) or spectrum.values[0] == 0:
        return NONE
    largest = float(spectrum.values[0])
    found = fit(spectrum.shares[spectrum.values > floor(spectrum)])
    return PowerLaw(found.alpha, found.least * largest * largest, found.tail, found.distance)


def fit(values: Array) -> PowerLaw:
    """Fit p(x) ∝ x^−α, x ≥ x_min, to the tail of positive ``values``, (n).

    For every x_min among them but the largest, with the n' values from it on, α = 1 + n' / Σ ln(x_i / x_min) (maximum likelihood) and
    D = max_i |1 − (x_i / x_min)^(1 − α) − i / n'|, i = 0 … n' − 1. The x_min of the least D is chosen.
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    n = len(x)
    if n < LEAST:
        return NONE
    logs = np.log(x)
    tails = np.cumsum(logs[::-1])[::-1]
    best = NONE
    for i in range(n - 1):
        if i and x[i] == x[i - 1]:
            continue  # equal values are in the tail together
        count = n - i
        total = tails[i] - count * logs[i]
        if total <= 0:
            continue
        alpha = 1 + count / total
        model = -np.expm1((1 - alpha) * (logs[i:] - logs[i]))
        distance = float(np.abs(model - np.arange(count) / count).max())
        if not best.distance <= distance:
            best = PowerLaw(float(alpha), float(x[i]), float(count), distance)
    return best
