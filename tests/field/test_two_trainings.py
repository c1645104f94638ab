"""Folders that hold checkpoints of two trainings: a sweep's jobs by number, and a folder that was trained into again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import trajsvc
from tests.field.listed_runs import State, analyzed, findings, right, save, walk, write_json
from trajsvc.errors import Refused, RunExists

JOBS = {
    "hydra": ".hydra/overrides.yaml",
    "sacred": "run.json",
    "ray": "params.json",
    "logs": "events.out.tfevents.1700000000.host.1.0",
}


@pytest.mark.parametrize("mark", JOBS.values(), ids=JOBS)
def test_numbered_folders_of_whole_trainings_are_asked_about(tmp_path: Path, mark: str) -> None:
    points = walk(4)
    for i, point in enumerate(points):
        save(tmp_path / "run" / str(i) / "model.pt", point)
        write_json(tmp_path / "run" / str(i) / mark, {"lr": i})
    with pytest.raises(Refused, match="whole trainings") as caught:
        analyzed(tmp_path / "run")
    assert "--step-pattern" in caught.value.hint
    right(analyzed(tmp_path / "run", step_pattern=r"(?P<step>\d+)"), points)


def test_numbered_folders_of_checkpoints_are_a_run(tmp_path: Path) -> None:
    points = walk(4)
    for i, point in enumerate(points):
        save(tmp_path / "run" / str(100 * i) / "model.pt", point)
        write_json(tmp_path / "run" / str(100 * i) / "config.json", {"model_type": "x"})
    right(analyzed(tmp_path / "run"), points)


def trainer_states(folder: Path, points: Sequence[State], losses: Sequence[float]) -> None:
    """Checkpoints of the Trainer every 500 steps, each with all losses until then; ``losses`` are the offsets of their trainings."""
    for i, (point, loss) in enumerate(zip(points, losses, strict=True), 1):
        history: list[dict[str, Any]] = [
            {"epoch": s / 1000, "learning_rate": 1e-3, "loss": loss - s / 9000, "step": s}
            for s in range(50, 500 * i + 1, 50)
        ]
        history.append({"epoch": i / 2, "eval_loss": 1.5, "step": 500 * i})
        save(folder / f"checkpoint-{500 * i}" / "model.safetensors", point)
        write_json(
            folder / f"checkpoint-{500 * i}" / "trainer_state.json",
            {"global_step": 500 * i, "log_history": history, "max_steps": 9000},
        )


@pytest.mark.parametrize(("losses", "named"), [((9, 9, 8, 8), (500, 1000)), ((8, 8, 8, 9), (500, 1000, 1500))])
def test_checkpoints_that_an_earlier_training_left_are_named(
    tmp_path: Path, losses: tuple[float, ...], named: tuple[int, ...]
) -> None:
    points = walk(4)
    trainer_states(tmp_path / "run", points, losses)
    (found,) = findings(analyzed(tmp_path / "run"), "two-trainings")
    assert found.severity == "warning"
    assert found.steps == named


def test_one_training_is_none(tmp_path: Path) -> None:
    points = walk(4)
    trainer_states(tmp_path / "run", points, (8, 8, 8, 8))
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert not [f for f in run.findings if f.severity != "info"]


@pytest.mark.parametrize(
    "history",
    [
        [{"step": [500], "loss": 1}],
        [{"step": 500, "loss": 10**400}],
        [{"step": "500", "loss": "1"}],
        {"step": 500},
        [500, None],
        None,
    ],
)
def test_a_state_that_is_none_says_nothing(tmp_path: Path, history: Any) -> None:
    points = walk(3)
    trainer_states(tmp_path / "run", points, (8, 8, 8))
    write_json(tmp_path / "run" / "checkpoint-1500" / "trainer_state.json", {"log_history": history})
    (tmp_path / "run" / "checkpoint-1000" / "trainer_state.json").write_bytes(
        b'{"loss": 1e, "step": 5}{"loss"' + b"9" * 9000
    )
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert not findings(run, "two-trainings")


def head_alone(base: State, seed: int) -> list[State]:
    """A training of the head of a network whose other layers are frozen."""
    heads = walk(3, {"head.weight": (4, 8), "head.bias": (4,)}, seed=seed)
    return [OrderedDict(base | head) for head in heads]


def test_two_trainings_of_one_head_are_told_apart(tmp_path: Path) -> None:
    frozen = {
        f"layer{i}.{n}": s for i in range(30) for n, s in (("weight", (8, 8)), ("norm.weight", (8,)), ("bias", (8,)))
    }
    (base,) = walk(1, frozen)
    for name, seed in (("one", 1), ("other", 2)):
        for i, point in enumerate(head_alone(base, seed)):
            save(tmp_path / name / f"step_{i}.pt", point)
    trajsvc.analyze(tmp_path / "one", store=tmp_path / "store", name="run")
    with pytest.raises(RunExists, match="other values"):
        trajsvc.analyze(tmp_path / "other", store=tmp_path / "store", name="run")
    trajsvc.analyze(tmp_path / "one", store=tmp_path / "store", name="run")  # is itself
    save(tmp_path / "one" / "step_3.pt", head_alone(base, 3)[1])
    assert len(trajsvc.analyze(tmp_path / "one", store=tmp_path / "store", name="run").steps) == 4
    with pytest.raises(RunExists, match="other values"):
        trajsvc.analyze(tmp_path / "other", store=tmp_path / "store", name="run")
