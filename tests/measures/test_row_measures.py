"""Measures of rows against plain numpy on explicit matrices: concentration, who moves, angles, overlap, selections, degenerate updates."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from trajsvc.measures.row_statistics import COLUMNS, RowStatistics, largest, statistics_of

ROWS, WIDTH, STEPS = 40, 6, 5


def matrices() -> NDArray[np.float64]:
    """(T, rows, width): row 0 never moves, row 1 alone in the last update."""
    rng = np.random.default_rng(3)
    points = rng.standard_normal((1, ROWS, WIDTH)) + 0.1 * np.cumsum(rng.standard_normal((STEPS, ROWS, WIDTH)), axis=0)
    points[:, 0] = 1.0
    points[-1] = points[-2]
    points[-1, 1] += 1e-4
    return points


def norms(points: NDArray[np.float64]) -> NDArray[np.float64]:
    update = np.diff(points, axis=0, prepend=points[:1])
    parts = [(v * v).sum(axis=-1).T for v in (update, points - points[0], points)]
    return np.stack(parts, axis=1)


def column(found: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    return found[:, COLUMNS.index(name)]


def test_numbers_are_those_of_the_matrices() -> None:
    points = matrices()
    found = statistics_of(norms(points))
    assert np.isnan(found[0]).all()
    for t in range(1, STEPS):
        energy = ((points[t] - points[t - 1]) ** 2).sum(axis=1)
        top = np.sort(energy)[-2:].sum()  # 5 % of 40
        assert_allclose(column(found, "top_share")[t], top / energy.sum(), rtol=1e-12)
        assert_allclose(column(found, "participation")[t], energy.sum() ** 2 / (ROWS * (energy**2).sum()), rtol=1e-12)
        assert column(found, "still")[t] == (energy == 0).mean()
        assert column(found, "never")[t] == 1 / ROWS
        cosines = (points[t] * points[t - 1]).sum(1) / np.sqrt((points[t] ** 2).sum(1) * (points[t - 1] ** 2).sum(1))
        angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        if t < STEPS - 1:  # angles of 1e-4 are noise in an arccos
            assert_allclose(column(found, "angle")[t], np.median(angles), rtol=1e-9)
            low, high = np.percentile(angles, [5, 95])
            assert_allclose(column(found, "spread")[t], high - low, rtol=1e-9)
    assert column(found, "participation")[-1] == 1 / ROWS
    assert column(found, "top_share")[-1] == 1.0


def test_overlap_is_of_the_rows_that_move_most() -> None:
    points = matrices()
    found = statistics_of(norms(points))
    sets = [set(np.flatnonzero(largest(((points[t] - points[t - 1]) ** 2).sum(1))).tolist()) for t in range(1, STEPS)]
    assert sets[-1] == {1}
    for t in range(2, STEPS):
        a, b = sets[t - 2], sets[t - 1]
        assert column(found, "overlap")[t] == len(a & b) / len(a | b)
        p, q = len(a) / ROWS, len(b) / ROWS
        assert_allclose(column(found, "chance")[t], p * q / (p + q - p * q))


def test_chance_is_what_random_sets_have() -> None:
    rng = np.random.default_rng(0)
    energy = rng.random((200, 3, 400))
    found = statistics_of(energy)
    assert_allclose(np.nanmean(column(found, "overlap")), np.nanmean(column(found, "chance")), rtol=0.1)


def test_an_update_that_is_zero_has_no_concentration() -> None:
    points = np.ones((3, 4, 2))
    found = statistics_of(norms(points))
    assert np.isnan(column(found, "top_share")[1:]).all()
    assert np.isnan(column(found, "participation")[1:]).all()
    assert column(found, "still")[1:].tolist() == [1.0, 1.0]
    assert column(found, "angle")[1:].tolist() == [0.0, 0.0]
    assert np.isnan(column(found, "overlap")).all()


def test_no_rows_and_values_that_are_not_finite_are_undefined() -> None:
    assert np.isnan(statistics_of(np.zeros((0, 3, 4)))).all()
    points = matrices()
    points[1, 3, 2] = np.inf
    with np.errstate(invalid="ignore"):
        found = statistics_of(norms(points))
    assert np.isnan(found[1:3]).all()
    assert np.isfinite(found[3, : COLUMNS.index("overlap")]).all()


def test_a_selection_knows_neighbours_only_and_computes_once() -> None:
    asked = []

    def load() -> NDArray[np.float64]:
        asked.append(1)
        return statistics_of(norms(matrices()))

    whole = RowStatistics.lazy(load)
    some = whole.select(np.array([0, 2, 3, 4]))
    every, found = whole.columns(), some.columns()
    assert every is not None
    assert found is not None
    assert np.isnan(found[1]).all()
    assert_array_equal(found[2][:6], every[3][:6])
    assert np.isnan(found[2][6:]).all()
    assert_array_equal(found[3], every[4])
    assert len(asked) == 1
