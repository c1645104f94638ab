"""Grams of the gradients of single examples, for any torch module: one forward and backward pass an example, in evaluation mode.

Gradients are formed, tensor by tensor within a budget of memory, and multiplied in float64. The network itself is evaluated in float64
too unless told otherwise: a gradient is a small difference of large sums.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from trajsvc.errors import LimitExceeded, Refused
from trajsvc.measures.gradients.vector_gram import VectorGram
from trajsvc.settings import parse_bytes

if TYPE_CHECKING:
    import torch

Example = TypeVar("Example")
Precision = Literal["float32", "float64"]


def example_grams(
    module: torch.nn.Module,
    loss: Callable[[torch.nn.Module, Example], torch.Tensor],
    examples: Sequence[Example],
    *,
    memory: str | int = "512MiB",
    precision: Precision = "float64",
) -> dict[str, VectorGram]:
    """Parameter tensor → the Gram of its gradients g_i = ∇ ``loss(module, examples[i])``, i = 1 … n. Their sum is the network's.

    ``loss`` gives a scalar for one example, of the types in which the module computes. The module is copied, put into ``precision`` and
    evaluation mode (no dropout; batch normalisation by its running statistics, as an example's gradient depends on no other), and left as
    it was. A tensor that the loss does not use, or that is frozen, has zero gradients; tied tensors are one, under the first name.
    n × (parameters of the tensors that are held at once) × 8 bytes are kept within ``memory``; where they do not all fit, the
    examples are passed several times.

    Raises LimitExceeded (``memory-budget``) where one tensor alone does not fit, and Refused (``gradients-not-finite``).
    """
    import torch

    if not examples:
        raise ValueError("no examples")
    network = copy.deepcopy(module).to(dtype=torch.float64 if precision == "float64" else torch.float32).eval()
    named = dict(network.named_parameters())
    grams: dict[str, VectorGram] = {}
    for held in _passes({n: p.numel() for n, p in named.items()}, len(examples), parse_bytes(str(memory))):
        grams |= _pass(network, {n: named[n] for n in held}, loss, examples)
    return {name: grams[name] for name in named}


def _passes(sizes: Mapping[str, int], count: int, memory: int) -> Iterator[list[str]]:
    """Names of the tensors whose gradients are held together, in order."""
    held: list[str] = []
    room = memory
    for name, size in sizes.items():
        need = 8 * size * count
        if need > memory:
            raise LimitExceeded(
                "memory-budget",
                f"{count} gradients of {name} take {need >> 20} MiB, more than the memory budget of {memory >> 20} MiB",
                hint="Give more memory, or fewer examples.",
            )
        if need > room:
            yield held
            held, room = [], memory
        held.append(name)
        room -= need
    if held:
        yield held


def _pass(
    network: torch.nn.Module,
    tensors: Mapping[str, torch.nn.Parameter],
    loss: Callable[[torch.nn.Module, Example], torch.Tensor],
    examples: Sequence[Example],
) -> dict[str, VectorGram]:
    rows = {name: np.zeros((len(examples), tensor.numel())) for name, tensor in tensors.items()}
    learnt = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad and tensor.numel()}
    for i, example in enumerate(examples):
        for name, gradient in _gradients(loss(network, example), learnt).items():
            if gradient is not None:
                rows[name][i] = gradient.detach().double().cpu().reshape(-1).numpy()
    wrong = {name: int((~np.isfinite(values)).any(axis=1).sum()) for name, values in rows.items()}
    if any(wrong.values()):
        name, count = next((n, c) for n, c in wrong.items() if c)
        raise Refused(
            "gradients-not-finite",
            f"{count} of {len(examples)} gradients of {name} have NaN or infinite values",
            hint="Look at the loss of these examples, or choose another checkpoint.",
        )
    return {name: VectorGram.of_vectors(values, group=f"tensor/{name}") for name, values in rows.items()}


def _gradients(value: torch.Tensor, tensors: Mapping[str, torch.nn.Parameter]) -> dict[str, Any]:
    import torch

    if value.numel() != 1:
        raise ValueError(f"the loss of an example is a scalar, not of shape {tuple(value.shape)}")
    if not tensors or not value.requires_grad:
        return {}
    found = torch.autograd.grad(value.reshape(()), list(tensors.values()), allow_unused=True)
    return dict(zip(tensors, found, strict=True))
