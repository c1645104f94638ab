"""Trainings whose updates are confined to a subspace: that of some gradients, or one drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trajsvc.experiments.data import Split
from trajsvc.experiments.training import endless
from trajsvc.experiments.vectors import Optimizers

if TYPE_CHECKING:
    import torch

Basis = Callable[["torch.Tensor"], "torch.Tensor | None"]
"""(steps so far, P) gradients → orthonormal columns (P, d) that updates are confined to from then on, or None: not yet"""


def spanned(vectors: torch.Tensor) -> torch.Tensor:
    """Return orthonormal columns (P, r) that span the rows of ``vectors`` (d, P), by the singular value decomposition.

    r is the number of singular values above 1e-6 of the largest: rows that are combinations of others add no direction. In float64,
    as successive gradients are nearly parallel, and returned in the type of ``vectors``.
    """
    import torch

    _, values, directions = torch.linalg.svd(vectors.double(), full_matrices=False)
    found: torch.Tensor = directions[values > 1e-6 * values[0]]
    return found.T.to(vectors.dtype).contiguous()


def drawn(dimensions: int, parameters: int, seed: int) -> torch.Tensor:
    """Return orthonormal columns (P, d) of a random subspace."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    return spanned(torch.randn(dimensions, parameters, generator=rng))


def confined(
    network: torch.nn.Module,
    optimizer: Optimizers,
    split: Split,
    *,
    steps: int,
    batch: int,
    seed: int,
    free: int = 0,
    basis: Basis | None = None,
) -> torch.Tensor:
    """Train, after ``free`` plain steps with every update u replaced by Q Qᵀ u, Q = ``basis(gradients so far)``.

    The optimizer sees the whole gradients, and its state is its own. Returns the gradients of the free steps, (free, P) in float32.
    """
    import numpy as np
    import torch
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    stepper = optimizer(network)
    order = endless(len(split), batch, np.random.default_rng(seed))
    gradients: list[torch.Tensor] = []
    inside: torch.Tensor | None = None
    for step in range(steps):
        chosen = next(order)
        stepper.zero_grad()
        torch.nn.functional.cross_entropy(network(split.x[chosen]), split.y[chosen]).backward()  # type: ignore[no-untyped-call]
        if step < free:
            gradients.append(parameters_to_vector(p.grad for p in network.parameters() if p.grad is not None))
        elif step == free and basis is not None:
            inside = basis(torch.stack(gradients) if gradients else torch.empty(0))
        before = parameters_to_vector(network.parameters()).detach() if inside is not None else None
        stepper.step()
        if inside is not None and before is not None:
            update = parameters_to_vector(network.parameters()).detach() - before
            with torch.no_grad():
                vector_to_parameters(before + inside @ (inside.T @ update), network.parameters())
    return torch.stack(gradients) if gradients else torch.empty(0)
