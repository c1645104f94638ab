"""Gradients of a weight as sums of outer products, and their inner products without forming them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trajsvc.anatomy.blocks import Extent

TILE = 1 << 24
"""bytes of the rows of gradients that are widened to float64 at once"""


@dataclass(frozen=True)
class Outer:
    """C gradients g_i = Σ_t left_it right_itᵀ of a weight of ``rows`` × S.

    ``right`` is (C, T, S). ``left`` is (C, T, rows), or (C, T) integers u for unit vectors e_u (an embedding's tokens).
    """

    left: Tensor
    right: Tensor
    rows: int

    @property
    def tokens(self) -> bool:
        return not self.left.is_floating_point()

    @property
    def count(self) -> int:
        return len(self.right)

    @property
    def positions(self) -> int:
        return int(self.right.shape[1])

    @property
    def bytes(self) -> int:
        return self.left.nbytes + self.right.nbytes

    def part(self, start: int, stop: int) -> Outer:
        """Take the examples start … stop − 1."""
        return Outer(self.left[start:stop], self.right[start:stop], self.rows)

    def form(self) -> Tensor:
        """Form the gradients themselves, (C, rows · S)."""
        rows = self.right.new_zeros(len(self.right), self.rows * self.right.shape[-1])
        self.add_to(rows)
        return rows

    def add_to(self, rows: Tensor) -> None:
        """Add the gradients to rows, (C, rows · S)."""
        count, _, width = self.right.shape
        if not self.tokens:
            rows.view(count, self.rows, width).baddbmm_(self.left.transpose(1, 2), self.right)
            return
        at = self.left + self.rows * torch.arange(count, device=self.left.device)[:, None]
        rows.view(count * self.rows, width).index_add_(0, at.reshape(-1), self.right.reshape(-1, width))

    def scale(self) -> Tensor:
        """Compute Σ_t ‖left_it‖ ‖right_it‖, (C): what rounding of g_i is relative to."""
        norms: Tensor = torch.linalg.vector_norm(self.right, dim=-1)
        return (norms if self.tokens else norms * torch.linalg.vector_norm(self.left, dim=-1)).sum(dim=1)


@dataclass(frozen=True)
class Rows:
    """C gradients that are formed, (C, P), and what rounding of each is relative to, (C)."""

    values: Tensor
    norms: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Rows:
        return cls(values, torch.linalg.vector_norm(values, dim=1))

    @classmethod
    def summed(cls, terms: Tensor) -> Rows:
        """Sum (C, T, P) over positions."""
        return cls(terms.sum(dim=1), torch.linalg.vector_norm(terms, dim=2).sum(dim=1))

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def bytes(self) -> int:
        return self.values.nbytes

    def part(self, start: int, stop: int) -> Rows:
        return Rows(self.values[start:stop], self.norms[start:stop])

    def form(self) -> Tensor:
        return self.values

    def add_to(self, rows: Tensor) -> None:
        rows += self.values

    def scale(self) -> Tensor:
        return self.norms


Contribution = Outer | Rows


@dataclass(frozen=True)
class Selection:
    """The rows or columns of a weight that a block is, as o · stride + start + i; side "" is all of it."""

    side: str
    outer: int = 1
    stride: int = 0
    start: int = 0
    length: int = 0

    @classmethod
    def of(cls, extent: Extent, rows: int, columns: int) -> Selection | None:
        """Recognise whole rows or columns of a rows × columns weight in an extent; None where it is something else."""
        if extent.size == rows * columns:
            return cls("")
        if all(v % columns == 0 for v in (extent.stride, extent.start, extent.length)):
            return cls("left", extent.outer, *(v // columns for v in (extent.stride, extent.start, extent.length)))
        if extent.stride == columns and extent.outer == rows and extent.start + extent.length <= columns:
            return cls("right", 1, 0, extent.start, extent.length)
        return None

    def of_matrix(self, values: Tensor) -> Tensor:
        """Take the selected columns of (…, width)."""
        device = values.device
        first = self.start + self.stride * torch.arange(self.outer, device=device)
        return values[..., (first[:, None] + torch.arange(self.length, device=device)).reshape(-1)]


class Products:
    """Σ_t,s (left_it · left_js)(right_it · right_js) of two lots of gradients, by selections, in float64, (C, C')."""

    def __init__(self, one: Outer, other: Outer) -> None:
        self.one, self.other = one, other

    def gram(self, selection: Selection) -> Tensor:
        left = self._left(selection) if selection.side == "left" else self.lefts
        right = self._right(selection) if selection.side == "right" else self.rights
        shape = (len(self.one.right), self.one.positions, len(self.other.right), self.other.positions)
        return (left * right).reshape(shape).sum(dim=(1, 3))

    @cached_property
    def lefts(self) -> Tensor:
        return self._left(Selection(""))

    @cached_property
    def rights(self) -> Tensor:
        return self._right(Selection(""))

    def _right(self, selection: Selection) -> Tensor:
        return _inner(self.one.right, self.other.right, selection)

    def _left(self, selection: Selection) -> Tensor:
        one, other = self.one, self.other
        if one.tokens and other.tokens:
            return (one.left.reshape(-1, 1) == other.left.reshape(1, -1)).double()
        if one.tokens:
            return _flat(other.left)[:, one.left.reshape(-1)].double().T
        if other.tokens:
            return _flat(one.left)[:, other.left.reshape(-1)].double()
        return _inner(one.left, other.left, selection)


def _inner(one: Tensor, other: Tensor, selection: Selection) -> Tensor:
    if selection.side:
        one, other = selection.of_matrix(one), selection.of_matrix(other)
    return _flat(one).double() @ _flat(other).double().T


def _flat(values: Tensor) -> Tensor:
    return values.reshape(-1, values.shape[-1])


def gram_of_outers(one: Sequence[Outer], other: Sequence[Outer], chosen: Sequence[Selection], memory: int) -> Tensor:
    """Multiply the sums of several ``Outer`` (the uses of one weight), (selections, C, C') float64.

    Pairs of examples are taken so many at once that the inner products of their positions stay within ``memory`` bytes.
    """
    total = one[0].right.new_zeros(len(chosen), len(one[0].right), len(other[0].right), dtype=torch.float64)
    for a in one:
        for b in other:
            for i, j in _tiles(a, b, memory):
                products = Products(a.part(*i), b.part(*j))
                for k, selection in enumerate(chosen):
                    total[k, i[0] : i[1], j[0] : j[1]] += products.gram(selection)
    return total


def _tiles(a: Outer, b: Outer, memory: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Cut both into ranges of examples whose positions' inner products (about five such matrices of float64) fit into ``memory``."""
    pairs = max(1, memory // (40 * max(1, a.positions * b.positions)))
    step = max(1, int(pairs**0.5))
    for i in range(0, len(a.right), step):
        for j in range(0, len(b.right), step):
            yield (i, min(i + step, len(a.right))), (j, min(j + step, len(b.right)))


def gram_of_rows(one: Tensor, other: Tensor, extent: Extent, tile: int = TILE) -> Tensor:
    """Multiply an extent of the rows of (C, P) and (C', P), (C, C') float64: ``einsum("ap,bp->ab")`` in tiles of columns."""
    total = one.new_zeros(len(one), len(other), dtype=torch.float64)
    width = max(1, tile // (8 * max(1, len(one) + len(other))))
    for start, stop, outer in _columns(extent, width):
        a, b = (_cut(rows, extent, start, stop, outer) for rows in (one, other))
        total += a @ (a if one is other else b).T
    return total


def _columns(extent: Extent, width: int) -> Iterator[tuple[int, int, range]]:
    """Cut ``length`` and ``outer`` into ranges that come to about ``width`` columns."""
    several = max(1, width // extent.length) if extent.length else 1
    step = max(1, min(extent.length, width))
    for first in range(0, extent.outer, several):
        for start in range(0, extent.length, step):
            yield start, min(start + step, extent.length), range(first, min(first + several, extent.outer))


def _cut(rows: Tensor, extent: Extent, start: int, stop: int, outer: range) -> Tensor:
    first = rows.storage_offset() + extent.start + start + outer.start * extent.stride
    shape, strides = (len(rows), len(outer), stop - start), (rows.stride(0), extent.stride, 1)
    return rows.as_strided(shape, strides, first).reshape(len(rows), -1).double()
