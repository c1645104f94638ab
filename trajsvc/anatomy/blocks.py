"""Blocks and groups: what the columns of the trajectory are called.

A *block* is a tensor, or the Q, K or V part of a fused one: the finest thing a Gram is kept for. A *group* is a set of
blocks with an id (``layer/3/attention.q``); its Gram is the sum of its blocks' Grams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

TIED: Final = "tied to "
"""what the reason of a tensor begins with that is counted under another's name, which follows"""


@dataclass(frozen=True, slots=True)
class Extent:
    """The elements of a flat tensor (C order) that a block covers:
    ``{o * stride + start + i : 0 <= o < outer, 0 <= i < length}``. A whole tensor of n elements is ``Extent(1, n, 0, n)``."""

    outer: int
    stride: int
    start: int
    length: int

    @property
    def size(self) -> int:
        return self.outer * self.length

    def elements(self) -> NDArray[np.int64]:
        """Return the covered elements' places in the flat tensor, (size), in the order of the block."""
        rows = np.arange(self.outer)[:, None] * self.stride
        return (rows + self.start + np.arange(self.length)).reshape(-1)


@dataclass(frozen=True, slots=True)
class Block:
    name: str
    """the tensor's name, or ``<tensor>[q]``, ``[k]``, ``[v]``, ``[gate]``, ``[up]`` for a part"""
    tensor: str
    part: str
    """``""``; of a fused projection ``"q"``, ``"k"`` or ``"v"``; of a fused gated MLP ``"gate"`` or ``"up"``"""
    layer: str
    """``"3"`` in a transformer (``"encoder.layers.3"`` where it has several stacks), ``"layer2.0"`` elsewhere, ``""`` for
    embeddings"""
    component: str
    """``attention.q``, ``attention.k``, ``attention.v``, ``attention.out``, the same under ``cross-attention``, ``mlp.in``,
    ``mlp.out``, ``mlp.gate``, ``norm``, ``embedding``, ``unembedding`` or ``""``"""
    extent: Extent

    @property
    def size(self) -> int:
        return self.extent.size


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    blocks: tuple[int, ...]
    """indices into ``Anatomy.blocks``"""
    parameters: int
    tensors: int


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a checkpoint's tensors are. ``blocks`` are in the order of the columns of Θ: tensors in checkpoint order, Q K V parts
    of a fused tensor side by side."""

    architecture: str
    """key of the rule that matched: ``gpt-neox``, ``llama`` …, or ``generic``"""
    blocks: tuple[Block, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """tensor → why it is not a parameter (buffer, integer type, tied to …)"""
    notes: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    """what is not certain of fused tensors: the layout that they are taken to have, or that it is not known"""
    heads: int | None = None
    """attention heads, where the config, the rule or the user says how many"""
    head_dim: int | None = None
    """features of a head, only where the config says it"""
