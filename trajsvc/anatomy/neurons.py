"""Which blocks are matrices whose rows are counted apart, and how wide the rows are: usually a row is what one neuron computes.

Rows are those of the stored tensor: of its first axis by all others, so that a convolution has a row for every output channel. Of a
stack of experts or of heads they are those of each member. A part of a fused matrix has its own rows; one that is cut along columns has
a piece of every row. Where a layer stores its matrix input by output (``Conv1D`` of GPT-2), rows are its inputs. Those of an embedding are
tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from trajsvc.anatomy.blocks import Block

_HEADED: Final = ("attention.q", "attention.k", "attention.v")


def stack_of(block: Block, shape: Sequence[int]) -> str | None:
    """Return what a tensor of three axes is a stack of, ``expert`` or a head of ``q``, ``k``, ``v``; None where it is none."""
    if len(shape) != 3:
        return None
    if "expert" in block.tensor.lower():
        return "expert"
    return block.component.removeprefix("attention.") if block.component in _HEADED else None


def cut_by_columns(block: Block, shape: Sequence[int]) -> bool:
    """Return whether a block holds a piece of every row of its tensor, and not whole rows."""
    return bool(block.extent.length % math.prod(shape[1:]))


def row_width(block: Block, shape: Sequence[int]) -> int:
    """Return how many elements of a block, in its order, make a row; 0 where it is no matrix."""
    if len(shape) < 2 or not block.size:
        return 0
    if stack_of(block, shape) is not None:
        return shape[2]
    return block.size // shape[0] if cut_by_columns(block, shape) else math.prod(shape[1:])


def row_widths(blocks: Sequence[Block], shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """Return the width of every block's rows, 0 where it is no matrix; ``shapes`` are those of the tensors."""
    return tuple(row_width(block, shapes[block.tensor]) for block in blocks)
