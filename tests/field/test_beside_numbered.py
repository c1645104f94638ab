"""Files and folders beside numbered checkpoints: copies, those whose keys say their step, and those of another training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from field_runs import of_kind, said
from listed_runs import State, analyzed, averaged, right, walk

BIG = {"fc1.weight": (32, 16), "fc1.bias": (32,), "fc2.weight": (16, 32)}
STEPS = (100, 200, 300, 400)


def keyed(path: Path, state: Mapping[str, torch.Tensor], step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": dict(state), "step": step}, path)


def numbered(folder: Path, states: Sequence[State], name: str = "step_{}.pt") -> None:
    for state, step in zip(states, STEPS, strict=True):
        keyed(folder / name.format(step), state, step)


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "final.pt"])
@pytest.mark.parametrize("step", [50, 250, 450, 90_000])
def test_what_its_key_places_and_its_values_do_not_is_left_out(tmp_path: Path, name: str, step: int) -> None:
    points, other = walk(4, BIG), walk(4, BIG, seed=9)
    numbered(tmp_path / "run", points)
    keyed(tmp_path / "run" / name, other[3], step)
    run = analyzed(tmp_path / "run")
    right(run, points)
    found = of_kind(run, "two-trainings")
    assert found.severity == "warning"
    assert name.removesuffix(".pt") in found.message


@pytest.mark.parametrize(("at", "step"), [(0, 50), (2, 250), (4, 450), (4, 700)])
def test_what_continues_the_numbered_ones_is_placed_and_said(tmp_path: Path, at: int, step: int) -> None:
    points = walk(5, BIG)
    numbered(tmp_path / "run", [p for i, p in enumerate(points) if i != at])
    keyed(tmp_path / "run" / "last.pt", points[at], step)
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert not said(run)
    assert of_kind(run, "placed").steps == (step,)


def test_another_seed_from_the_same_start_is_left_out(tmp_path: Path) -> None:
    """Fine-tuning moves little: weights of two trainings are alike, and their updates are not."""
    base = walk(1, BIG)[0]
    points, other = ([{n: base[n] * 10 + t for n, t in p.items()} for p in walk(4, BIG, seed=s)] for s in (3, 4))
    numbered(tmp_path / "run", points)  # type: ignore[arg-type]
    keyed(tmp_path / "run" / "best.pt", other[3], 350)
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert said(run) == {"two-trainings"}


def test_a_quoted_pattern_takes_it_in(tmp_path: Path) -> None:
    points, other = walk(4, BIG), walk(4, BIG, seed=9)
    numbered(tmp_path / "run", points)
    keyed(tmp_path / "run" / "last.pt", other[3], 500)
    assert len(analyzed(f"{tmp_path}/run/*.pt").steps) == 5


COPIES = (
    ("step_200.pt", "step_200 (copy).pt"),
    ("step_200.pt", "step_200 (1).pt"),
    ("step_200.pt", "step_200_copy.pt"),
    ("step_200.pt", "Copy of step_200.pt"),
    ("step_200.pt", "step-200.pt"),
    ("epoch=2-step=200.ckpt", "best-epoch=2-step=200.ckpt"),
    ("epoch=2-step=200.ckpt", "epoch=2-step=200-v1.ckpt"),
    ("iter_200.pth", "best_coco_bbox_mAP_iter_200.pth"),
    ("checkpoint-200/model.pt", "checkpoint-200 (copy)/model.pt"),
    ("checkpoint-200/model.pt", "checkpoint-200_backup/model.pt"),
    ("gpt--val_loss=2.40-step=200-consumed_samples=6400.0.ckpt", "gpt--val_loss=2.40-step=200-consumed_samples=6400.0-last.ckpt"),
)  # fmt: skip


@pytest.mark.parametrize(("first", "second"), COPIES, ids=[b for _, b in COPIES])
def test_a_copy_is_left_out_and_said(tmp_path: Path, first: str, second: str) -> None:
    points = walk(4, BIG)
    numbered(tmp_path / "run", points, first.replace("200", "{}"))
    (tmp_path / "run" / second).parent.mkdir(exist_ok=True)
    shutil.copy(tmp_path / "run" / first, tmp_path / "run" / second)
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert not said(run)
    assert of_kind(run, "ignored-file").steps == (200,)


@pytest.mark.parametrize("second", ["step_200 (copy).pt", "step_200_backup.pt"])
def test_a_copy_that_was_changed_is_left_out_with_a_warning(tmp_path: Path, second: str) -> None:
    points = walk(4, BIG)
    numbered(tmp_path / "run", points)
    keyed(tmp_path / "run" / second, points[3], 200)
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert second in of_kind(run, "unread-weights").message


def test_an_average_that_equals_the_model_at_first_is_no_copy(tmp_path: Path) -> None:
    points = walk(4, BIG)
    numbered(tmp_path / "run", points)
    means = averaged(points)
    for state, step in zip(means, STEPS, strict=True):
        keyed(tmp_path / "run" / f"ema_step_{step}.pt", state, step)
    right(analyzed(tmp_path / "run"), points)
    right(analyzed(tmp_path / "run", state="ema", replace=True), means)
