"""The matrices of a run: which of its blocks are matrices, their shapes, and the heads within Q, K and V."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Anatomy, Block
from trajsvc.anatomy.neurons import cut_by_columns, row_width, stack_of
from trajsvc.measures.spectra.stored import KEPT
from trajsvc.trajectory.matrix import Trajectory

_HEADED: Final = ("attention.q", "attention.k", "attention.v")


@dataclass(frozen=True)
class Matrix:
    """Rows [row, row + rows) and columns [column, column + columns) of a block, seen as a matrix ``width`` wide.

    ``name`` is the block's, or for head h of a projection the tensor's with ``[q.h]``. ``note`` says how a tensor that is
    none was made a matrix.
    """

    name: str
    tensor: str
    part: str
    layer: str
    component: str
    block: int
    width: int
    row: int
    rows: int
    column: int
    columns: int
    head: int | None = None
    note: str = ""

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def values(self) -> int:
        """How many singular values it has."""
        return min(self.rows, self.columns)

    @property
    def kept(self) -> int:
        return min(self.values, KEPT)


@dataclass(frozen=True)
class Matrices:
    """All matrices of a run, heads after the projection that they are of, and why other tensors are left out."""

    found: tuple[Matrix, ...]
    left_out: Mapping[str, str]

    def places(self) -> NDArray[np.int64]:
        """Return where the kept singular values of every matrix begin among those of all, and their total."""
        return np.concatenate([[0], np.cumsum([m.kept for m in self.found])]).astype(np.int64)


def matrices_of(trajectory: Trajectory) -> Matrices:
    """Return the matrices of a run, from the headers of one of its checkpoints.

    A tensor of more than two axes is a matrix of its first axis by the others (a convolution: out × (in · h · w)), but a stack of
    experts, or of heads, is as many matrices.
    """
    shapes = {column.name: shape for column, shape in zip(trajectory.columns, trajectory.shapes, strict=True)}
    anatomy = trajectory.anatomy
    dims = _head_dims(anatomy, shapes)
    found: list[Matrix] = []
    left_out: dict[str, str] = {}
    for index, block in enumerate(anatomy.blocks):
        shape = shapes[block.tensor]
        if len(shape) < 2:
            left_out[block.tensor] = "a vector" if shape else "a single number"
        elif not block.size:
            left_out[block.tensor] = "empty"
        elif (what := stack_of(block, shape)) is not None:
            found += _stacked(index, block, shape, what)
        else:
            whole = _whole(index, block, shape)
            found += [whole, *_heads(whole, block, shape, dims.get(block.layer))]
    return Matrices(tuple(found), left_out)


def _stacked(index: int, block: Block, shape: Sequence[int], what: str) -> Iterator[Matrix]:
    width = shape[2]
    rows = block.size // (shape[0] * width)
    words = (block.layer, block.component, index, width)
    for i in range(shape[0]):
        part = ".".join(filter(None, [block.part, what, str(i)]))
        head = None if what == "expert" else i
        yield Matrix(f"{block.tensor}[{part}]", block.tensor, part, *words, i * rows, rows, 0, width, head)


def _whole(index: int, block: Block, shape: Sequence[int]) -> Matrix:
    width = row_width(block, shape)
    note = "" if len(shape) == 2 else f"{' × '.join(map(str, shape))} as {block.size // width} × {width}"
    words = (block.name, block.tensor, block.part, block.layer, block.component)
    return Matrix(*words, index, width, 0, block.size // width, 0, width, None, note)


def _heads(whole: Matrix, block: Block, shape: Sequence[int], dim: int | None) -> Iterator[Matrix]:
    """Yield the heads of a projection, whose features follow one another head by head."""
    features = _features(block, shape)
    if block.component not in _HEADED or len(shape) != 2 or dim is None or features % dim or features == dim:
        return
    letter = block.component.removeprefix("attention.")
    words = (block.layer, block.component, whole.block, whole.width)
    for head in range(features // dim):
        at = head * dim
        place = (0, whole.rows, at, dim) if cut_by_columns(block, shape) else (at, dim, 0, whole.columns)
        part = f"{letter}.{head}"
        yield Matrix(f"{block.tensor}[{part}]", block.tensor, part, *words, *place, head)


def _features(block: Block, shape: Sequence[int]) -> int:
    """Return the output features of a projection: its rows, or of a part that is cut along columns its columns."""
    return block.size // (shape[0] if cut_by_columns(block, shape) else math.prod(shape[1:]))


def _head_dims(anatomy: Anatomy, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return layer → features of a head: as the config says, else those of Q divided by the number of heads."""
    found: dict[str, int] = {}
    for block in anatomy.blocks:
        shape = shapes[block.tensor]
        if block.component != "attention.q" or len(shape) != 2:
            continue
        if anatomy.head_dim is not None:
            found[block.layer] = anatomy.head_dim
        elif anatomy.heads and _features(block, shape) % anatomy.heads == 0:
            found[block.layer] = _features(block, shape) // anatomy.heads
    return found
