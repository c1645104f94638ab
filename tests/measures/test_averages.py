"""Averages from the Gram against explicit vectors in extended precision."""

from __future__ import annotations

import numpy as np
import pytest
from made_trajectories import Trajectory, length
from numpy.testing import assert_allclose

from trajsvc.measures import averages
from trajsvc.measures.base import GroupGram


def expected(case: Trajectory, weights: np.ndarray) -> tuple[float, float, float]:
    points = case.points
    mean = sum(np.longdouble(w) * p for w, p in zip(weights, points, strict=True))
    off = sum(w * length(p - mean) ** 2 for w, p in zip(weights, points, strict=True))
    away = sum(w * length(p - points[0]) ** 2 for w, p in zip(weights, points, strict=True))
    return float(length(mean - points[-1])), float(off / away) if away > 0 else float("nan"), float(length(mean))


def test_windows(case: Trajectory) -> None:
    count = len(case.steps)
    found = zip(
        averages.average_distance(case.gram), averages.average_variance_removed(case.gram), averages.average_norm(case.gram),
        strict=True,
    )  # fmt: skip
    for t, (distance, removed, norm) in enumerate(found):
        want = expected(case, np.where(np.arange(count) >= t, np.longdouble(1) / (count - t), 0))
        assert_allclose([distance, norm], [want[0], want[2]], rtol=1e-9, atol=1e-18 * want[2])
        assert_allclose(removed, want[1], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_moving_averages(case: Trajectory, decay: float) -> None:
    points = case.points
    mean = points[0]
    for point in points[1:]:
        mean = decay * mean + (1 - decay) * point
    found = averages.average_of(case.gram, averages.ema_weights(len(points), decay))
    assert_allclose(found.norm, float(length(mean)), rtol=1e-9)
    scale = float(max(length(u) for u in [*case.updates, 0 * points[0]]))
    assert_allclose(found.distance, float(length(mean - points[-1])), rtol=1e-6, atol=1e-9 * scale)


def test_one_point_and_no_displacement() -> None:
    one = GroupGram.of_points([[3.0, 4.0]])
    assert averages.average_norm(one).tolist() == [5.0]
    assert averages.average_distance(one).tolist() == [0.0]
    still = GroupGram.of_points([[3.0, 4.0]] * 3)
    assert np.isnan(averages.average_variance_removed(still)).all()


@pytest.mark.parametrize(("count", "last"), [(3, 0), (3, 4)])
def test_windows_that_are_none(count: int, last: int) -> None:
    with pytest.raises(ValueError, match="can be averaged"):
        averages.last_weights(count, last)
    with pytest.raises(ValueError, match="decay"):
        averages.ema_weights(3, 1.0)
