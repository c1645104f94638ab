"""A run, examples and a probe of two small layers: what workers of a job of gradients compute in no time, or as slowly as is asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from trajsvc.gradients.probes.base import ProbeContext, file_digest


class Tiny:
    """Regression by a network of one hidden layer; the data say how many ``seconds`` an example takes."""

    def __init__(self, context: ProbeContext) -> None:
        with np.load(context.data) as file:
            self.examples = list(zip(file["x"], file["y"], strict=True))
            self.seconds = float(file["seconds"])
        self.digest = file_digest(context.data)

    def network(self, config: Mapping[str, Any] | None) -> torch.nn.Module:
        layers = torch.nn.ModuleList([torch.nn.Linear(5, 7, bias=False), torch.nn.Linear(7, 1, bias=False)])
        return torch.nn.ModuleDict({"layers": layers})

    def losses(self, network: Any, examples: Sequence[Any]) -> torch.Tensor:
        time.sleep(self.seconds * len(examples))
        x = torch.stack([torch.as_tensor(x) for x, _ in examples])
        y = torch.stack([torch.as_tensor(y) for _, y in examples])
        first, second = network["layers"]
        found: torch.Tensor = (second(torch.tanh(first(x)))[:, 0] - y) ** 2
        return found


def make_tiny_run(folder: Path, steps: int = 6) -> Path:
    rng = np.random.default_rng(1)
    values = {"layers.0.weight": rng.normal(size=(7, 5)), "layers.1.weight": rng.normal(size=(1, 7))}
    for step in range(steps):
        place = folder / f"step{step * 10}"
        place.mkdir(parents=True)
        save_file(values, place / "model.safetensors")
        values = {name: value + 0.1 * rng.normal(size=value.shape) for name, value in values.items()}
    return folder


def make_examples(path: Path, count: int = 8, seconds: float = 0.0) -> Path:
    rng = np.random.default_rng(2)
    np.savez(path, x=rng.normal(size=(count, 5)), y=rng.normal(size=count), seconds=seconds)
    return path
