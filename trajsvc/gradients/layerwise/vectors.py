"""The gradient of one loss as vectors, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.errors import Refused
from trajsvc.gradients.layerwise.formed import gradient_of
from trajsvc.measures.base import Array


def whole_tensors(module: nn.Module) -> tuple[Block, ...]:
    """A block for every tensor of ``named_parameters()``."""
    named = module.named_parameters()
    return tuple(Block(n, n, "", "", "", Extent(1, p.numel(), 0, p.numel())) for n, p in named)


def gradient_rows(module: nn.Module, loss: torch.Tensor, blocks: Sequence[Block]) -> list[Array]:
    """∇ ``loss`` as one float64 vector a block, in the order of the block's elements; zeros where a tensor is frozen or unused.

    ``loss`` is a scalar that was computed by ``module``, whatever its mode. Raises Refused (``gradients-not-finite``).
    """
    named = dict(module.named_parameters(remove_duplicate=False))
    wanted = {b.tensor: named[b.tensor] for b in blocks}
    found = {n: g.reshape(-1).double().cpu().numpy() for n, g in gradient_of(loss, wanted).items()}
    for name, gradient in found.items():
        if not np.isfinite(gradient).all():
            raise Refused(
                "gradients-not-finite",
                f"the gradient of {name} has NaN or infinite values",
                hint="Look at the loss of these examples, or choose another checkpoint.",
            )
    return [_cut(found[b.tensor], b.extent) for b in blocks]


def _cut(values: Array, extent: Extent) -> Array:
    starts = extent.start + extent.stride * np.arange(extent.outer)
    return np.take(values, (starts[:, None] + np.arange(extent.length)).reshape(-1))
