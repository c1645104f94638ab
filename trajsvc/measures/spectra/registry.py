"""Every measure of a spectrum under its own name, with its unit, definition and source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

import numpy as np

from trajsvc.errors import NotFound
from trajsvc.measures.base import Array
from trajsvc.measures.spectra import spectrum as of
from trajsvc.measures.spectra.power_law import PowerLaw, power_law
from trajsvc.measures.spectra.spectrum import Spectrum

_RANDOM: Final = "Rudelson & Vershynin (2007)"
_ROY: Final = "Roy & Vetterli (2007), of the squares"
_CLAUSET: Final = "Clauset et al. (2009), WeightWatcher"
_COMMON: Final = "common usage"
_SERVICE: Final = "trajsvc"


@dataclass(frozen=True)
class SpectrumMeasure:
    """One number of a matrix at a checkpoint. ``units``: ``1``, ``parameter`` (those of an element of W), or ``parameter²``."""

    name: str
    compute: Callable[[Spectrum, PowerLaw], float]
    units: str
    definition: str
    source: str


_ROWS: Final = (
    SpectrumMeasure("sigma_1", lambda s, p: of.sigma_1(s), "parameter", "σ_1 = ‖W‖_2", _COMMON),
    SpectrumMeasure("frobenius", lambda s, p: of.frobenius(s), "parameter", "‖W‖_F = √Σ σ_i²", _COMMON),
    SpectrumMeasure("stable_rank", lambda s, p: of.stable_rank(s), "1", "‖W‖_F² / σ_1²", _RANDOM),
    SpectrumMeasure(
        "effective_rank", lambda s, p: of.effective_rank(s), "1", "exp(−Σ p_i ln p_i), p_i = σ_i² / Σ σ_j²", _ROY
    ),
    SpectrumMeasure("participation_ratio", lambda s, p: of.participation_ratio(s), "1", "(Σ σ_i²)² / Σ σ_i⁴", _COMMON),
    SpectrumMeasure("rank", lambda s, p: of.rank(s), "1", "number of σ_i > max(m, n) ε σ_1", _COMMON),
    SpectrumMeasure(
        "power_law", lambda s, p: p.alpha, "1", "α of p(λ) ∝ λ^−α, λ ≥ λ_min, fitted to λ_i = σ_i²", _CLAUSET
    ),
    SpectrumMeasure("power_law_min", lambda s, p: p.least, "parameter²", "λ_min, where the fit begins", _CLAUSET),
    SpectrumMeasure("power_law_tail", lambda s, p: p.tail, "1", "number of λ_i ≥ λ_min", _CLAUSET),
    SpectrumMeasure(
        "power_law_distance", lambda s, p: p.distance, "1", "Kolmogorov–Smirnov distance of the fit from them", _CLAUSET
    ),
    SpectrumMeasure(
        "sigma_1_bound",
        lambda s, p: _bound(s, 0),
        "parameter",
        "how far sigma_1 may be from a singular value",
        _SERVICE,
    ),
    SpectrumMeasure(
        "sigma_bound",
        lambda s, p: _bound(s, None),
        "parameter",
        "the largest such bound of the σ_i that are kept",
        _SERVICE,
    ),
)
SPECTRUM_MEASURES: Final[Mapping[str, SpectrumMeasure]] = MappingProxyType({m.name: m for m in _ROWS})
"""In the order in which they are stored; new ones are added at the end."""
COLUMNS: Final = tuple(SPECTRUM_MEASURES)


def _bound(spectrum: Spectrum, which: int | None) -> float:
    if not spectrum.defined or not len(spectrum.bound):
        return np.nan
    return float(spectrum.bound.max() if which is None else spectrum.bound[which])


def measure_all(spectrum: Spectrum) -> Array:
    """Compute every measure, in the order of ``COLUMNS``."""
    fitted = power_law(spectrum)
    return np.array([m.compute(spectrum, fitted) for m in SPECTRUM_MEASURES.values()])


def chosen_measures(names: Sequence[str] | None) -> list[str]:
    """Return the measures called ``names``, all of them for None.

    Raises NotFound (``measure-not-found``) naming those that are close.
    """
    for name in names or ():
        if name not in SPECTRUM_MEASURES:
            close = get_close_matches(name, COLUMNS, n=3) or COLUMNS
            raise NotFound("measure-not-found", f"no measure {name!r} of spectra", hint=f"There is {', '.join(close)}.")
    return list(COLUMNS if names is None else dict.fromkeys(names))
