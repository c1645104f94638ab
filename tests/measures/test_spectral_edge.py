"""Windows of updates against the singular value decomposition of the explicit matrices."""

from __future__ import annotations

import numpy as np
import pytest
from made_trajectories import Trajectory, made
from numpy.testing import assert_allclose

from trajsvc.measures import spectral_edge as edge
from trajsvc.measures.base import GroupGram


@pytest.fixture(scope="module")
def planted() -> Trajectory:
    """24 updates that share three directions of very different size, over noise, turning half way."""
    g = np.random.default_rng(5)
    first, second = (np.linalg.qr(g.normal(size=(300, 3)))[0].T for _ in range(2))
    updates = [
        g.normal(size=3) * [9.0, 6.0, 4.0] @ (first if t < 12 else second) + 0.01 * g.normal(size=300)
        for t in range(24)
    ]
    return made(1e3 * g.normal(size=300), np.array(updates))


def windows(case: Trajectory, size: int) -> list[tuple[int, np.ndarray]]:
    matrix = np.array(case.updates, dtype=np.float64)
    size = min(size, len(matrix))
    return [(last, matrix[last - size + 1 : last + 1]) for last in range(size - 1, len(matrix))]


@pytest.mark.parametrize("size", [2, 6, 10, 100])
def test_against_the_explicit_matrix(planted: Trajectory, size: int) -> None:
    gram = planted.gram
    found = {f.__name__: f(gram, size) for f in (edge.spectral_edge, edge.spectral_edge_rank, edge.leading_share)}
    residual, angle = edge.leading_residual(gram, size), edge.subspace_angle(gram, size)
    before = None
    first = min(size, len(planted.updates)) - 1
    assert all(np.isnan(values[:first]).all() for values in (*found.values(), residual, angle))
    for last, matrix in windows(planted, size):
        _, s, v = np.linalg.svd(matrix, full_matrices=False)
        ratios = s[:-1] / s[1:]
        k = int(ratios.argmax()) + 1
        assert found["spectral_edge_rank"][last] == k
        assert_allclose(found["spectral_edge"][last], ratios.max(), rtol=1e-6)
        assert_allclose(found["leading_share"][last], s[0] ** 2 / (s**2).sum(), rtol=1e-9)
        newest = matrix[-1]
        rest = newest - (newest @ v[0]) * v[0]
        assert_allclose(residual[last], np.linalg.norm(rest) / np.linalg.norm(newest), rtol=1e-6)
        if before is not None:
            cosines = np.linalg.svd(before[:k] @ v[:k].T, compute_uv=False)
            assert_allclose(angle[last], np.degrees(np.arccos(min(cosines[-1], 1.0))), atol=1e-5)
        before = v


def test_the_planted_directions_are_found(planted: Trajectory) -> None:
    ranks = edge.spectral_edge_rank(planted.gram, 8)
    assert (ranks[7:12] == 3).all()
    assert ranks[15] == 6  # a window over the turn, with four updates on each side
    assert (ranks[20:] == 3).all()


def test_cases_have_no_value_that_is_not_one(case: Trajectory) -> None:
    for f in (edge.spectral_edge, edge.spectral_edge_rank):
        values = f(case.gram, 4)
        assert (values[~np.isnan(values)] >= 1.0).all()
    for f, most in ((edge.leading_share, 1.0), (edge.leading_residual, 1.0), (edge.subspace_angle, 90.0)):
        values = f(case.gram, 4)
        assert ((values[~np.isnan(values)] >= 0.0) & (values[~np.isnan(values)] <= most + 1e-12)).all()


def test_a_straight_path_has_one_direction_and_no_edge() -> None:
    gram = GroupGram.of_points(np.outer(np.arange(6.0), np.ones(5)))
    assert np.isnan(edge.spectral_edge(gram, 3)).all()
    assert_allclose(edge.leading_share(gram, 3)[2:], 1.0)
    assert_allclose(edge.leading_residual(gram, 3)[2:], 0.0, atol=1e-7)


def test_zero_and_undefined_updates() -> None:
    gram = GroupGram.of_points([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0], [3.0, 1.0]])
    assert np.isnan(edge.leading_residual(gram, 2)[-1])
    assert_allclose(edge.leading_share(gram, 2)[-1], 1.0)
    broken = gram.gram.copy()
    broken[2, :] = broken[:, 2] = np.nan
    unknown = GroupGram("made", gram.steps, broken, 2, gram.rounding)
    assert np.isnan(edge.leading_share(unknown, 2)).all()
    with pytest.raises(ValueError, match="at least two updates"):
        edge.spectral_edge(gram, 1)
