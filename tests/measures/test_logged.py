"""Logged quantities at checkpoints, and correlations at lags against numpy's."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from trajsvc.measures.logged import at_checkpoints, lagged_correlation


def test_values_between_entries_are_marked() -> None:
    values, logged = at_checkpoints(np.array([0, 5, 10, 25, 40]), [5, 10, 30], [2.0, 1.0, 5.0])
    assert_allclose(values, [np.nan, 2.0, 1.0, 4.0, np.nan])
    assert logged.tolist() == [False, True, True, False, False]


def test_every_lag_is_that_of_the_shifted_curves() -> None:
    g = np.random.default_rng(2)
    a, b = g.normal(size=20), g.normal(size=20)
    b[[3, 11]] = np.nan
    found = lagged_correlation(a, b, 5)
    assert found.lag.tolist() == list(range(-5, 6))
    for k, value, pairs in zip(found.lag.tolist(), found.value, found.pairs, strict=True):
        at = [(a[t], b[t + k]) for t in range(20) if 0 <= t + k < 20 and np.isfinite(b[t + k])]
        assert pairs == len(at)
        assert_allclose(value, np.corrcoef(np.array(at).T)[0, 1], rtol=1e-12)


def test_a_curve_that_follows_is_found_at_its_lag() -> None:
    a = np.random.default_rng(4).normal(size=40)
    found = lagged_correlation(a, np.concatenate([np.zeros(3), a[:-3]]))
    assert found.lag[np.nanargmax(found.value)] == 3
    assert_allclose(np.nanmax(found.value), 1.0)


def test_what_has_no_correlation() -> None:
    assert np.isnan(lagged_correlation(np.ones(8), np.arange(8.0)).value).all()
    short = lagged_correlation(np.arange(2.0), np.arange(2.0))
    assert short.lag.tolist() == [0]
    assert np.isnan(short.value).all()
    huge = lagged_correlation(1e150 * np.arange(6.0), -np.arange(6.0), 0)
    assert_allclose(huge.value, [-1.0])
