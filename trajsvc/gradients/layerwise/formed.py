"""Gradients of single examples that are formed: by ``torch.func`` for several examples at once, or by one backward pass each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.utils import _pytree

from trajsvc.gradients.layerwise.network import Losses, losses_of
from trajsvc.gradients.layerwise.uses import replaced


def gradient_of(value: Tensor, tensors: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Differentiate a scalar: tensor → its gradient; zeros where the scalar does not depend on it or it is frozen."""
    learnt = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    found: Sequence[Tensor | None] = [None] * len(learnt)
    if learnt and value.requires_grad:
        found = torch.autograd.grad(value, list(learnt.values()), allow_unused=True)
    given = dict(zip(learnt, found, strict=True))
    return {name: dense(given.get(name), tensor) for name, tensor in tensors.items()}


def dense(gradient: Tensor | None, tensor: Tensor) -> Tensor:
    """Give a gradient the shape of its tensor; zeros for none."""
    if gradient is None:
        return torch.zeros_like(tensor).detach()
    return (gradient if gradient.layout == torch.strided else gradient.to_dense()).detach()


def one_by_one(
    network: nn.Module, losses: Losses, examples: Sequence[Any], tensors: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Form rows (C, P) of every tensor, by one forward and backward pass an example."""
    rows = {name: tensor.new_zeros(len(examples), tensor.numel()) for name, tensor in tensors.items()}
    for i, example in enumerate(examples):
        for name, gradient in gradient_of(losses_of(network, losses, [example])[0], tensors).items():
            rows[name][i] = gradient.reshape(-1)
    return {name: r.detach() for name, r in rows.items()}


class NotStackable(Exception):
    """Examples that are no tensors of one shape."""


def together(
    network: nn.Module,
    losses: Losses,
    examples: Sequence[Any],
    tensors: Mapping[str, nn.Parameter],
    places: Mapping[str, Sequence[tuple[nn.Module, str]]],
) -> dict[str, Tensor]:
    """Form rows (C, P) of every tensor by ``vmap(grad)``. Raises whatever a network raises that does not bear it, and NotStackable."""
    leaves, tree = _stacked(examples)

    def loss(values: dict[str, Tensor], *example: Tensor) -> Tensor:
        where = {place: values[name] for name, found in places.items() if name in values for place in found}
        with replaced(where):
            return losses(network, [_pytree.tree_unflatten(list(example), tree)])[0]

    values = {name: tensor.detach() for name, tensor in tensors.items()}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of operations that vmap takes one by one
        found = vmap(grad(loss), in_dims=(None, *[0] * len(leaves)))(values, *leaves)
    return {name: gradient.detach().reshape(len(examples), -1) for name, gradient in found.items()}


def _stacked(examples: Sequence[Any]) -> tuple[list[Tensor], Any]:
    flat = [_pytree.tree_flatten(example) for example in examples]
    if any(tree != flat[0][1] for _, tree in flat) or not flat[0][0]:
        raise NotStackable
    return [_stack(leaves) for leaves in zip(*(leaves for leaves, _ in flat), strict=True)], flat[0][1]


def _stack(leaves: Sequence[Any]) -> Tensor:
    if not all(isinstance(leaf, Tensor | np.ndarray | np.generic) for leaf in leaves):
        raise NotStackable
    tensors = [torch.as_tensor(leaf) for leaf in leaves]
    if any(t.shape != tensors[0].shape or t.dtype != tensors[0].dtype for t in tensors):
        raise NotStackable
    return torch.stack(tensors)
