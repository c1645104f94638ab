"""The decay of the cosine: a fit against explicit points, a process whose time is known, and what has no time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_trajectories import Trajectory, cosine, made
from numpy.testing import assert_allclose

from trajsvc.measures.base import GroupGram
from trajsvc.measures.forgetting import forgetting_time, ornstein_uhlenbeck, ornstein_uhlenbeck_mds


def fitted(pairs: list[tuple[float, float]]) -> float:
    """Of (Δ, cos) pairs."""
    rates = [(apart, -math.log(c)) for apart, c in pairs]
    total = sum(apart * rate for apart, rate in rates)
    return sum(apart * apart for apart, _ in rates) / total if total > 0 else float("nan")


@pytest.mark.parametrize("window", [1, 3, 10])
def test_the_fit_is_that_of_the_explicit_cosines(case: Trajectory, window: int) -> None:
    steps, count = case.steps, len(case.steps)
    for t, value in enumerate(forgetting_time(case.gram, window)):
        pairs: list[tuple[float, float]] = []
        for later in range(t + 1, min(t + 1 + window, count)):
            c = cosine(case.points[t], case.points[later])
            if not c > (math.exp(-1) if pairs else 1e-9):
                break
            pairs.append((float(steps[later] - steps[t]), min(c, 1.0)))
        at_rest = all(c > 1 - 1e-15 for _, c in pairs)
        if not at_rest:
            # -log of a cosine near 1 is as good as that cosine: 1e-19 of it in the oracle's long doubles, rounded to 1e-16
            assert_allclose(value, fitted(pairs), rtol=1e-3)


def test_tiny_updates_keep_their_digits() -> None:
    angle = 1e-6
    turned = [[math.cos(k * angle), math.sin(k * angle)] for k in range(3)]
    basis = np.array([turned[0], [-2 * math.sin(angle / 2) ** 2, math.sin(angle)]])
    gram = GroupGram("made", np.array([0, 50]), basis @ basis.T, 2, np.full(2, np.nan))
    assert_allclose(forgetting_time(gram)[0], 50 / -math.log1p(-2 * math.sin(angle / 2) ** 2), rtol=1e-12)


def test_a_stationary_process_has_its_time() -> None:
    g = np.random.default_rng(3)
    keep, steps = 0.97, np.arange(0, 400, 10)
    x = g.normal(size=20_000)
    points = []
    for step in range(steps[-1] + 1):
        if step % 10 == 0:
            points.append(x.copy())
        x = keep * x + math.sqrt(1 - keep * keep) * g.normal(size=len(x))
    gram = GroupGram.of_points(np.array(points), steps.tolist())
    expected = -1 / math.log(keep)
    assert_allclose(np.nanmedian(forgetting_time(gram, 3)), expected, rtol=0.05)
    found = ornstein_uhlenbeck(gram)
    assert_allclose(found[0, :6], np.exp(-steps[:6] / expected), atol=0.05)
    assert_allclose(ornstein_uhlenbeck_mds(gram), found.mean())


def test_the_map_of_two_points_is_their_own() -> None:
    gram = GroupGram.of_points([[2.0, 0.0], [1.0, 1.0]], [5, 9])
    c = math.sqrt(0.5)
    assert_allclose(ornstein_uhlenbeck(gram), [[1, c], [c, 1]], rtol=1e-12)


def test_what_has_no_time() -> None:
    still = made(np.ones(4), np.zeros((3, 4))).gram
    assert np.isnan(forgetting_time(still)).all()
    assert np.isnan(ornstein_uhlenbeck(still)).all()
    opposite = GroupGram.of_points([[1.0], [-1.0], [1.0]])
    assert np.isnan(forgetting_time(opposite)).all()
    assert np.isnan(forgetting_time(GroupGram.of_points([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))[0])
    with pytest.raises(ValueError, match="at least one later checkpoint"):
        forgetting_time(still, 0)
