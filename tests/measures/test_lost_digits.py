"""Points far smaller than a point before them: as exact as is promised, or undefined, never a wrong number."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from trajsvc.measures import angles, maps, norms
from trajsvc.measures.base import LARGEST_ERROR, SINGLE_ERROR, GroupGram

Array = NDArray[np.float64]


def group(points: Array) -> GroupGram:
    basis = np.concatenate([points[:1], np.diff(points, axis=0)])
    _, same = np.unique(points, axis=0, return_inverse=True)
    return GroupGram(
        "g", np.arange(len(points)), basis @ basis.T, points.shape[1], np.zeros(len(points)), same=same.reshape(-1)
    )


def walk(steps: int, size: float, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(2000)
    moves = size * rng.standard_normal((steps, 2000))
    moves[0] = 0.0
    return np.asarray(start + np.cumsum(moves, axis=0))


def right_or_undefined(found: Array, wanted: Array, rtol: float = LARGEST_ERROR) -> int:
    """Checks every defined value; returns how many are not."""
    defined = ~np.isnan(found)
    np.testing.assert_allclose(found[defined], np.asarray(wanted)[defined], rtol=rtol)
    return int((~defined).sum())


def cosines(vectors: Array) -> Array:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


@pytest.mark.parametrize("steps", [2, 3, 20, 300])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-8])
def test_a_usual_run_has_nothing_undefined(steps: int, size: float) -> None:
    points = walk(steps, size)
    found = group(points)
    assert right_or_undefined(norms.norm(found), np.linalg.norm(points, axis=1)) == 0
    assert (
        right_or_undefined(norms.distance_from_init(found)[1:], np.linalg.norm(points[1:] - points[0], axis=1), 1e-7)
        == 0
    )
    assert not np.isnan(maps.trajectory_map(found, 0)).any()


@pytest.mark.parametrize("factor", [10.0, 1e3, 1e5, 1e-6])
def test_one_checkpoint_far_from_the_others(factor: float) -> None:
    points = walk(20, 1e-3)
    points[7] *= factor
    found = group(points)
    lost = right_or_undefined(norms.norm(found), np.linalg.norm(points, axis=1))
    assert lost == {10.0: 0, 1e3: 12, 1e5: 12, 1e-6: 1}[factor]
    tm = maps.trajectory_map(found)
    defined = ~np.isnan(tm)
    np.testing.assert_allclose(tm[defined], cosines(points)[defined], atol=1e-9)
    kept = np.delete(np.arange(20), 7)
    without = found.select(kept)
    right_or_undefined(norms.update_norm(without), np.linalg.norm(np.diff(points[kept], axis=0), axis=1))
    relative = maps.trajectory_map(without, 0)
    defined = ~np.isnan(relative)
    np.testing.assert_allclose(relative[defined], cosines(points[kept][1:] - points[0])[defined], atol=1e-6)


@pytest.mark.parametrize("shrink", [0.5, 0.01, 2.0, 100.0])
def test_parameters_that_shrink_or_grow_at_every_step(shrink: float) -> None:
    points = walk(8, 1e-2) * shrink ** np.arange(8)[:, None]
    found = group(points)
    lost = right_or_undefined(norms.norm(found), np.linalg.norm(points, axis=1))
    assert (lost > 0) == (shrink == 0.01)
    right_or_undefined(angles.sweep_angle_origin(found), [_angle(a, b) for a, b in pairwise(points)], 1e-6)


def test_a_return_is_exact_and_what_float32_made_is_read_as_it_was() -> None:
    points = walk(6, 1e-2)
    points[4] = points[1]
    found = group(points)
    assert maps.trajectory_map(found)[1, 4] == 1.0
    assert norms.update_norm(found.select([1, 4]))[0] == 0.0
    rough = GroupGram(found.group, found.steps, found.gram, found.parameters, found.rounding, SINGLE_ERROR)
    assert not np.isnan(norms.norm(rough)).any()
    assert norms.update_norm(rough.select([1, 4]))[0] == 0.0


def _angle(a: Array, b: Array) -> float:
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))
