"""The runs that the tests of the page look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

NASTY = "<img src=x onerror=alert(1)>"


def make_deep_run(folder: Path, steps: int = 154, layers: int = 100, size: int = 48) -> Path:
    """Many checkpoints of many small layers, one of which has a name that would be an element."""
    rng = np.random.default_rng(5)
    names = [f"blocks.{i}.weight" for i in range(layers)] + [f"{NASTY}.weight"]
    values = {name: rng.normal(size=size).astype(np.float32) for name in names}
    drift = {name: rng.normal(size=size).astype(np.float32) for name in names}
    for step in range(steps):
        place = folder / f"step{step * 100}"
        place.mkdir(parents=True)
        save_file(values, place / "model.safetensors")
        for name in names:
            values[name] += (0.02 * drift[name] + 0.05 * rng.normal(size=size) / (1 + step / 20)).astype(np.float32)
    return folder


def make_moving_run(folder: Path, steps: int = 16, tensors: int = 8, side: int = 256) -> Path:
    """Tensors that move by as much as they are, at different speeds, so that an estimate has something to be wrong about."""
    rng = np.random.default_rng(7)
    values = [rng.normal(size=(side, side)).astype(np.float32) for _ in range(tensors)]
    for step in range(steps):
        place = folder / f"step{step * 10}"
        place.mkdir(parents=True)
        save_file({f"layers.{i}.weight": v for i, v in enumerate(values)}, place / "model.safetensors")
        for i, value in enumerate(values):
            value += (0.05 * (i + 1) * rng.normal(size=value.shape)).astype(np.float32)
    return folder


def make_logged_run(folder: Path, steps: int = 14, tokens: int = 2, seed: int = 1) -> Path:
    """Checkpoints whose names tell their tokens (in billions), and a log in which the learning rate drops twice."""
    rng = np.random.default_rng(seed)
    value = rng.normal(size=4000).astype(np.float32)
    for step in range(steps):
        place = folder / f"step{step * 100}-tokens{step * tokens + 1}B"
        place.mkdir(parents=True)
        save_file({"layers.0.weight": value, "layers.1.weight": value[::-1].copy()}, place / "model.safetensors")
        value = value + ((0.2 if step < 7 else 0.05) * rng.normal(size=4000)).astype(np.float32)
    rates = {step: 0.1 if step < 700 else 0.01 if step < 1000 else 0.001 for step in range(0, 100 * steps, 10)}
    lines = [json.dumps({"step": step, "lr": rate}) for step, rate in rates.items()]
    (folder / "train_log.jsonl").write_text("\n".join(lines) + "\n")
    return folder
