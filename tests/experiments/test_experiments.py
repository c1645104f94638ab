"""Every experiment's claim in its version of seconds, with two seeds; and the command line around them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from trajsvc.errors import NotFound
from trajsvc.experiments.base import Setting, Verdict
from trajsvc.experiments.data import digits
from trajsvc.experiments.networks import lenet
from trajsvc.experiments.recipes.gap import opened, reached
from trajsvc.experiments.recipes.grokking import rise
from trajsvc.experiments.recipes.theory import bounds, two_steps, walk
from trajsvc.experiments.registry import PAPERS, experiment, experiments
from trajsvc.experiments.subspaces import confined, drawn, spanned
from trajsvc.experiments.vectors import flat, recorded
from trajsvc.families.file import open_family
from trajsvc.results.run import open as open_run

pytestmark = pytest.mark.skipif(
    find_spec("sklearn") is None, reason="scikit-learn, of the extra `experiments`, is not installed"
)

QUICK = ("h10", "h11", "v3", "v4")
ONE_SEED = ("h7", "c3", "d4", "e1")
SLOW = ("d2", "h1", "h4", "c1", "c4", "d1")


def brief(name: str, tmp_path: Path, seeds: tuple[int, ...] = (0, 1)) -> Verdict:
    folder = tmp_path / name
    folder.mkdir()
    return experiment(name).recipe(Setting(folder, tmp_path / "store", seeds, brief=True))


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_the_claim_comes_out(name: str, tmp_path: Path) -> None:
    verdict = brief(name, tmp_path)
    json.dumps(verdict.measured, allow_nan=False)
    assert verdict.reproduced, verdict.measured
    assert verdict.figures
    assert all(f.stat().st_size > 2000 for f in verdict.figures)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h7", "c3", "d3", "d4", "e1"])
def test_what_does_not_come_out_in_seconds_is_reported_as_measured(name: str, tmp_path: Path) -> None:
    """Subspaces of 60 dimensions help, and networks of 10⁴ parameters have masks of ten: the figures are there, and the verdict is what
    was measured. The trainings that take long have one seed."""
    verdict = brief(name, tmp_path, (1,) if name in ONE_SEED else (0, 1))
    found = verdict.measured
    json.dumps(found, allow_nan=False)
    assert all(f.stat().st_size > 2000 for f in verdict.figures)
    if name == "h7":
        assert all(row["greatest_test_accuracy"] > 0.9 for row in found["large-decay"])
        assert verdict.reproduced == all(row["change_points_in_the_rise"] for row in found["large-decay"])
        assert open_run(tmp_path / "store", "h7-large-decay-seed1").tags == ["experiment:h7"]
    if name == "c3":
        assert verdict.reproduced == (found["adam_no_clear_gain"] and found["sgd_foreign_below_random"])
        assert found["adam_gap_at_the_largest"] > 0.1
    if name == "d3":
        error = np.mean(list(found["relative_error"].values()), axis=0)
        assert error[-1] < error[0]
        checks = (found["falls_with_the_share"], found["within_10_percent_at_5_percent"])
        assert verdict.reproduced == all(all(check.values()) for check in checks)
    if name == "e1":
        rows = found["large-decay"]
        assert all(row["greatest_test_accuracy"] > 0.9 for row in rows)
        silent = found["controls"] > 0 and found["controls_with_a_gap"] == 0
        assert verdict.reproduced == (silent and all(row["lead"] is not None and row["lead"] > 0 for row in rows))
    if name == "d4":
        assert np.isfinite(np.array(list(found["seconds"].values()), dtype=float)).all()
        assert found["order_at_the_largest"][0] in found["seconds"]


@pytest.mark.slow
def test_updates_stay_in_the_subspace_they_are_confined_to() -> None:
    import torch

    torch.manual_seed(0)
    split, _ = digits()
    network = lenet()
    start = flat(network.parameters())
    basis = drawn(5, len(start), seed=1)
    confined(
        network, lambda n: torch.optim.Adam(n.parameters()), split, steps=4, batch=16, seed=0, basis=lambda _: basis
    )
    moved = flat(network.parameters()) - start
    inside = basis.double().numpy()
    np.testing.assert_allclose(inside.T @ inside, np.eye(5), atol=1e-5)
    assert np.linalg.norm(moved) > 1e-4
    assert np.linalg.norm(moved - inside @ (inside.T @ moved)) < 1e-4 * np.linalg.norm(moved)


def test_a_span_has_as_many_directions_as_its_vectors_are_independent() -> None:
    import torch

    rows = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    basis = spanned(rows)
    assert basis.shape == (4, 2)
    torch.testing.assert_close(basis @ (basis.T @ rows.T), rows.T)


def test_free_steps_are_those_of_plain_training() -> None:
    import torch

    split, _ = digits()
    torch.manual_seed(3)
    one, other = lenet(), lenet()
    other.load_state_dict(one.state_dict())
    gradients = confined(one, lambda n: torch.optim.SGD(n.parameters(), 0.1), split, steps=3, batch=16, seed=5, free=3)
    plain = recorded(other, lambda n: torch.optim.SGD(n.parameters(), 0.1), split, steps=3, batch=16, seed=5)
    np.testing.assert_allclose(gradients.double().numpy(), plain.gradients, rtol=1e-5, atol=1e-7)


def test_the_rise_of_an_accuracy() -> None:
    steps = np.arange(0, 70, 10)
    assert rise(steps, np.array([0.0, 0.05, 0.08, 0.3, 0.8, 0.95, 1.0])) == (20, 50)
    assert rise(steps, np.array([0.0, 0.05, 0.08, 0.3, 0.4, 0.5, 0.6])) is None
    assert rise(steps, np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])) == (0, 10)


def test_a_gap_opens_where_an_edge_is_unusual_for_what_came_before() -> None:
    steps = np.arange(10, 80, 10)
    none = np.nan
    assert opened(steps, np.array([none, 1.0, 1.2, 1.1, 2.1, 2.4, 9.0])) == 60
    assert opened(steps, np.array([9.0, 1.0, 1.0, 1.0, 1.9, 1.9, 1.9])) is None
    assert opened(steps, np.array([none, none, none, none, none, 1.0, 9.0])) is None
    accuracy = np.array([0.0, 0.05, 0.2, 0.45, 0.6, 0.95, 1.0])
    assert (reached(steps, accuracy, 0.1), reached(steps, accuracy, 0.5)) == (30, 50)
    assert reached(steps, 0.8 * accuracy, 0.5) is None


@pytest.mark.slow
def test_a_family_of_trainings_is_kept_as_runs(tmp_path: Path) -> None:
    verdict = brief("h9", tmp_path, (0,))
    family = open_family(tmp_path / "store", "experiment-h9")
    assert family.tags == ["experiment:h9"]
    assert [m.hyperparameters["member"] for m in family.runs] == ["width-0.5", "width-1", "width-2", "width-4"]
    run = open_run(tmp_path / "store", "h9-width-2-seed0")
    assert float(run.mds()) == verdict.measured["mds"]["width-2"][0]
    assert run.axis == "epoch"
    assert len(run.steps) == 11
    assert run.tags == ["experiment:h9"]


@pytest.mark.slow
def test_a_training_that_is_there_is_not_repeated(tmp_path: Path) -> None:
    first = brief("h5", tmp_path, (0,))
    files = sorted((tmp_path / "h5" / "runs").rglob("*.safetensors"))
    times = [f.stat().st_mtime_ns for f in files]
    setting = Setting(tmp_path / "h5", tmp_path / "store", (0,), brief=True)
    again = experiment("h5").recipe(setting)
    assert again.measured == first.measured
    assert [f.stat().st_mtime_ns for f in files] == times


def test_two_heavy_ball_steps_against_the_recursion() -> None:
    rng = np.random.default_rng(3)
    values, start = rng.uniform(0.1, 2.0, 6), rng.normal(size=6)
    rate, momentum = 0.3, 0.8
    points, velocity = [start], np.zeros(6)
    for _ in range(2):
        velocity = momentum * velocity - rate * values * points[-1]
        points.append(points[-1] + velocity)
    expected = float((points[1] - points[0]) @ (points[2] - points[1]))
    assert two_steps(values, start, rate, momentum) == pytest.approx(expected, rel=1e-12)
    each, low, high = bounds(values, rate, momentum)
    assert expected == pytest.approx(float(each @ start**2), rel=1e-12)
    assert low <= expected / float(start @ start) <= high


def test_a_walk_begins_at_zero_and_has_the_steps_it_was_given() -> None:
    points = walk(np.array([1.0, 0.0, 2.0]), 50_000, 1)
    assert (points[0] == 0).all()
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1) / np.sqrt(50_000)
    np.testing.assert_allclose(lengths, [1.0, 0.0, 2.0], atol=0.02)


def test_names_are_those_of_the_papers() -> None:
    assert [e.name for e in PAPERS] == list(experiments())[: len(PAPERS)]
    for found in PAPERS:
        assert found.claim
        assert found.criterion
        assert found.paper
    with pytest.raises(NotFound, match="no experiment 'h1o'") as caught:
        experiment("h1o")
    assert "h10" in caught.value.hint
