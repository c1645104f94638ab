"""Steps of several runs in one folder, steps that are not in the order of training, and tensors that jump are said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from field_runs import NET, Maker, Point, analysed, of_kind

import trajsvc
from trajsvc.results.run import Run

UNLIKE = {"order", "jump"}


def unlike(run: Run) -> set[str]:
    return {f.kind for f in run.findings} & UNLIKE


def at_steps(tmp_path: Path, points: Sequence[Point], steps: Sequence[int]) -> Run:
    folder = tmp_path / "at steps"
    folder.mkdir()
    for step, point in zip(steps, points, strict=True):
        torch.save(point, folder / f"step_{step}.pt")
    found = trajsvc.analyze(folder, store=tmp_path / "store")
    assert isinstance(found, Run)
    return found


def from_one_start(seed: int, count: int) -> list[list[Point]]:
    """Two runs that begin at the same point."""
    make = Maker(seed)
    first, second = make.walk(count=count), make.walk(count=count)
    return [first, [{n: first[0][n] + p[n] - second[0][n] for n in p} for p in second]]


@pytest.mark.parametrize("start", ["same", "another"])
def test_two_runs_in_turn_are_told_apart(tmp_path: Path, start: str) -> None:
    one, two = from_one_start(1, 20) if start == "same" else (Maker(1).walk(count=20), Maker(2).walk(count=20))
    run = analysed(tmp_path, [(one, two)[t % 2][t] for t in range(20)])
    finding = of_kind(run, "order")
    assert finding.severity == "warning"
    assert "steps of several runs in one folder" in finding.message
    # the first two or three belong to either, where both begin at one point
    late = [[s for s in members if s >= 800] for members in finding.details["sequences"]]
    assert sorted(m for m in late if m) == [list(range(800, 2000, 200)), list(range(900, 2000, 200))]
    assert unlike(run) == {"order"}


def test_two_runs_by_stretches_are_told_apart(tmp_path: Path) -> None:
    one, two = Maker(3).walk(count=24), Maker(4).walk(count=24)
    run = analysed(tmp_path, [(one, two)[t // 4 % 2][t] for t in range(24)])
    finding = of_kind(run, "order")
    assert finding.steps == (800, 1200, 1600, 2000)
    assert [len(members) for members in finding.details["sequences"]] == [12, 12]


def test_numbers_in_the_order_of_names_as_text_are_said(tmp_path: Path) -> None:
    points = Maker(5).walk(count=31)
    as_text = sorted(range(31), key=str)
    run = analysed(tmp_path, [points[t] for t in as_text])
    finding = of_kind(run, "order")
    assert "not in the order of training" in finding.message
    assert "back and forth" not in finding.message
    # 2 comes after 19, and continues 1
    assert 100 * as_text.index(2) in finding.steps
    assert unlike(at_steps(tmp_path, points, range(31))) == set()


def test_two_runs_one_after_the_other_break_where_they_meet(tmp_path: Path) -> None:
    one, two = Maker(6).walk(count=12), Maker(7).walk(count=12)
    run = analysed(tmp_path, [*one[:7], *two[7:]])
    finding = of_kind(run, "jump")
    assert finding.steps == (600, 700)
    assert "the network moves" in finding.message
    assert finding.details["near"] is None
    assert "analyse ..600 and 700.. apart with --steps" in finding.message
    for side in ("..600", "700.."):
        assert unlike(analysed(tmp_path, [*one[:7], *two[7:]], steps=side, called=f"side {side[-1]}")) == set()


@pytest.mark.parametrize("factor", [-1.0, 0.5, 2.0, 100.0, 1e-3])
@pytest.mark.parametrize("which", [("fc1.weight",), tuple(NET)])
def test_a_factor_is_said(tmp_path: Path, factor: float, which: tuple[str, ...]) -> None:
    points = Maker(8).walk(count=9, start=0.5, move=0.004)
    moved = [{n: w * (factor if t >= 5 and n in which else 1) for n, w in p.items()} for t, p in enumerate(points)]
    finding = of_kind(analysed(tmp_path, moved), "jump")
    assert finding.steps == (400, 500)
    said = finding.details["tensors"]
    assert set(said) == set(which)
    for how in said.values():
        assert how.startswith("is multiplied by ")
        assert float(how.rsplit(" ", 1)[1]) == pytest.approx(factor, rel=0.02)


def test_a_tensor_that_was_reset_is_said(tmp_path: Path) -> None:
    make = Maker(9)
    points = make.walk(count=8, start=0.3, move=0.004)
    fresh = make.tensor(32, 16, scale=0.3) - points[4]["fc1.weight"]
    moved = [p if t < 4 else {**p, "fc1.weight": p["fc1.weight"] + fresh} for t, p in enumerate(points)]
    finding = of_kind(analysed(tmp_path, moved), "jump")
    assert finding.steps == (300, 400)
    assert finding.tensors == ("fc1.weight",)
    assert "fc1.weight jumps" in finding.message


def test_what_is_known_to_be_stored_otherwise_is_said_once(tmp_path: Path) -> None:
    points = Maker(10).walk({"a.weight": (24, 24), "b.weight": (48, 16)}, count=7, start=0.5, move=0.004)
    moved = [p if t < 4 else {**p, "a.weight": p["a.weight"].T.contiguous()} for t, p in enumerate(points)]
    run = analysed(tmp_path, moved)
    assert of_kind(run, "rearranged").steps == (300, 400)
    assert unlike(run) == set()


HABITS = [
    "early steps close together",
    "a stretch of steps is missing",
    "learning rate dropped",
    "learning rate restarted",
    "warm-up",
    "random walk",
    "copies",
    "frozen at first",
    "one foreign checkpoint",
    "last steps close together",
    "not finite",
]


@pytest.mark.parametrize("habit", HABITS)
def test_what_training_does_is_not_said(tmp_path: Path, habit: str) -> None:
    rng = np.random.default_rng(HABITS.index(habit))
    steps = list(range(0, 3000, 100))
    speed = np.full(30, 1e-4)
    drift = 1.0
    if habit == "early steps close together":
        steps = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 20000, 1000)]
    if habit == "a stretch of steps is missing":
        steps[15:] = [s + 40_000 for s in steps[15:]]
    if habit == "last steps close together":
        steps[25:] = range(2500, 2505)
    if habit == "learning rate dropped":
        speed[10:], speed[20:] = 1e-5, 1e-6
    if habit == "learning rate restarted":
        speed = 1e-4 * np.cos(np.pi / 2 * (np.arange(30) % 10) / 10)
    if habit == "warm-up":
        speed[:10] = 1e-5 * np.arange(10)
    if habit == "random walk":
        drift = 0.0
    at = {n: rng.normal(0, 0.1, s) for n, s in NET.items()}
    toward = {n: rng.normal(0, 1, s) for n, s in NET.items()}
    points: list[Point] = []
    for t, step in enumerate(steps):
        if t:
            span = step - steps[t - 1]
            at = {
                n: v + speed[t] * (drift * span * toward[n] + 3 * span**0.5 * rng.normal(0, 1, v.shape))
                for n, v in at.items()
                if not (habit == "frozen at first" and n == "emb.weight" and t < 12)
            } | ({"emb.weight": at["emb.weight"]} if habit == "frozen at first" and t < 12 else {})
        points.append({n: torch.tensor(v, dtype=torch.float32) for n, v in sorted(at.items())})
    if habit == "copies":
        points[7], points[19], points[20] = points[6], points[18], points[18]
    if habit == "one foreign checkpoint":
        points[12] = Maker(50).walk(count=1)[0]
    if habit == "not finite":
        points[12] = {**points[12], "fc1.bias": points[12]["fc1.bias"] * float("nan")}
    assert unlike(at_steps(tmp_path, points, steps)) == set()


@pytest.mark.parametrize("first", [11, 17])
def test_a_return_to_an_earlier_checkpoint_is_said_where_it_is_far(tmp_path: Path, first: int) -> None:
    points = Maker(13).walk(count=26)
    back = {n: points[first][n] - points[19][n] for n in NET}
    run = analysed(tmp_path, [p if t < 20 else {n: p[n] + back[n] for n in NET} for t, p in enumerate(points)])
    if first == 17:
        assert unlike(run) == set()
    else:
        finding = of_kind(run, "jump")
        assert finding.details["near"] == 1200
        assert "to near step 1200, from which training may have gone on" in finding.message


def test_a_training_that_swings_is_not_called_two_runs_alone(tmp_path: Path) -> None:
    points = Maker(11).walk(count=12, move=1e-3)
    swing = Maker(12).walk(count=1, start=0.05)[0]
    run = analysed(tmp_path, [{n: w + (-1) ** t * swing[n] for n, w in p.items()} for t, p in enumerate(points)])
    assert "or a training that swings back and forth at every checkpoint" in of_kind(run, "order").message
