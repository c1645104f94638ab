"""Logs that trainers leave beside checkpoints: what is read, where the rate drops, and that a bad log is no error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import trajsvc
from storage_schema.models.results import LearningRate
from storage_schema.models.training_log import TrainingLog
from trajsvc.results import answers
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.logs import training_log as logs
from trajsvc.sources.logs.learning_rate import MOST_POINTS, drops


def run_at(folder: Path, names: list[str]) -> Path:
    values = {"layers.0.weight": np.ones((4, 4), np.float32)}
    for i, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        save_file({k: v * (i + 1) for k, v in values.items()}, folder / name / "model.safetensors")
    return folder


def rate_of(folder: Path, file: str, text: str | bytes) -> LearningRate | None:
    path = folder / file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    source = LocalSource(folder)
    return source.training_log(source.checkpoints()).learning_rate


def lines(entries: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(e) + "\n" for e in entries)


PLATEAUS = [0.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001]


def test_a_log_of_json_lines(tmp_path: Path) -> None:
    run = run_at(tmp_path, ["step0", "step40", "step80"])
    found = rate_of(
        run, "train_log.jsonl", lines([{"step": 10 * i, "lr": r, "loss": 1.0} for i, r in enumerate(PLATEAUS)])
    )
    assert found is not None
    assert found.drops == [30, 60]
    assert dict(zip(found.step, found.rate, strict=True)) == {
        0: 0.0,
        10: 0.1,
        30: 0.1,
        40: 0.01,
        60: 0.01,
        70: 0.001,
        80: 0.001,
    }


def test_the_state_of_the_trainer_in_the_last_checkpoint(tmp_path: Path) -> None:
    run = run_at(tmp_path, ["checkpoint-100", "checkpoint-200"])
    history = [{"step": s, "learning_rate": 1e-4 * (1 - s / 400), "epoch": s / 100} for s in range(0, 201, 20)]
    history.append({"step": 200, "eval_loss": 2.0})
    (run / "checkpoint-100" / "trainer_state.json").write_text(json.dumps({"log_history": history[:6]}))
    found = rate_of(run, "checkpoint-200/trainer_state.json", json.dumps({"global_step": 200, "log_history": history}))
    assert found is not None
    assert found.step == list(range(0, 201, 20))
    assert found.rate == [1e-4 * (1 - s / 400) for s in range(0, 201, 20)]
    assert found.drops == []


def test_epochs_are_the_steps_of_checkpoints_that_are_numbered_by_them(tmp_path: Path) -> None:
    run = run_at(tmp_path, [f"epoch_{i:03d}" for i in range(9)])
    found = rate_of(run, "train_log.jsonl", lines([{"epoch": i, "lr": r} for i, r in enumerate(PLATEAUS)]))
    assert found is not None
    assert found.drops == [3, 6]


def test_epochs_of_checkpoints_that_have_steps_too(tmp_path: Path) -> None:
    run = run_at(tmp_path, [f"epoch={i}-step={500 * (i + 1)}" for i in range(9)])
    found = rate_of(run, "train_log.jsonl", lines([{"epoch": i, "lr": r} for i, r in enumerate(PLATEAUS)]))
    assert found is not None
    assert found.drops == [2000, 3500]


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n\n", b"not json", b"[1, 2]\n3\nnull\n", b"\xff\xfe\x00", b'{"step": 1, "lr": 0.1}', b'{"step": 1}\n{"lr": 1}',
        b'{"step": true, "lr": 1}\n{"step": 2, "lr": false}', b'{"step": 1, "lr": NaN}\n{"step": 2, "lr": Infinity}',
        b'{"step": 1.5, "lr": 1}\n{"step": "2", "lr": 1}', b'{"step": -1, "lr": 1}\n{"step": 1e300, "lr": 1}',
        b'{"step": 1' + b"0" * 400 + b', "lr": 1}\n{"step": 2, "lr": 1' + b"0" * 400 + b"}", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"step": 1, "lr": 0}\n{"step": 2, "lr": 0}', b'{"step": 1, "lr": -1}\n{"step": 2, "lr": -1}',
    ],
)  # fmt: skip
def test_what_is_no_log_says_nothing(tmp_path: Path, text: bytes) -> None:
    run = run_at(tmp_path, ["checkpoint-1", "checkpoint-2"])
    assert rate_of(run, "train_log.jsonl", text) is None
    assert rate_of(run, "checkpoint-2/trainer_state.json", b'{"log_history": ' + text + b"}") is None
    assert rate_of(run, "checkpoint-2/trainer_state.json", text) is None


def test_a_folder_in_the_place_of_a_log_says_nothing(tmp_path: Path) -> None:
    run = run_at(tmp_path, ["step1", "step2"])
    (run / "train_log.jsonl").mkdir()
    (run / "log.jsonl").symlink_to("/etc/passwd")
    source = LocalSource(run)
    assert source.training_log(source.checkpoints()) == TrainingLog()
    assert source.training_log([]) == TrainingLog()


def test_a_long_log_is_thinned_and_its_drops_are_not_lost(tmp_path: Path) -> None:
    run = run_at(tmp_path, ["step1", "step2"])
    rates = [0.1 * (1 + 1e-6 * (i % 7)) if i < 17_001 else 0.01 * (1 + 1e-6 * (i % 7)) for i in range(40_000)]
    found = rate_of(run, "train_log.jsonl", lines([{"step": i, "lr": r} for i, r in enumerate(rates)]))
    assert found is not None
    assert found.drops == [17_000]
    assert len(found.step) == MOST_POINTS
    assert (found.step[0], found.step[-1]) == (0, 39_999)


def test_only_falls_between_plateaus_are_drops() -> None:
    def dropped(rates: list[float]) -> list[int]:
        return drops(list(enumerate(rates)))

    assert dropped([1.0, 1.0, 0.5, 0.5]) == [1]
    assert dropped([1.0, 0.1]) == [0]
    assert dropped([1.0, 1.0, 0.8, 0.8]) == [], "a small step"
    assert dropped([1.0, 0.5, 0.25, 0.125]) == [], "an exponential decay"
    assert dropped([1.0, 1.0, 0.0, 0.0]) == [], "the end"
    assert dropped([0.0, 0.5, 1.0, 1.0]) == [], "a warm-up"
    cosine = [0.5 * (1 + math.cos(math.pi * i / 50)) for i in range(51)]
    assert dropped(cosine) == []
    assert dropped([]) == dropped([1.0]) == []


def test_the_run_the_summary_and_the_page_of_text_have_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_at(tmp_path / "run", ["step0", "step40", "step80"])
    (run / "train_log.jsonl").write_text(lines([{"step": 10 * i, "lr": r} for i, r in enumerate(PLATEAUS)]))
    opened = trajsvc.analyze(run, store=tmp_path / "store")
    assert opened.learning_rate is not None
    assert opened.learning_rate.drops == [30, 60]
    assert answers.summary(opened).learning_rate == opened.learning_rate
    from rich.console import Console

    from trajsvc.cli.show import render_summary

    render_summary(opened, Console(width=120))
    assert "drops after 30, 60" in capsys.readouterr().out


def logged(folder: Path) -> dict[str, dict[int, float]]:
    source = LocalSource(folder)
    found = source.training_log(source.checkpoints())
    return {s.name: dict(zip(s.step, s.value, strict=True)) for s in found.series}


def test_losses_and_scores_of_the_trainer(tmp_path: Path) -> None:
    run = run_at(tmp_path, ["checkpoint-100", "checkpoint-200"])
    history = [
        {"step": 50, "loss": 3.0, "grad_norm": 1.5, "learning_rate": 1e-4, "epoch": 0.5},
        {"step": 100, "loss": 2.0, "grad_norm": 0.5, "learning_rate": 1e-4, "epoch": 1.0},
        {"step": 100, "eval_loss": 2.5, "epoch": 1.0},
        {"step": 200, "eval_loss": 2.25, "eval_accuracy": 0.5, "epoch": 2.0, "total_flos": 1e9},
        {"step": 200, "loss": float("nan")},
    ]
    (run / "checkpoint-200/trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert logged(run) == {
        "loss": {50: 3.0, 100: 2.0},
        "eval_loss": {100: 2.5, 200: 2.25},
        "grad_norm": {50: 1.5, 100: 0.5},
    }


def test_a_table_of_lightning_and_an_export_of_wandb(tmp_path: Path) -> None:
    run = run_at(tmp_path, ["step10", "step20"])
    folder = run / "lightning_logs" / "version_0"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("epoch,step,train_loss,val_acc\n0,10,1.5,\n0,15,,0.25\n1,20,1.25,0.5\n")
    (run / "wandb_export_2026-01-01.csv").write_text('"Step","run - loss","_timestamp"\n1,9,1\n2,8.5,2\n')
    assert logged(run) == {
        "run - loss": {1: 9.0, 2: 8.5},
        "train_loss": {10: 1.5, 20: 1.25},
        "val_acc": {15: 0.25, 20: 0.5},
    }


def test_event_files_of_tensorboard(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    run = run_at(tmp_path, ["step10", "step20"])
    with SummaryWriter(str(run / "runs" / "first")) as writer:
        for step in (0, 10, 20):
            writer.add_scalar("train/loss", 4.0 - step / 10, step)
            writer.add_scalar("lr", 0.5, step)
            writer.add_histogram("weights", np.arange(9.0), step)
    assert logged(run) == {"train/loss": {0: 4.0, 10: 3.0, 20: 2.0}}
    source = LocalSource(run)
    rate = source.training_log(source.checkpoints()).learning_rate
    assert rate is not None
    assert set(rate.rate) == {0.5}
    whole = next((run / "runs" / "first").iterdir())
    whole.write_bytes(whole.read_bytes()[:-7])  # as while it is written
    assert logged(run)["train/loss"][10] == 3.0
    whole.write_bytes(b"\xff" * 1000)
    assert logged(run) == {}


def test_a_long_log_keeps_the_checkpoints(tmp_path: Path) -> None:
    run = run_at(tmp_path, ["step777", "step3001"])
    (run / "metrics.jsonl").write_text(
        lines([{"step": i, "loss": 1.0 / (i + 1), **{f"q{k}": i for k in range(30)}} for i in range(5000)])
    )
    found = logged(run)
    assert len(found) == logs.MOST_SERIES
    assert next(iter(found)) == "loss"
    assert {0, 777, 3001, 4999} <= found["loss"].keys()
    assert len(found["loss"]) <= logs.MOST_POINTS + 2
    assert found["loss"][777] == 1.0 / 778


@pytest.mark.parametrize(
    "text", [b"", b"step,loss\n", b"step\n1\n2\n", b'"\n,,\x00\xff', b"a,b\n1,2\n3,4\n", b"step,loss\n1,x\n2,\n"]
)
def test_tables_that_say_nothing(tmp_path: Path, text: bytes) -> None:
    run = run_at(tmp_path, ["step1", "step2"])
    (run / "metrics.csv").write_bytes(text)
    assert logged(run) == {}
