"""Names whose numbers are dates, versions or parts of epochs, those of many trainers, and patterns that errors suggest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from field_runs import of_kind, said
from listed_runs import analyzed, right, save, walk

from trajsvc.errors import TrajsvcError
from trajsvc.sources.steps import parse_step

NAMES: dict[str, tuple[tuple[str, ...], tuple[int, ...], str]] = {
    "SpeechBrain": (
        ("CKPT+2024-01-31+23-00-00+00/model.ckpt", "CKPT+2024-02-01+01-30-00+00/model.ckpt", "CKPT+2024-02-01+01-30-00+01/model.ckpt"),
        (0, 1, 2), "are dates",
    ),
    "artifacts": (("model-1a2b:v0/model.ckpt", "model-1a2b:v3/model.ckpt", "model-1a2b:v10/model.ckpt"), (0, 3, 10), ""),
    "halves": (("epoch=0.5.pt", "epoch=1.0.pt", "epoch=1.5.pt"), (5, 10, 15), "tenths"),
    "quarters": (("epoch_0.25.pt", "epoch_1.pt", "epoch_1.75.pt"), (25, 100, 175), "hundredths"),
    "parts before": (("0.5_epochs.pt", "1.0_epochs.pt", "1.5_epochs.pt"), (5, 10, 15), "tenths"),
    "parts that are none": (("epoch_1.0.pt", "epoch_2.0.pt", "epoch_3.0.pt"), (1, 2, 3), ""),
    "parts and steps": (("epoch=0.5-step=100.ckpt", "epoch=1.0-step=200.ckpt", "epoch=1.5-step=300.ckpt"), (100, 200, 300), ""),
    "scores before epochs": (("net-loss=2.05-epoch=0.ckpt", "net-loss=1.05-epoch=1.ckpt", "net-loss=0.95-epoch=2.ckpt"), (0, 1, 2), ""),
    "Keras": (("weights.01-0.45.pt", "weights.02-0.35.pt", "weights.10-0.25.pt"), (1, 2, 10), ""),
    "fairseq": (("checkpoint_1_100.pt", "checkpoint_2_200.pt", "checkpoint_3_300.pt"), (100, 200, 300), ""),
    "ESPnet": (("1epoch.pth", "2epoch.pth", "10epoch.pth"), (1, 2, 10), ""),
    "NeMo": (
        ("gpt--val_loss=2.50-step=1000-consumed_samples=32000.0.ckpt", "gpt--val_loss=2.40-step=2000-consumed_samples=64000.0.ckpt",
         "gpt--val_loss=2.30-step=10000-consumed_samples=320000.0.ckpt"), (1000, 2000, 10000), "",
    ),
    "Composer": (("ep0-ba100-rank0.pt", "ep0-ba200-rank0.pt", "ep1-ba1000-rank0.pt"), (100, 200, 1000), ""),
    "T5X": (("checkpoint_1000/model.safetensors", "checkpoint_2000/model.safetensors", "checkpoint_10000/model.safetensors"),
            (1000, 2000, 10000), ""),
    "torchtune": (("epoch_0/ft-model-00001-of-00001.safetensors", "epoch_1/ft-model-00001-of-00001.safetensors",
                   "epoch_2/ft-model-00001-of-00001.safetensors"), (0, 1, 2), ""),
    "LitGPT": (("step-00001000/lit_model.pth", "step-00002000/lit_model.pth", "step-00010000/lit_model.pth"), (1000, 2000, 10000), ""),
    "Diffusers": (("checkpoint-500/unet/diffusion_pytorch_model.safetensors", "checkpoint-1000/unet/diffusion_pytorch_model.safetensors",
                   "checkpoint-1500/unet/diffusion_pytorch_model.safetensors"), (500, 1000, 1500), ""),
    "detectron2": (("model_0004999.pth", "model_0009999.pth", "model_0014999.pth"), (4999, 9999, 14999), ""),
    "MMEngine": (("iter_1000.pth", "iter_2000.pth", "iter_10000.pth"), (1000, 2000, 10000), ""),
    "YOLO": (("epoch0.pt", "epoch10.pt", "epoch20.pt"), (0, 10, 20), ""),
    "Stable-Baselines3": (("rl_model_1000_steps.pt", "rl_model_2000_steps.pt", "rl_model_10000_steps.pt"), (1000, 2000, 10000), ""),
    "timm": (("checkpoint-10.pth.tar", "checkpoint-11.pth.tar", "checkpoint-12.pth.tar"), (10, 11, 12), ""),
    "fastai": (("model_0.pth", "model_1.pth", "model_2.pth"), (0, 1, 2), ""),
}  # fmt: skip


@pytest.mark.parametrize("scheme", NAMES)
def test_the_names_of_trainers_are_read_in_their_order(tmp_path: Path, scheme: str) -> None:
    names, steps, told = NAMES[scheme]
    points = walk(len(names))
    for name, point in zip(names, points, strict=True):
        save(tmp_path / "run" / name, point)
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert tuple(run.steps) == steps
    assert not said(run)
    if told:
        assert told in of_kind(run, "counted").message
    else:
        assert not run.findings


@pytest.mark.parametrize(
    "names",
    [("run-v1-final", "run-v2-final", "run-v10-final"), ("part1", "part2", "part3"), ("seed1", "seed2", "seed3")],
)
@pytest.mark.parametrize("file", ["{}/model.safetensors", "{}.safetensors"])
def test_the_pattern_of_an_error_works_as_it_is_pasted(tmp_path: Path, names: tuple[str, ...], file: str) -> None:
    points = walk(len(names))
    for name, point in zip(names, points, strict=True):
        save(tmp_path / "run" / file.format(name), point)
    with pytest.raises(TrajsvcError) as asked:
        analyzed(tmp_path / "run")
    (pattern,) = re.findall(r"--step-pattern '([^']+)'", asked.value.hint or "")
    run = analyzed(tmp_path / "run", step_pattern=pattern)
    right(run, points)


def test_an_error_without_numbers_suggests_names_and_no_pattern(tmp_path: Path) -> None:
    for name, point in zip(("alpha", "beta"), walk(2), strict=True):
        save(tmp_path / "run" / name / "model.safetensors", point)
    with pytest.raises(TrajsvcError) as asked:
        analyzed(tmp_path / "run")
    assert "--step-pattern" not in (asked.value.hint or "")
    assert "step_100" in (asked.value.hint or "")


@pytest.mark.parametrize("name", ["ep1.2.0.pt", "model-v3.pt", "x:y.pt", "CKPT+2024-01-01.pt", "2024-01-31/"])
def test_what_is_no_such_number(name: str) -> None:
    assert parse_step(name) is None
