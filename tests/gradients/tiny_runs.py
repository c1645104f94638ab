"""A small convolution-free network with batch normalisation, checkpoints of it in files, its run in a store, and a probe of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

import trajsvc
from trajsvc.gradients.options import GradientOptions
from trajsvc.gradients.probes.base import ProbeContext, file_digest

STEPS = (0, 10, 20, 30)
RUN = "tiny"


class Tiny(nn.Module):
    """Two layers with batch normalisation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.last(torch.tanh(self.norm(self.first(x))))


class TinyProbe:
    """Classification of the rows of ``x`` of a .npz."""

    def __init__(self, context: ProbeContext) -> None:
        self.digest = file_digest(context.data)
        with np.load(context.data) as file:
            self.examples = list(zip(file["x"], file["y"], strict=True))

    def network(self, config: Mapping[str, Any] | None) -> nn.Module:
        return Tiny()

    def losses(self, network: nn.Module, examples: Sequence[Any]) -> torch.Tensor:
        weight = next(network.parameters())
        x = torch.stack([torch.as_tensor(row) for row, _ in examples]).to(weight.dtype)
        y = torch.stack([torch.as_tensor(label) for _, label in examples])
        return nn.functional.cross_entropy(network(x), y, reduction="none")


class Smaller(TinyProbe):
    """Has no place for the last layer's bias."""

    def network(self, config: Mapping[str, Any] | None) -> nn.Module:
        network = Tiny()
        network.last = nn.Linear(5, 3, bias=False)
        return network


class Larger(TinyProbe):
    """Has a layer that no checkpoint has."""

    def network(self, config: Mapping[str, Any] | None) -> nn.Module:
        network = Tiny()
        network.further = nn.Linear(3, 3)
        return network


class Wider(TinyProbe):
    """Has a layer of another shape."""

    def network(self, config: Mapping[str, Any] | None) -> nn.Module:
        network = Tiny()
        network.last = nn.Linear(5, 4)
        return network


def network(step: int) -> Tiny:
    """What is in the file of a step, in float64: the values of the file are float32."""
    torch.manual_seed(step + 1)
    made = Tiny()
    made.norm.running_mean.copy_(torch.randn(5))
    made.norm.running_var.copy_(torch.rand(5) + 0.5)
    return made.double().eval()


def checkpoint(folder: Path, step: int) -> Path:
    """The file of a step."""
    path = folder / f"step{step}" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file({name: v.float() if v.is_floating_point() else v for name, v in network(step).state_dict().items()}, path)
    return path


def checkpoints(folder: Path) -> Path:
    for step in STEPS:
        checkpoint(folder, step)
    return folder


def analysed(folder: Path, store: Path, **options: Any) -> Path:
    """The store with the run of ``folder``."""
    trajsvc.analyze(folder, store=store, name=RUN, threads=1, **options)
    return store


def data(path: Path, count: int = 24) -> Path:
    rng = np.random.default_rng(3)
    np.savez(path, x=rng.normal(size=(count, 4)), y=rng.integers(0, 3, size=count))
    return path


def chosen(path: Path, sets: str = "example,batch", **options: Any) -> GradientOptions:
    given: dict[str, Any] = {
        "probe": "tiny_runs:TinyProbe",
        "data": str(path),
        "examples": 8,
        "batch": 2,
        "directions": 2,
    }
    return GradientOptions(sets=tuple(sets.split(",")), **(given | options))


def rows(step: int, path: Path, count: int = 8) -> np.ndarray:
    """Gradients of single examples by autograd, (count, P)."""
    made = network(step)
    with np.load(path) as file:
        x, y = torch.from_numpy(file["x"][:count]), torch.from_numpy(file["y"][:count])
    found = []
    for i in range(count):
        loss = nn.functional.cross_entropy(made(x[i : i + 1]), y[i : i + 1])
        found.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(made.parameters()))]))
    return torch.stack(found).numpy()


class Reduced(TinyProbe):
    """Gives one loss for all examples."""

    def losses(self, network: nn.Module, examples: Sequence[Any]) -> torch.Tensor:
        return super().losses(network, examples).mean()


class Bare:
    """Is no probe."""

    digest = ""

    def __init__(self, context: ProbeContext) -> None:
        pass
