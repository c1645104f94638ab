"""Nulls: the analytic random walk against walks, the noise floor against real rounding, and the flags that follow from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_trajectories import CASES, Trajectory, made
from numpy.testing import assert_allclose

from trajsvc.measures import maps, norms, nulls


def test_random_walk_is_its_formula(case: Trajectory) -> None:
    for relative in (True, False):
        legs = [float(leg @ leg) for leg in case.basis[1 if relative else 0 :]]
        expected = np.full((len(legs), len(legs)), np.nan)
        for s in range(len(legs)):
            for t in range(len(legs)):
                near, far = sum(legs[: min(s, t) + 1]), sum(legs[: max(s, t) + 1])
                if near > 0:
                    expected[s, t] = near / np.sqrt(near * far)
        assert_allclose(nulls.random_walk(case.gram, relative), expected, rtol=1e-12)
        defined = expected[~np.isnan(expected)]
        assert_allclose(
            nulls.random_walk_mds(case.gram, relative), defined.mean() if defined.size else np.nan, rtol=1e-12
        )


def test_random_walk_is_what_walks_do() -> None:
    """In 40,000 dimensions a walk's own maps lie within a few 1/√P of the expectation, whatever its update norms."""
    g = np.random.default_rng(11)
    sizes = np.array([3.0, 0.1, 0.5, 2.0, 1.0, 1.0, 0.3, 4.0])
    walk = made(g.normal(size=40_000), g.normal(size=(8, 40_000)) * sizes[:, None])
    found = maps.trajectory_map(walk.gram, 0) - nulls.random_walk(walk.gram)
    assert np.abs(found).max() < 4 / np.sqrt(40_000)
    found = maps.trajectory_map(walk.gram) - nulls.random_walk(walk.gram, relative=False)
    assert np.abs(found).max() < 4 / np.sqrt(40_000)
    assert abs(maps.relative_mds(walk.gram) - nulls.random_walk_mds(walk.gram)) < 1 / np.sqrt(40_000)


def test_a_drift_is_not_a_walk() -> None:
    assert maps.relative_mds(CASES["ballistic"].gram) > nulls.random_walk_mds(CASES["ballistic"].gram) + 0.05


def rounding_of(values: np.ndarray) -> np.ndarray:
    """Σ ulp²/12 of float16 values, a row each."""
    return (np.spacing(np.abs(values).astype(np.float16)).astype(np.float64) ** 2).sum(axis=1) / 12


def test_noise_floor_is_the_error_that_rounding_makes() -> None:
    """Stored in float16, updates are off by their floor: the error of each is what the measure says, to a few percent."""
    g = np.random.default_rng(2)
    true = np.cumsum(np.vstack([g.normal(size=20_000), 0.02 * g.normal(size=(4, 20_000))]), axis=0)
    stored = true.astype(np.float16).astype(np.float64)
    trajectory = made(stored[0], np.diff(stored, axis=0))
    gram = replace(trajectory.gram, rounding=rounding_of(stored))
    error = np.linalg.norm(np.diff(stored, axis=0) - np.diff(true, axis=0), axis=1)
    assert_allclose(nulls.noise_floor(gram) * norms.update_norm(gram), error, rtol=0.05)
    assert not nulls.below_floor(gram).any()


def test_below_floor() -> None:
    start = np.ones(4)
    updates = np.array([[3.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 0], [0, 2.0, 0, 0]])
    gram = made(start, updates).gram
    known = replace(gram, rounding=np.array([2.0, 2.0, 2.0, 2.0, 2.0]))
    assert_allclose(nulls.noise_floor(known), [2 / 3, 2.0, np.nan, 1.0])
    assert nulls.below_floor(known).tolist() == [False, True, True, True]
    assert nulls.below_floor(known, share=0.5).tolist() == [True, True, True, True]
    unknown = replace(gram, rounding=np.array([2.0, np.nan, 2.0, 2.0, 2.0]))
    assert np.isnan(nulls.noise_floor(unknown)).tolist() == [True, True, True, False]
    assert nulls.below_floor(unknown).tolist() == [False, False, True, True]
    nothing = replace(gram, rounding=np.zeros(5))
    assert not nulls.below_floor(nothing).any()
    assert_allclose(nulls.noise_floor(nothing), [0, 0, np.nan, 0])


@pytest.mark.parametrize("origin", [None, 0, 30])
def test_entries_that_rest_on_rounding(case: Trajectory, origin: int | None) -> None:
    if origin is not None and origin not in case.steps:
        origin = int(case.steps[-1])
    g = np.random.default_rng(4)
    middle = np.median(norms.update_norm(case.gram)) ** 2 if len(case.steps) > 1 else 1.0
    rounding = g.uniform(0.2, 2.0, len(case.steps)) * float(middle)
    gram = replace(case.gram, rounding=rounding)

    def noise(i: int, j: int) -> bool:
        floor = rounding[i] + rounding[j]
        difference = case.points[i] - case.points[j]
        return bool(floor > 0 and float((difference * difference).sum()) <= floor)

    found = nulls.below_floor_map(gram, origin)
    assert found.shape == maps.trajectory_map(gram, origin).shape
    kept = list(range(len(case.steps)))
    if origin is None:
        expected = [[i != j and noise(i, j) for j in kept] for i in kept]
    else:
        point = case.steps.tolist().index(origin)
        kept.remove(point)
        expected = [[noise(i, point) or noise(j, point) for j in kept] for i in kept]
    assert found.tolist() == expected
