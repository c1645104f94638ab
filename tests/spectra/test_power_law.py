"""The fit of a power law against WeightWatcher, and the definition of Clauset et al. written out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from made_checkpoints import Array

from trajsvc.measures.spectra.power_law import LEAST, fit, power_law
from trajsvc.spectra.exact import whole_spectrum


def weights(seed: int, rows: int = 300, columns: int = 120) -> Array:
    """A matrix with heavy tails, as trained ones have."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_t(2.5, size=(rows, columns)) / np.sqrt(rows))


MATRICES = [weights(0), weights(1, 128, 128), weights(2, 60, 200), np.random.default_rng(3).normal(size=(200, 100))]


def by_definition(values: Array) -> tuple[float, float, float]:
    """(α, x_min, D) of the least D over every x_min but the largest."""
    x, found = np.sort(values), []
    for least in x[:-1]:
        tail = x[x >= least]
        alpha = 1 + len(tail) / np.log(tail / least).sum()
        model = 1 - (tail / least) ** (1 - alpha)
        found.append((float(np.abs(model - np.arange(len(tail)) / len(tail)).max()), float(alpha), float(least)))
    best = min(found)
    return best[1], best[2], best[0]


@pytest.mark.parametrize("values", MATRICES, ids=range(len(MATRICES)))
def test_the_fit_is_the_definition(values: Array) -> None:
    found = power_law(whole_spectrum(values))
    alpha, least, distance = by_definition(np.square(np.linalg.svd(values, compute_uv=False)))
    assert (found.alpha, found.least, found.distance) == pytest.approx((alpha, least, distance), rel=1e-9)


@pytest.mark.slow  # importing it takes seconds
@pytest.mark.parametrize("values", MATRICES, ids=range(len(MATRICES)))
def test_the_fit_is_that_of_weightwatcher(values: Array) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from weightwatcher.WW_powerlaw import WWFit

        theirs = WWFit(np.square(np.linalg.svd(values, compute_uv=False)))
    found = power_law(whole_spectrum(values))
    assert (found.alpha, found.least, found.distance) == pytest.approx((theirs.alpha, theirs.xmin, theirs.D), rel=1e-9)
    assert found.tail == len(theirs.data)


def test_a_known_exponent_comes_back() -> None:
    uniform = np.random.default_rng(5).random(20_00)
    for alpha in (2.0, 3.5):
        found = fit((1 - uniform) ** (-1 / (alpha - 1)))
        assert found.alpha == pytest.approx(alpha, rel=0.1)
        assert found.distance < 0.05


def test_few_values_and_equal_values() -> None:
    assert np.isnan(fit(np.arange(1.0, LEAST)).alpha)
    assert np.isfinite(fit(np.arange(1.0, LEAST + 1)).alpha)
    assert np.isnan(fit(np.ones(50)).alpha)


def test_the_exponent_does_not_depend_on_the_scale() -> None:
    one, other = (power_law(whole_spectrum(c * MATRICES[0])) for c in (1.0, 1e150))
    assert one.alpha == pytest.approx(other.alpha, rel=1e-9)
    assert other.tail == one.tail
