"""Hyperparameters from the files of trainers: which are read, what of them is kept, and that nothing in them is executed or an error."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import trajsvc
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.logs import hyperparameters as trainer_files


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for step in (0, 10):
        at = folder / f"checkpoint-{step}"
        at.mkdir(parents=True)
        save_file({"layers.0.weight": np.full((4, 4), 1.0 + step, np.float32)}, at / "model.safetensors")
    return folder


def put(run: Path, name: str, text: str | bytes) -> None:
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def found(run: Path) -> dict[str, tuple[Any, str]]:
    source = LocalSource(run)
    return {h.name: (h.value, h.origin) for h in source.training_log(source.checkpoints()).hyperparameters}


def test_lightning_hydra_and_arguments_are_read_and_nested_keys_joined(run: Path) -> None:
    put(run, "hparams.yaml", "lr: 1.0e-3\noptim:\n  name: adamw\n  betas: [0.9, 0.95]\nnone: null\n")
    put(run, "args.json", json.dumps({"lr": 5, "seed": 3, "bf16": True}))
    put(run, ".hydra/config.yaml", "model:\n  width: 512\n")
    put(run, "checkpoint-10/training_args.json", json.dumps({"warmup_steps": 100}))
    assert found(run) == {
        "lr": (1e-3, "hparams.yaml"), "optim.name": ("adamw", "hparams.yaml"), "optim.betas.0": (0.9, "hparams.yaml"),
        "optim.betas.1": (0.95, "hparams.yaml"), "seed": (3, "args.json"), "bf16": (True, "args.json"),
        "model.width": (512, ".hydra/config.yaml"), "warmup_steps": (100, "training_args.json"),
    }  # fmt: skip


def test_of_a_models_configuration_what_shapes_the_network_is_kept(run: Path) -> None:
    config = {
        "model_type": "gpt_neox",
        "hidden_size": 512,
        "id2label": {"0": "x"},
        "bos_token_id": 0,
        "architectures": ["A"],
    }
    put(run, "checkpoint-10/config.json", json.dumps(config))
    assert found(run) == {"model_type": ("gpt_neox", "config.json"), "hidden_size": (512, "config.json")}


def test_the_newest_version_of_lightning_and_the_values_of_wandb(run: Path) -> None:
    put(run, "lightning_logs/version_0/hparams.yaml", "lr: 1\n")
    put(run, "lightning_logs/version_1/hparams.yaml", "lr: 2\n")
    put(run, "config.yaml", "wandb_version: 1\nwd: {desc: null, value: 0.1}\n")
    assert found(run) == {
        "lr": (2, "lightning_logs/version_1/hparams.yaml"), "wd": (0.1, "config.yaml"), "wandb_version": (1, "config.yaml"),
    }  # fmt: skip


def test_secrets_places_and_what_is_no_value_are_left_out(run: Path) -> None:
    told = {
        "hub_token": "hf_abc", "wandb.api_key": "x", "db": {"password": "x"}, "output_dir": "/home/me/out", "long": "x" * 201,
        "big": 2**70, "list": list(range(9)), "max_tokens": 2048, "a b": 1, "9x": 1, "text": "one\ntwo",
    }  # fmt: skip
    put(run, "args.json", json.dumps(told))
    assert found(run) == {"max_tokens": (2048, "args.json"), "a_b": (1, "args.json")}


BOMB = "a: &a [x, x]\n" + "".join(
    f"{n}: &{n} [*{p}, *{p}, *{p}, *{p}]\n" for p, n in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hparams.yaml", "lr: [\n"),
        ("hparams.yaml", "- 1\n"),
        ("hparams.yaml", "[" * 5000),
        ("args.json", "{"),
        ("args.json", "[" * 100_000),
        ("args.json", b"\xff\xfe"),
        ("args.json", '{"x": ' + "9" * 5000 + "}"),
        ("hparams.yaml", "x: 2026-13-45\n"),
        ("hparams.yaml", "x: !!int ''\n"),
        ("hparams.yaml", "x: !!float ''\n"),
        ("hparams.yaml", "x: !!bool maybe\n"),
        ("hparams.yaml", "x: !!timestamp now\n"),
        ("hparams.yaml", "x: 1" + ":1" * 300 + ".5\n"),
    ],
)
def test_a_bad_file_says_nothing(run: Path, name: str, text: str | bytes) -> None:
    put(run, name, text)
    assert found(run) == {}


def test_what_is_large_is_bounded(run: Path) -> None:
    put(run, "hparams.yaml", BOMB)
    put(run, "args.json", json.dumps({f"h{k}": k for k in range(1000)}))
    put(run, "hyperparameters.json", json.dumps({"x": "y" * trainer_files.MOST_BYTES}))
    assert len(found(run)) <= trainer_files.MOST


def test_nothing_is_executed(run: Path, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    put(run, "checkpoint-10/training_args.bin", pickle.dumps(Touch()))
    put(run, "hparams.yaml", f"bad: !!python/object/apply:os.system ['touch {tmp_path}/executed']\nlr: 1\n")
    assert found(run) == {"lr": (1, "hparams.yaml")}
    assert not (tmp_path / "executed").exists()


def test_the_analysis_keeps_them_and_reads_them_anew(run: Path, tmp_path: Path) -> None:
    put(run, "hparams.yaml", "lr: 0.1\nwd: 0\n")
    analysed = trajsvc.analyze(run, store=tmp_path / "store", name="r")
    assert analysed.hyperparameters == {"lr": 0.1, "wd": 0}
    put(run, "hparams.yaml", "lr: 0.2\nwd: 0\n")
    assert trajsvc.analyze(run, store=tmp_path / "store", name="r").hyperparameters == {"lr": 0.2, "wd": 0}
    from storage_schema.runs.store import RunStore

    RunStore(tmp_path / "store").describe("r", given={"lr": 0.3}, notes="mine")
    at = run / "checkpoint-20"
    at.mkdir()
    save_file({"layers.0.weight": np.full((4, 4), 9.0, np.float32)}, at / "model.safetensors")
    appended = trajsvc.analyze(run, store=tmp_path / "store", name="r")
    assert (len(appended.steps), appended.hyperparameters["lr"], appended.notes) == (3, 0.3, "mine")
