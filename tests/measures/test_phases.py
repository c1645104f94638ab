"""Phases: found where training changed, and not where it did not."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from made_trajectories import CASES, Trajectory, made
from numpy.testing import assert_allclose

from trajsvc.measures.base import Array
from trajsvc.measures.phases import SHORTEST, change_points, log_speed, phases
from trajsvc.measures.segments import best_segments, line_cost, scatter_cost, without_lag

LOG_SPACED = [0, *(2**k for k in range(10)), *range(1000, 41_000, 1000)]
"""As published: steps 1, 2, 4 … 512, then every 1000."""


def walk(seed: int, steps: list[int], parameters: int) -> Trajectory:
    g = np.random.default_rng(seed)
    updates = g.normal(size=(len(steps) - 1, parameters)) * np.sqrt(np.diff(steps))[:, None]
    return made(g.normal(size=parameters), updates, steps)


def sgd(rates: list[float], every: int, seed: int = 0, momentum: float = 0.0) -> Trajectory:
    """SGD on a noisy quadratic in 400 dimensions, curvatures 0.01 … 1, a checkpoint ``every`` steps."""
    g = np.random.default_rng(seed)
    curvature = np.geomspace(0.01, 1.0, 400)
    theta, velocity = 3.0 * g.normal(size=400), np.zeros(400)
    kept = [theta.copy()]
    for step, rate in enumerate(rates, start=1):
        velocity = momentum * velocity + curvature * theta + g.normal(size=400)
        theta = theta - rate * velocity
        if step % every == 0:
            kept.append(theta.copy())
    return made(kept[0], np.diff(kept, axis=0), list(range(0, len(rates) + 1, every)))


@pytest.mark.parametrize("parameters", [50, 2000])
@pytest.mark.parametrize("steps", [list(range(12)), list(range(41)), LOG_SPACED], ids=["12", "41", "log spaced"])
def test_a_random_walk_has_one_phase(steps: list[int], parameters: int) -> None:
    for seed in range(20):
        found = phases(walk(seed, steps, parameters).gram)
        assert [(p.start_step, p.end_step) for p in found] == [(steps[0], steps[-1])], seed
        assert (found[0].evidence, found[0].change) == (None, None)


@pytest.mark.parametrize("strength", [0.03, 0.2, 3.0])
def test_a_steady_drift_has_one_phase_under_any_spacing(strength: float) -> None:
    for seed in range(8):
        g = np.random.default_rng(seed)
        spans = np.diff(LOG_SPACED)
        drift = strength * g.normal(size=1000)
        updates = g.normal(size=(len(spans), 1000)) * np.sqrt(spans)[:, None] + drift * spans[:, None]
        assert change_points(made(drift, updates, LOG_SPACED).gram) == []


@pytest.mark.parametrize("memory", [0.3, 0.8, 0.95])
def test_momentum_alone_makes_no_phases(memory: float) -> None:
    for seed in range(8):
        g = np.random.default_rng(seed)
        updates = g.normal(size=(110, 500))
        for t in range(1, len(updates)):
            updates[t] += memory * updates[t - 1]
        assert change_points(made(updates[0], updates[50:]).gram) == []


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_drops_of_the_learning_rate_are_found_where_they_are(momentum: float, seed: int) -> None:
    rate = 0.2 * (1 - momentum)
    rates = [rate] * 1600 + [rate / 10] * 1400 + [rate / 100] * 1000
    found = change_points(sgd(rates, 100, seed, momentum).gram)
    jumps = [c for c in found if c.kind == "jump"]
    assert [c.step for c in jumps] == [1600, 3000]
    for change in jumps:
        assert change.between == (change.step, change.step)
        assert change.evidence > 0.8
        assert change.strength > 5
        assert 0.03 < change.speed_ratio < 0.3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_end_of_a_warm_up_is_found_between_log_spaced_checkpoints(seed: int) -> None:
    """The rate rises over 200 steps; checkpoints at 1, 2, 4 … 512 and every 1,000: it ends between 128 and 256."""
    g = np.random.default_rng(seed)
    middle = (np.array(LOG_SPACED[1:]) + np.array(LOG_SPACED[:-1])) / 2
    speed = np.minimum(middle / 200, 1.0) * np.sqrt(np.diff(LOG_SPACED))
    found = change_points(
        made(g.normal(size=2000), g.normal(size=(len(speed), 2000)) * speed[:, None], LOG_SPACED).gram
    )
    assert len(found) == 1
    assert found[0].step in (128, 256)
    assert found[0].between[0] <= 256
    assert found[0].between[1] >= 128


@pytest.mark.parametrize("at", [10, 20, 33])
def test_a_turn_at_even_speed_is_found(at: int) -> None:
    """Updates that agree (cosine 0.7) with one direction, then as well with another: speeds alone say nothing."""
    for seed in range(5):
        g = np.random.default_rng(seed)
        directions = g.normal(size=(2, 1000))
        updates = g.normal(size=(40, 1000))
        updates[:at] += 1.5 * directions[0]
        updates[at:] += 1.5 * directions[1]
        found = change_points(made(g.normal(size=1000), updates, list(range(41))).gram)
        assert [(c.step, c.kind) for c in found] == [(at, "turn")]
        assert 0.8 < found[0].speed_ratio < 1.25


def test_phases_meet_and_cover_the_trajectory() -> None:
    rates = [0.2] * 1600 + [0.02] * 1400 + [0.002] * 1000
    gram = sgd(rates, 100).gram
    found = phases(gram)
    assert (found[0].start_step, found[-1].end_step) == (0, 4000)
    for before, after in pairwise(found):
        assert before.end_step == after.start_step
        assert after.change is not None
        assert after.change.step == after.start_step
        assert after.evidence == after.change.evidence
    assert sum(p.updates for p in found) == 40
    assert [p.change for p in found[1:]] == change_points(gram)


def test_phases_are_json() -> None:
    found = phases(sgd([0.2] * 1500 + [0.01] * 1500, 100).gram)
    again = json.loads(json.dumps([asdict(p) for p in found]))
    assert again[1]["change"]["step"] == again[1]["start_step"] == 1500


def test_units_and_order_of_the_parameters_change_nothing() -> None:
    trajectory = sgd([0.2] * 1500 + [0.01] * 1500, 100)
    scaled = made(1e-3 * trajectory.basis[0], 1e-3 * trajectory.basis[1:], trajectory.steps.tolist())
    assert [(c.step, c.kind) for c in change_points(scaled.gram)] == [
        (c.step, c.kind) for c in change_points(trajectory.gram)
    ]


def test_updates_that_are_zero_are_passed_over() -> None:
    """Checkpoints stored twice, here and there, move no change point and make none."""
    trajectory = sgd([0.2] * 1600 + [0.01] * 1600, 100)
    updates = np.insert(trajectory.basis[1:], [5, 12, 25], 0.0, axis=0)
    doubled = made(trajectory.basis[0], updates, list(range(0, 3600, 100)))
    assert [c.step for c in change_points(doubled.gram)] == [1800]
    assert sum(p.updates for p in phases(doubled.gram)) == 32


@pytest.mark.parametrize("count", range(1, 6))
def test_too_short_to_say(count: int) -> None:
    assert phases(walk(0, list(range(count)), 100).gram) == []
    assert phases(walk(0, list(range(6)), 100).gram) != []


def test_every_case_has_an_answer(case: Trajectory) -> None:
    found = phases(case.gram)
    assert all(p.updates >= SHORTEST for p in found)
    moved = int((np.diag(case.gram.gram)[1:] > 0).sum())
    assert bool(found) == (len(case.steps) >= 6 and moved >= 5)


def test_speed_is_level_for_a_straight_path_and_for_a_walk() -> None:
    spans = np.diff(LOG_SPACED)
    direction = np.random.default_rng(0).normal(size=50)
    straight = made(direction, np.outer(spans, direction), LOG_SPACED)
    index, speed = log_speed(straight.gram)
    assert index.tolist() == list(range(len(spans)))
    assert_allclose(speed - speed[0], 0.0, atol=1e-9)
    _, speed = log_speed(walk(0, LOG_SPACED, 100_000).gram)
    assert np.ptp(speed) < 0.05


def test_speed_counts_changes_as_factors() -> None:
    case = CASES["growing updates"]
    _, speed = log_speed(case.gram)
    expected = np.log([float(np.linalg.norm(u)) for u in case.basis[1:]])
    assert_allclose(np.diff(speed), np.diff(expected), rtol=1e-9)


def exhaustive(costs: Array, price: float, shortest: int, start: int = 0) -> float:
    """Least total over every segmentation of what begins at ``start``."""
    count = len(costs) - 1
    best = float(costs[start, count])
    for end in range(start + shortest, count - shortest + 1):
        best = min(best, float(costs[start, end]) + price + exhaustive(costs, price, shortest, end))
    return best


@pytest.mark.parametrize("seed", range(60))
def test_segments_are_the_best_of_all(seed: int) -> None:
    g = np.random.default_rng(seed)
    count, shortest = int(g.integers(6, 15)), int(g.integers(1, 4))
    points = g.normal(size=(count, 4)) + np.repeat(g.normal(size=(3, 4)), -(-count // 3), axis=0)[:count]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    costs = line_cost(np.arange(count, dtype=float), g.normal(size=count) * 3) + 4 * scatter_cost(
        without_lag(points @ points.T)
    )
    price = float(g.uniform(0.5, 15))
    ends = best_segments(costs, price, shortest)
    assert ends[-1] == count
    sizes = [b - a for a, b in pairwise([0, *ends])]
    assert min(sizes) >= shortest
    total = sum(float(costs[a, b]) for a, b in pairwise([0, *ends])) + price * (len(ends) - 1)
    assert_allclose(total, exhaustive(costs, price, shortest), rtol=1e-9)


def test_costs_of_segments_are_their_definitions() -> None:
    g = np.random.default_rng(0)
    x, y, points = np.sort(g.uniform(0, 9, 9)), g.normal(size=9), g.normal(size=(9, 3))
    kernel = points @ points.T
    lines, scatters = line_cost(x, y), scatter_cost(kernel)
    for a in range(9):
        for b in range(a + 1, 10):
            centred = points[a:b] - points[a:b].mean(axis=0)
            assert_allclose(scatters[a, b], (centred**2).sum(), atol=1e-12)
            design = np.stack([np.ones(b - a), x[a:b]], axis=1)
            residual = y[a:b] - design @ np.linalg.lstsq(design, y[a:b])[0]
            assert_allclose(lines[a, b], residual @ residual, atol=1e-12)


def test_without_lag_leaves_nothing_of_what_the_lag_explains() -> None:
    lag = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    assert_allclose(without_lag(0.8**lag), 0.0, atol=1e-15)
