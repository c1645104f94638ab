"""Gradients of single examples by ``torch.func``, and a comparison of Grams with theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad

from trajsvc.anatomy.blocks import Block


class Whole(nn.Module):
    """A network and its losses as one module, so that ``functional_call`` puts parameters in."""

    def __init__(self, network: nn.Module, losses: Any) -> None:
        super().__init__()
        self.network, self.losses = network, losses

    def forward(self, examples: Sequence[Any]) -> torch.Tensor:
        return self.losses(self.network, examples)


def explicit(network: nn.Module, losses: Any, examples: Sequence[Any]) -> dict[str, np.ndarray]:
    """Tensor → (n, P) float64 of ``torch.func.grad``, the network as it is."""
    whole = Whole(network, losses)
    named = {name: p.detach() for name, p in network.named_parameters()}

    def loss(values: dict[str, torch.Tensor], example: Any) -> torch.Tensor:
        return functional_call(whole, {f"network.{n}": v for n, v in values.items()}, ([example],))[0]

    rows = [grad(loss)(named, example) for example in examples]
    return {n: np.stack([r[n].reshape(-1).double().numpy() for r in rows]) for n in named}


def block_rows(values: np.ndarray, block: Block) -> np.ndarray:
    """The columns (n, size) of a block, from its definition."""
    e = block.extent
    columns = [o * e.stride + e.start + i for o in range(e.outer) for i in range(e.length)]
    return values[:, columns]


def assert_grams(gram: np.ndarray, blocks: Sequence[Block], oracle: dict[str, np.ndarray], rtol: float = 1e-12) -> None:
    """Each K^b is that of the explicit rows, up to ``rtol`` of ‖g_i‖‖g_j‖, or of norms a millionth of the largest.

    The gradient of a key's bias, for one, is zero but for rounding.
    """
    largest = max(np.linalg.norm(rows, axis=1).max() for rows in oracle.values())
    for k, block in zip(gram, blocks, strict=True):
        rows = block_rows(oracle[block.tensor], block)
        norms = np.linalg.norm(rows, axis=1) + 1e-6 * largest
        worst = (np.abs(k - rows @ rows.T) / np.outer(norms, norms)).max()
        assert worst <= rtol, f"{block.name}: {worst}"
