"""Q, K and V compared: the distance of maps against its definition written out, what it ignores, and settling steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_trajectories import CASES, Trajectory, cosine, made, table
from numpy.testing import assert_allclose

from trajsvc.errors import UsageError
from trajsvc.measures import maps, norms
from trajsvc.measures.heterogeneity import map_distance, qkv_heterogeneity


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """1 − alignment of U-centred off-diagonal parts, one term at a time."""

    def centred(m: np.ndarray) -> np.ndarray:
        n = len(m)
        result = np.zeros((n, n))
        row = [sum(m[i, k] for k in range(n) if k != i) for i in range(n)]
        for i in range(n):
            for j in range(n):
                if i != j:
                    result[i, j] = m[i, j] - row[i] / (n - 2) - row[j] / (n - 2) + sum(row) / ((n - 1) * (n - 2))
        return result

    x, y = centred(a), centred(b)
    return float(1 - (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def parts(seed: int = 0, count: int = 9) -> list[Trajectory]:
    g = np.random.default_rng(seed)
    return [made(g.normal(size=50), s * g.normal(size=(count - 1, 50))) for s in (0.1, 0.5, 1.0)]


@pytest.mark.parametrize("origin", [None, 0, 40])
def test_distances_are_their_definition(origin: int | None) -> None:
    q, k, v = parts()
    found = qkv_heterogeneity(q.gram, k.gram, v.gram, origin)
    m = [table(cosine, p.points if origin is None else p.about(origin // 10)) for p in (q, k, v)]
    assert_allclose(found.distance_qk, distance(m[0], m[1]), rtol=1e-9)
    assert_allclose(found.distance_qv, distance(m[0], m[2]), rtol=1e-9)
    assert_allclose(found.distance_kv, distance(m[1], m[2]), rtol=1e-9)
    off = ~np.eye(len(m[0]), dtype=bool)
    for name, (a, b) in {"qk": (0, 1), "qv": (0, 2), "kv": (1, 2)}.items():
        expected = np.sqrt(np.mean(np.square(m[a] - m[b])[off].astype(np.longdouble)))
        assert_allclose(getattr(found, f"rms_{name}"), float(expected), rtol=1e-9)
    assert_allclose(found.rms_mean, (found.rms_qk + found.rms_qv + found.rms_kv) / 3)
    assert_allclose(found.mean, (found.distance_qk + found.distance_qv + found.distance_kv) / 3)
    assert found.points == len(m[0])
    for name, part in zip("qkv", (q, k, v), strict=True):
        assert_allclose(getattr(found, f"mds_{name}"), maps.mds(part.gram, origin), rtol=1e-12)
        assert getattr(found, f"settling_step_{name}") == norms.settling_step(part.gram)


def test_parts_that_move_alike_are_at_distance_zero() -> None:
    q, _, _ = parts()
    found = qkv_heterogeneity(q.gram, q.gram, q.gram)
    assert max(found.distance_qk, found.distance_qv, found.distance_kv) < 1e-12
    assert found.rms_qk == found.rms_qv == found.rms_kv == 0.0


def test_level_and_scale_of_a_map_do_not_matter_but_its_pattern_does() -> None:
    q, k, _ = (maps.trajectory_map(p.gram) for p in parts())
    assert map_distance(q, 0.3 * q + 0.6) < 1e-12
    assert_allclose(map_distance(q, -q), 2.0)
    assert_allclose(map_distance(q, 1 - k), 2 - map_distance(q, k))
    order = [0, 5, 1, 6, 2, 7, 3, 8, 4]
    assert map_distance(q, q[np.ix_(order, order)]) > 0.5


def test_maps_of_tiny_updates_have_a_distance() -> None:
    """Entries that differ from 1 by 1e-12 keep their pattern."""
    q, k, v = parts()
    small = [made(p.basis[0], 1e-6 * p.basis[1:]) for p in (q, k, v)]
    found = qkv_heterogeneity(*(p.gram for p in small))
    linear = [-(np.array(p.basis[1:]).cumsum(axis=0)) for p in (q, k, v)]
    expected = []
    for part, moved in zip((q, k, v), linear, strict=True):
        points = np.vstack([np.zeros(50), moved])
        unit = part.basis[0] / np.linalg.norm(part.basis[0])
        across = (points - np.outer(points @ unit, unit)) / np.linalg.norm(part.basis[0])
        expected.append(((across[:, None] - across[None, :]) ** 2).sum(axis=2))
    assert_allclose(found.distance_qk, distance(expected[0], expected[1]), rtol=1e-4)
    assert_allclose(found.distance_kv, distance(expected[1], expected[2]), rtol=1e-4)


def test_a_part_that_starts_at_zero_is_compared_where_it_is_defined() -> None:
    q, k, v = parts()
    late = made(np.zeros(50), np.vstack([k.basis[:2].sum(axis=0), k.basis[2:]]))
    found = qkv_heterogeneity(q.gram, late.gram, v.gram)
    rest = [table(cosine, p.points[1:]) for p in (q, k, v)]
    assert found.points == 8
    assert_allclose(found.distance_qk, distance(rest[0], rest[1]), rtol=1e-9)
    assert_allclose(found.distance_qv, distance(rest[0], rest[2]), rtol=1e-9)


@pytest.mark.parametrize("name", ["one checkpoint", "two checkpoints", "three checkpoints", "all zero", "never moves"])
def test_too_little_to_compare(name: str) -> None:
    gram = CASES[name].gram
    found = qkv_heterogeneity(gram, gram, gram)
    assert np.isnan([found.distance_qk, found.distance_qv, found.distance_kv, found.mean]).all()


def test_a_map_without_a_pattern_has_no_distance() -> None:
    """Points at right angles to each other: every off-diagonal entry is 0."""
    square = np.eye(6)
    flat = made(square[0], np.diff(square, axis=0)).gram
    other = maps.trajectory_map(parts(count=6)[0].gram)
    assert np.isnan(map_distance(maps.trajectory_map(flat), other))


def test_rounding_is_no_pattern() -> None:
    """A map that is a sum of its rows and columns, but for errors of the twelfth digit, as points to both sides of one line have."""
    side = np.array([1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    errors = np.random.default_rng(0).normal(scale=1e-12, size=(6, 6))
    noisy = np.outer(side, side) + errors + errors.T
    other = maps.trajectory_map(parts(count=6)[0].gram)
    assert np.isnan(map_distance(noisy, other))


def test_different_steps_are_refused() -> None:
    q, k, v = (p.gram for p in parts())
    with pytest.raises(UsageError) as caught:
        qkv_heterogeneity(q, replace(k, steps=k.steps + 1), v)
    assert caught.value.kind == "different-steps"
