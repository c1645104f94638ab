"""Gradients and updates of the short trainings of experiments, as float64 rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.experiments.data import Split
from trajsvc.experiments.training import endless

if TYPE_CHECKING:
    import torch

Rows = NDArray[np.float64]
Optimizers = Callable[["torch.nn.Module"], "torch.optim.Optimizer"]


@dataclass(frozen=True)
class Recorded:
    """A training of n steps: gradients and updates of every step, (n, P), and where each tensor's columns are."""

    gradients: Rows
    updates: Rows
    columns: dict[str, slice]
    network: torch.nn.Module


def columns_of(network: torch.nn.Module) -> dict[str, slice]:
    """Tensor → its columns."""
    found, at = {}, 0
    for name, parameter in network.named_parameters():
        found[name] = slice(at, at + parameter.numel())
        at += parameter.numel()
    return found


def flat(tensors: Any) -> Rows:
    """Tensors one after the other, (P), in float64."""
    return np.concatenate([t.detach().double().reshape(-1).numpy() for t in tensors])


def gradient(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Rows:
    """Return the gradient of the mean cross-entropy of a batch, (P)."""
    import torch

    loss = torch.nn.functional.cross_entropy(network(x), y)
    return flat(torch.autograd.grad(loss, list(network.parameters())))


def recorded(
    network: torch.nn.Module, optimizer: Optimizers, split: Split, *, steps: int, batch: int, seed: int
) -> Recorded:
    """Train for ``steps`` and keep every gradient and every update."""
    import torch

    rng = np.random.default_rng(seed)
    stepper = optimizer(network)
    order = endless(len(split), batch, rng)
    gradients, updates = [], []
    before = flat(network.parameters())
    for _ in range(steps):
        chosen = next(order)
        stepper.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(split.x[chosen]), split.y[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append(flat([p.grad for p in network.parameters()]))
        stepper.step()
        after = flat(network.parameters())
        updates.append(after - before)
        before = after
    return Recorded(np.array(gradients), np.array(updates), columns_of(network), network)
