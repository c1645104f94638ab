"""A small smooth network with a probe that keeps what it was evaluated at, and its gradients by autograd alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trajsvc.gradients.layerwise import whole_tensors
from trajsvc.gradients.network import Network
from trajsvc.gradients.options import GradientOptions
from trajsvc.gradients.sets.base import SetJob

Example = tuple[torch.Tensor, torch.Tensor]
Rows = NDArray[np.float64]


class PointsProbe:
    """Regression of points: the loss of (x, y) is ½|f(x) − y|². ``seen`` are the parameters and inputs of every evaluation."""

    digest = "points"

    def __init__(self, count: int = 12, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(count, 3, generator=draw, dtype=torch.float64)
        y = torch.randn(count, 2, generator=draw, dtype=torch.float64)
        self.examples: list[Example] = list(zip(x, y, strict=True))
        self.seen: list[tuple[Rows, Rows]] = []

    def network(self, config: object) -> nn.Module:
        return tanh_network()

    def inputs(self, network: nn.Module, examples: Sequence[Example]) -> torch.Tensor:
        return torch.stack([x for x, _ in examples]).to(next(network.parameters()).dtype)

    def losses_at(self, network: nn.Module, inputs: torch.Tensor, examples: Sequence[Example]) -> torch.Tensor:
        self.seen.append((flat(network), inputs.detach().double().numpy().copy()))
        wanted = torch.stack([y for _, y in examples]).to(inputs.dtype)
        return (network(inputs) - wanted).pow(2).sum(dim=1) / 2.0

    def losses(self, network: nn.Module, examples: Sequence[Example]) -> torch.Tensor:
        return self.losses_at(network, self.inputs(network, examples), examples)


def tanh_network(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double().eval()


def flat(network: nn.Module) -> Rows:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()]).double().numpy().copy()


def put(network: nn.Module, values: Rows) -> None:
    with torch.no_grad():
        at = 0
        for p in network.parameters():
            p.copy_(torch.from_numpy(values[at : at + p.numel()]).view_as(p))
            at += p.numel()


def network_of(module: nn.Module, step: int = 0) -> Network:
    blocks = whole_tensors(module)
    return Network(module, blocks, blocks, step)


def job(probe: Any = None, module: nn.Module | None = None, **options: Any) -> SetJob:
    given = {"probe": "points", "data": "", "examples": 12, "batch": 4, "directions": 3, **options}
    return SetJob(network_of(module or tanh_network()), probe or PointsProbe(), GradientOptions(**given))


def gradient(module: nn.Module, examples: Sequence[Example], at: Rows | None = None, x: Rows | None = None) -> Rows:
    """∇ of the mean loss by autograd, in one vector; at other parameters or another input of the one example where they are given."""
    before = flat(module)
    if at is not None:
        put(module, at)
    inputs = torch.stack([e[0] for e in examples]) if x is None else torch.from_numpy(x)
    loss = ((module(inputs) - torch.stack([e[1] for e in examples])).pow(2).sum(dim=1) / 2.0).mean()
    found = torch.autograd.grad(loss, list(module.parameters()))
    put(module, before)
    return torch.cat([g.reshape(-1) for g in found]).numpy()


def block_grams(module: nn.Module, rows: Rows) -> Rows:
    """(blocks, n, n) of vectors (n, P) over all parameters."""
    ends = np.cumsum([p.numel() for p in module.parameters()])
    parts = np.split(rows, ends[:-1], axis=1)
    return np.stack([part @ part.T for part in parts])


def closeness(found: Rows, expected: Rows) -> float:
    """Largest difference of two Grams, a share of the product of both vectors' norms in the whole network."""
    size = np.sqrt(np.diagonal(expected.sum(axis=0)))
    return float((np.abs(found - expected) / np.maximum(np.outer(size, size), 1e-300)).max())


Make = Callable[[SetJob], Any]
