"""The network whose gradients are taken: a copy in the precision asked for, in evaluation mode."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trajsvc.errors import Refused

Precision = Literal["float32", "float64"]
Losses = Callable[[nn.Module, Sequence[Any]], Tensor]
"""the losses of some examples, (C), each a function of the module and of its own example only"""


def for_evaluation(module: nn.Module, precision: Precision) -> nn.Module:
    """Put a module into ``precision`` and evaluation mode: itself where it is so already, otherwise a copy.

    Raises Refused (``not-per-example``) for batch normalisation that has no running statistics: an example's gradient then depends
    on the others.
    """
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise Refused(
                "not-per-example",
                f"{name or 'the module'} normalises by the statistics of the batch: the gradient of an example depends on the others",
                hint="Use a network that keeps running statistics, or one that normalises every example by itself.",
            )
    dtype = torch.float64 if precision == "float64" else torch.float32
    tensors = [*module.parameters(), *module.buffers()]
    if all(t.dtype == dtype for t in tensors if t.is_floating_point()) and not any(
        m.training for m in module.modules()
    ):
        return module
    return copy.deepcopy(module).to(dtype=dtype).eval()


def owners(network: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Find the modules, and their attributes, that hold each parameter, by its identity."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append((module, name))
    return found


def losses_of(network: nn.Module, losses: Losses, examples: Sequence[Any]) -> Tensor:
    """Compute the losses, checked to be one number an example."""
    with torch.enable_grad():
        found = losses(network, examples)
    if found.shape != (len(examples),):
        raise ValueError(f"{len(examples)} examples have as many losses, not a tensor of shape {tuple(found.shape)}")
    return found
