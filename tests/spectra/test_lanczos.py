"""The largest singular values from a stream: their bounds hold, and they are what torch finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from made_checkpoints import Array, oracle
from test_exact import matrix, panels, with_values

from trajsvc.errors import LimitExceeded
from trajsvc.measures.spectra.registry import COLUMNS, measure_all
from trajsvc.spectra.lanczos import BLOCK, WANTED, lanczos_bytes, largest_spectrum

MUCH = 2**30
RNG = np.random.default_rng(0)
CASES: dict[str, Array] = {
    "decaying": with_values(400, 300, 0.9 ** np.arange(300)),
    "random": RNG.normal(size=(500, 300)),
    "wide": with_values(150, 600, 1.0 / (1 + np.arange(150))),
    "near equal": with_values(300, 200, np.where(np.arange(200) < 5, 1 + 1e-9 * np.arange(200, 0, -1), 0.3)),
    "rank three": with_values(300, 200, np.array([5.0, 2.0, 1.0])),
    "a gap": with_values(300, 200, np.where(np.arange(200) < 1, 1e6, 1.0)),
    "huge": 1e200 * with_values(300, 200, 0.9 ** np.arange(200)),
    "tiny": 1e-200 * with_values(300, 200, 0.9 ** np.arange(200)),
    "small": RNG.normal(size=(9, 5)),
}


def stream(values: Array) -> Callable[[], Iterable[tuple[int, Array]]]:
    return lambda: panels(values, 64)


@pytest.mark.parametrize("name", CASES)
def test_every_bound_holds(name: str) -> None:
    values = CASES[name]
    found, true = largest_spectrum(matrix(*values.shape), stream(values), MUCH), oracle(values)
    assert 1 <= len(found.values) <= WANTED
    off = np.abs(true[None, :] - found.values[:, None]).min(axis=1)
    assert (off <= found.bound).all()
    assert abs(found.values[0] - true[0]) <= found.bound[0] <= 1e-6 * true[0]
    assert found.norm == pytest.approx(float(np.sqrt(np.square(true / true[0]).sum())) * true[0], rel=1e-12)


@pytest.mark.parametrize("name", ["decaying", "wide", "near equal", "rank three", "a gap"])
def test_the_values_are_the_largest_in_order(name: str) -> None:
    values = CASES[name]
    found, true = largest_spectrum(matrix(*values.shape), stream(values), MUCH), oracle(values)
    k = len(found.values)
    assert np.abs(found.values - true[:k]).max() <= 1e-6 * true[0]


def test_few_passes_give_wider_bounds_that_hold() -> None:
    values = CASES["random"]
    size = matrix(*values.shape)
    few = largest_spectrum(size, stream(values), lanczos_bytes(size, 3))
    true = oracle(values)
    assert (np.abs(true[None, :] - few.values[:, None]).min(axis=1) <= few.bound).all()
    assert few.bound[0] > largest_spectrum(size, stream(values), MUCH).bound[0]
    assert few.values[0] <= true[0] * (1 + 1e-12)


def test_the_matrix_is_read_by_panels_as_often_as_said() -> None:
    values, passes = CASES["random"], 0

    def counted() -> Iterable[tuple[int, Array]]:
        nonlocal passes
        passes += 1
        return panels(values, 64)

    size = matrix(*values.shape)
    largest_spectrum(size, counted, lanczos_bytes(size, 5))
    assert passes == 1 + 5 + 1  # the norm, five steps, the residuals


def test_what_needs_all_singular_values_is_undefined() -> None:
    values = CASES["decaying"]
    found = dict(zip(COLUMNS, measure_all(largest_spectrum(matrix(*values.shape), stream(values), MUCH)), strict=True))
    true = oracle(values)
    assert found["stable_rank"] == pytest.approx(np.square(true).sum() / true[0] ** 2, rel=1e-9)
    for name in ("effective_rank", "participation_ratio", "rank", "power_law"):
        assert np.isnan(found[name])


def test_zero_and_not_finite() -> None:
    zero = largest_spectrum(matrix(50, 40), stream(np.zeros((50, 40))), MUCH)
    assert (zero.values.tolist(), zero.norm) == ([0.0], 0.0)
    bad = np.ones((50, 40))
    bad[3, 3] = np.inf
    assert not largest_spectrum(matrix(50, 40), stream(bad), MUCH).defined


def test_a_budget_without_room_for_the_basis_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="budget") as caught:
        largest_spectrum(matrix(10_000, 10_000), stream(np.zeros((1, 1))), 8 * 10_000 * BLOCK)
    assert caught.value.kind == "memory-budget"
