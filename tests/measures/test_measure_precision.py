"""Small quantities keep their digits: at any update size, and with products that are only good to 1e-7."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from made_trajectories import Trajectory, angle, curve, made, one_minus_cosine, table
from numpy.testing import assert_allclose

from trajsvc.measures import angles, maps, norms
from trajsvc.measures.base import SINGLE_ERROR, GroupGram
from trajsvc.measures.geometry import squared_distances
from trajsvc.measures.nulls import undefined

SIZES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]


def small_updates(size: float, seed: int = 3) -> Trajectory:
    g = np.random.default_rng(seed)
    start = g.normal(size=80)
    return made(start, size * (g.normal(size=(11, 80)) + 0.5 * g.normal(size=80)))


def rounded(gram: GroupGram, relative: float = 1e-7, seed: int = 0) -> GroupGram:
    """Every inner product off by up to ``relative`` of the product of the norms."""
    norm = np.sqrt(np.diag(gram.gram))
    error = np.random.default_rng(seed).uniform(-relative, relative, gram.gram.shape)
    return replace(gram, gram=gram.gram + np.outer(norm, norm) * (np.tril(error) + np.tril(error, -1).T))


def off_diagonal(values: np.ndarray) -> np.ndarray:
    return values[~np.eye(len(values), dtype=bool)]


@pytest.mark.parametrize("size", SIZES)
def test_angles_of_tiny_updates(size: float) -> None:
    made_small = small_updates(size)
    pairs = [(made_small.points[0], p) for p in made_small.points[1:]]
    assert_allclose(angles.apex_angle_origin(made_small.gram), curve(angle, pairs), rtol=1e-9)
    assert_allclose(
        angles.sweep_angle_origin(made_small.gram), curve(angle, list(pairwise(made_small.points))), rtol=1e-9
    )
    assert_allclose(angles.update_angle(made_small.gram), curve(angle, list(pairwise(made_small.updates))), rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_one_minus_cosine_of_tiny_updates(size: float) -> None:
    made_small = small_updates(size)
    expected = off_diagonal(table(one_minus_cosine, made_small.points))
    assert_allclose(off_diagonal(maps.dissimilarity_map(made_small.gram)), expected, rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_products_good_to_seven_digits_are_enough(size: float) -> None:
    exact = small_updates(size)
    pairs = [(exact.points[0], p) for p in exact.points[1:]]
    coarse = rounded(exact.gram)
    assert_allclose(angles.apex_angle_origin(coarse), curve(angle, pairs), rtol=1e-6)
    assert_allclose(angles.sweep_angle_origin(coarse), curve(angle, list(pairwise(exact.points))), rtol=1e-6)
    assert_allclose(angles.update_angle(coarse), curve(angle, list(pairwise(exact.updates))), rtol=1e-6)
    assert_allclose(norms.update_norm(coarse), norms.update_norm(exact.gram), rtol=1e-6)
    assert_allclose(norms.distance_from_init(coarse)[1:], norms.distance_from_init(exact.gram)[1:], rtol=1e-6)


def test_a_usual_float32_script_would_not_pass() -> None:
    """The same quantities from a float32 Gram of normalised points, as scripts have it, are noise: the bar above is no formality."""
    exact = small_updates(1e-5)
    points = np.array(exact.points, dtype=np.float32)
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosines = np.clip(np.diagonal(units @ units.T, 1), -1, 1)
    script = np.degrees(np.arccos(cosines.astype(np.float64)))
    assert np.abs(script / curve(angle, list(pairwise(exact.points))) - 1).max() > 0.1


def test_long_legs_outside_a_block_leave_no_error_in_it() -> None:
    """Updates of 1e8 before and after, of 1 between: the distance of the points between is right to the last digits."""
    g = np.random.default_rng(5)
    scale = np.array([1e8, 1e8, 1.0, 1.0, 1.0, 1e8])
    trajectory = made(1e8 * g.normal(size=30), g.normal(size=(6, 30)) * scale[:, None])
    d = squared_distances(trajectory.gram.gram)
    leg = trajectory.basis[3:6].sum(axis=0)
    assert_allclose(d[3, 6], leg @ leg, rtol=1e-13)


@pytest.mark.parametrize("loop", [2, 3, 5])
def test_a_repeated_checkpoint_is_recognised_through_rounding(loop: int) -> None:
    g = np.random.default_rng(loop)
    points = g.normal(size=(loop, 400)).astype(np.float32)
    visited = np.vstack([points, points[:1], points[1:2]])
    updates = np.diff(visited, axis=0).astype(np.float64)
    trajectory = made(visited[0].astype(np.float64), updates)
    coarse = replace(rounded(trajectory.gram, 5e-8), error=SINGLE_ERROR)
    assert undefined(coarse)["relative_points"] == 1
    assert norms.distance_from_init(coarse)[loop] == 0.0
    relative = maps.trajectory_map(coarse, 0)
    assert np.isnan(relative[loop - 1]).all()
    assert np.isfinite(np.delete(np.delete(relative, loop - 1, 0), loop - 1, 1)).all()
    selected = coarse.select([0, loop])
    assert undefined(selected) == {
        "points": 0, "updates": 1, "relative_points": 1, "map_cells": 0, "relative_map_cells": 1,
    }  # fmt: skip
    assert np.isnan(norms.tortuosity(selected))


def test_a_loop_that_does_not_close_is_kept() -> None:
    g = np.random.default_rng(1)
    walk = g.normal(size=(3, 200))
    almost = -walk.sum(axis=0) + 5e-3 * g.normal(size=200)
    trajectory = made(g.normal(size=200), np.vstack([walk, almost]))
    expected = np.linalg.norm(trajectory.basis[1:].sum(axis=0))
    assert_allclose(norms.distance_from_init(trajectory.gram)[-1], expected, rtol=1e-9)


@pytest.mark.parametrize("short_of", [1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("shrink", [1.0, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_updates_that_turn_back_keep_their_angle(short_of: float, shrink: float, seed: int) -> None:
    g = np.random.default_rng(seed)
    forth, aside = (v / np.linalg.norm(v) for v in g.normal(size=(2, 300)))
    aside -= (aside @ forth) * forth
    back = -shrink * (forth + short_of * aside / np.linalg.norm(aside))
    start = g.normal(size=300)
    gram = GroupGram.of_points(np.stack([start, start + forth, start + forth + back]).astype(np.longdouble))
    expected = 180.0 - np.degrees(np.arctan(short_of))
    assert_allclose(angles.update_angle(gram), [expected], rtol=1e-9)


def test_an_update_that_is_taken_back_turns_by_180_degrees() -> None:
    g = np.random.default_rng(0)
    for _ in range(50):
        start, update = g.normal(size=(2, 100))
        exact = np.stack([start, update, -update])
        assert angles.update_angle(GroupGram("g", np.arange(3), exact @ exact.T, 100, np.zeros(3)))[0] == 180.0
