"""All singular values against torch in float64: shapes, ranks, near-equal values, and both ways of computing them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from made_checkpoints import Array, oracle

from trajsvc.measures.spectra import spectrum as measures
from trajsvc.measures.spectra.registry import COLUMNS, measure_all
from trajsvc.spectra.decompose import decompose, method_for, needed_bytes
from trajsvc.spectra.exact import frobenius_norm, streamed_spectrum, whole_spectrum
from trajsvc.spectra.matrices import Matrix

EPSILON = np.finfo(np.float64).eps


def matrix(rows: int, columns: int) -> Matrix:
    return Matrix("w", "w", "", "", "", 0, columns, 0, rows, 0, columns)


def panels(values: Array, height: int = 7) -> Iterable[tuple[int, Array]]:
    return [(lo, values[lo : lo + height]) for lo in range(0, len(values), height)]


def with_values(rows: int, columns: int, sigma: Array, seed: int = 0) -> Array:
    """A matrix with the singular values ``sigma``, to rounding."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(rows, len(sigma))))[0]
    right = np.linalg.qr(rng.normal(size=(columns, len(sigma))))[0]
    return np.asarray((left * sigma) @ right.T)


CASES = {
    "square": np.random.default_rng(1).normal(size=(40, 40)),
    "tall": np.random.default_rng(2).normal(size=(200, 30)),
    "wide": np.random.default_rng(3).normal(size=(30, 200)),
    "one row": np.random.default_rng(4).normal(size=(1, 50)),
    "one column": np.random.default_rng(5).normal(size=(50, 1)),
    "rank three": with_values(60, 20, np.array([5.0, 2.0, 1.0])),
    "near equal": with_values(60, 20, 1 + 1e-12 * np.arange(20, 0, -1)),
    "graded": with_values(60, 20, 10.0 ** -np.arange(20)),
    "huge": 1e200 * np.random.default_rng(6).normal(size=(60, 20)),
    "tiny": 1e-200 * np.random.default_rng(7).normal(size=(60, 20)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
def test_the_singular_values_are_those_of_torch(name: str, device: str) -> None:
    values = CASES[name]
    found, true = whole_spectrum(values, device), oracle(values)
    assert found.complete
    assert np.abs(found.values - true).max() <= 2 * found.bound.max() <= 3 * max(values.shape) * EPSILON * true[0]
    assert found.norm == pytest.approx(float(np.sqrt(np.square(true / true[0]).sum())) * true[0], rel=1e-13)


@pytest.mark.parametrize("name", [name for name, values in CASES.items() if values.shape[0] >= values.shape[1]])
def test_a_streamed_qr_has_the_same_singular_values(name: str) -> None:
    values = CASES[name]
    found, true = streamed_spectrum(matrix(*values.shape), panels(values)), oracle(values)
    assert found.complete
    assert np.abs(found.values - true).max() <= max(values.shape) * EPSILON * true[0]
    assert found.norm == pytest.approx(float(np.sqrt(np.square(true / true[0]).sum())) * true[0], rel=1e-13)


def test_small_singular_values_keep_their_digits_where_a_gram_loses_them() -> None:
    sigma = 10.0 ** -np.arange(12)
    values = with_values(60, 12, sigma)
    found = whole_spectrum(values)
    by_gram = np.sqrt(np.abs(np.linalg.eigvalsh(values.T @ values)[::-1]))
    assert np.abs(found.values / sigma - 1).max() < 1e-3
    assert np.abs(by_gram / sigma - 1).max() > 1


@pytest.mark.parametrize("name", CASES)
def test_measures_are_their_definitions(name: str) -> None:
    values = CASES[name]
    found, true = whole_spectrum(values), oracle(values)
    p = np.square(true / true[0])
    q = p[p > 0] / p.sum()
    assert measures.sigma_1(found) == pytest.approx(true[0], rel=1e-13)
    assert measures.stable_rank(found) == pytest.approx(p.sum(), rel=1e-12)
    assert measures.effective_rank(found) == pytest.approx(np.exp(-(q * np.log(q)).sum()), rel=1e-12)
    assert measures.participation_ratio(found) == pytest.approx(p.sum() ** 2 / (p * p).sum(), rel=1e-12)
    assert measures.rank(found) == np.linalg.matrix_rank(values)


def test_a_zero_matrix_has_sigma_zero_and_no_ranks() -> None:
    found = dict(zip(COLUMNS, measure_all(whole_spectrum(np.zeros((9, 4)))), strict=True))
    assert (found["sigma_1"], found["frobenius"], found["rank"]) == (0, 0, 0)
    for name in ("stable_rank", "effective_rank", "participation_ratio", "power_law", "power_law_distance"):
        assert np.isnan(found[name])
    assert streamed_spectrum(matrix(9, 4), panels(np.zeros((9, 4)))).values.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_matrix_that_is_not_finite_has_no_measure(bad: float) -> None:
    values = np.ones((30, 4))
    values[17, 2] = bad
    for found in (whole_spectrum(values), streamed_spectrum(matrix(30, 4), panels(values))):
        assert not found.defined
        assert np.isnan(measure_all(found)).all()


def test_the_norm_neither_overflows_nor_vanishes() -> None:
    assert frobenius_norm([np.full((2, 2), 1e300)]) == pytest.approx(2e300)
    assert frobenius_norm([np.full((2, 2), 1e-300)]) == pytest.approx(2e-300)
    assert frobenius_norm([]) == 0


@pytest.mark.parametrize(("budget", "method"), [(2**30, "svd"), (2**26, "qr"), (2**24, "lanczos")])
def test_the_method_follows_the_budget(budget: int, method: str) -> None:
    assert method_for(matrix(200_000, 200), budget) == method
    assert method_for(matrix(200, 200_000), budget) == ("svd" if method == "svd" else "lanczos")
    assert budget < 2**25 or needed_bytes(matrix(200_000, 200), budget) <= budget


def test_exact_methods_agree_on_a_matrix_that_both_take() -> None:
    values = np.random.default_rng(8).normal(size=(6000, 40))
    tall = matrix(*values.shape)
    whole, method = decompose(tall, lambda: panels(values, 1000), 2**28)
    assert method == "svd"
    assert np.abs(whole.values - streamed_spectrum(tall, panels(values, 1000)).values).max() <= 2 * whole.bound.max()
