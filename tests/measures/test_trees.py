"""Bases that go round what is far away: exact where the update basis loses digits, and undefined where float64 ends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from trajsvc.gram import spanning
from trajsvc.measures import angles, correlations, maps, norms, variance
from trajsvc.measures.base import GroupGram
from trajsvc.measures.trees import Tree

Array = NDArray[np.float64]
SIZE = 400


def walk(steps: int, size: float, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    moves = size * rng.standard_normal((steps, SIZE))
    return np.asarray(rng.standard_normal(SIZE) + np.cumsum(moves, axis=0))


def group(points: Array, halves: int = 2) -> GroupGram:
    """The points in a tree of their own for each part of the coordinates."""
    trees = []
    for part in np.array_split(points, halves, axis=1):
        starts = spanning.grown(spanning.distances(part @ part.T))
        legs = part - np.vstack([np.zeros(part.shape[1]), part])[starts]
        trees.append(Tree(starts, legs @ legs.T))
    every = np.arange(len(points))
    nothing = np.zeros((len(points), len(points)))
    whole = GroupGram("g", every, nothing, points.shape[1], np.zeros(len(points)))
    return whole.along(tuple(trees), every, every)


def corrupted(factor: float) -> Array:
    points = walk(16, 1e-3)
    points[6] *= factor
    return points


def flipped() -> Array:
    points = walk(16, 1e-3)
    points[6, 3] = 1e9
    return points


def foreign() -> Array:
    points = walk(16, 1e-3)
    points[6] = walk(1, 1.0, 5)[0]
    return points


CASES = {
    "ten times too large": corrupted(10.0),
    "a thousand times too large": corrupted(1e3),
    "a hundred thousand times too large": corrupted(1e5),
    "a millionth": corrupted(1e-6),
    "another model's": foreign(),
    "one element": flipped(),
    "shrinking a hundredfold": walk(9, 1e-2) * 0.01 ** np.arange(9)[:, None],
    "growing a hundredfold": walk(9, 1e-2) * 100.0 ** np.arange(9)[:, None],
    "halving": walk(40, 1e-2) * 0.5 ** np.arange(40)[:, None],
    "updates of 1e-8": walk(20, 1e-8),
    "two points": walk(2, 1e-3),
    "long": np.concatenate([walk(100, 1e-3), 1e-4 * walk(100, 1e-3, 1)]),
}


@pytest.mark.parametrize("without", [None, 6], ids=["all", "without the sixth"])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_measure_has_its_digits(name: str, without: int | None) -> None:
    points, found = CASES[name], group(CASES[name])
    if without is not None and len(points) > without:
        kept = np.delete(np.arange(len(points)), without)
        points, found = points[kept], found.select(kept)
    exact = points.astype(np.longdouble)
    moves = np.diff(exact, axis=0)
    same = {"rtol": 1e-9, "atol": 0.0}
    np.testing.assert_allclose(norms.norm(found), length(exact), **same)
    np.testing.assert_allclose(norms.update_norm(found), length(moves), **same)
    np.testing.assert_allclose(norms.distance_from_init(found)[1:], length(exact[1:] - exact[0]), **same)
    np.testing.assert_allclose(maps.trajectory_map(found), cosines(exact), atol=1e-12)
    for origin in (0, len(points) // 2, len(points) - 1):
        about = np.delete(exact, origin, axis=0) - exact[origin]
        step = int(found.steps[origin])
        np.testing.assert_allclose(maps.trajectory_map(found, step), cosines(about), atol=1e-12)
    assert maps.mds(found) == pytest.approx(float(cosines(exact).mean()), rel=1e-12)
    np.testing.assert_allclose(correlations.update_map(found), cosines(moves), atol=1e-12)
    turned = [angle(b - a, a) for a, b in pairwise(exact)]
    np.testing.assert_allclose(angles.update_location_angle(found), turned, rtol=1e-9, atol=1e-6)  # degrees near 180
    assert np.isfinite(variance.explained_variance(found)).all() or len(points) < 3


def test_a_point_beyond_float64_is_undefined_and_the_others_are_not() -> None:
    points = walk(8, 1e-2)
    points[3] = 1e200
    with np.errstate(over="ignore", invalid="ignore"):
        found = group(points)
    assert np.isnan(norms.norm(found)).tolist() == [t == 3 for t in range(8)]
    kept = np.delete(np.arange(8), 3)
    np.testing.assert_allclose(maps.trajectory_map(found)[np.ix_(kept, kept)], cosines(points[kept]), atol=1e-12)
    np.testing.assert_allclose(norms.update_norm(found.select(kept)), length(np.diff(points[kept], axis=0)), rtol=1e-12)


def test_a_leg_that_is_nearly_nothing_is_no_zero() -> None:
    tree = Tree(np.array([0, 1]), np.diag([1.0, 2.0**-1000]))
    every = np.arange(2)
    found = GroupGram("g", every, np.zeros((2, 2)), 1, np.zeros(2)).along((tree,), every, every)
    assert np.isnan(norms.update_norm(found)).all()


def test_a_unit_reaches_every_length() -> None:
    found = group(walk(6, 1e-2))
    larger = GroupGram(**{**vars(found), "scale": 600})
    for measure in (norms.norm, norms.update_norm, norms.distance_from_init, norms.path_length, norms.update_rms):
        np.testing.assert_allclose(measure(larger), 2.0**600 * np.asarray(measure(found)))
    for measure in (norms.tortuosity, norms.update_ratio, maps.mds, norms.settling_step):
        np.testing.assert_allclose(measure(larger), measure(found))


def test_blocks_that_a_tree_serves_share_it() -> None:
    apart = [spanning.distances(p @ p.T) for p in (corrupted(1e3), corrupted(1e5), corrupted(1e-6), corrupted(10.0))]
    served = [blocks for _, blocks in spanning.shared(apart)]
    assert sorted(b for blocks in served for b in blocks) == [0, 1, 2, 3]
    assert [0, 1, 3] in served


def test_an_exact_return_is_a_leg_of_no_length() -> None:
    points = walk(8, 1e-2)
    points[3] *= 1e5
    points[6] = points[1]
    found = group(points)
    assert norms.update_norm(found.select([1, 6]))[0] == 0.0
    assert maps.trajectory_map(found)[1, 6] == 1.0


def length(vectors: NDArray[np.longdouble]) -> Array:
    return np.asarray(np.sqrt((vectors * vectors).sum(axis=1)), dtype=np.float64)


def cosines(vectors: NDArray[np.longdouble]) -> Array:
    unit = vectors / np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.asarray(unit @ unit.T, dtype=np.float64)


def angle(a: NDArray[np.longdouble], b: NDArray[np.longdouble]) -> float:
    a, b = a / np.sqrt(a @ a), b / np.sqrt(b @ b)
    d, s = a - b, a + b
    return float(np.degrees(2 * np.arctan2(np.sqrt(d @ d), np.sqrt(s @ s))))
