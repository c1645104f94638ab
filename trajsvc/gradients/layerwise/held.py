"""What is held of one tensor's gradients, and the inner products of these with each other and with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from trajsvc.anatomy.blocks import Extent
from trajsvc.gradients.layerwise.factors import Contribution, Outer, Selection, gram_of_outers, gram_of_rows


class Held(Protocol):
    """Gradients of a group of examples. Results are (blocks, …) float64, for the blocks of the tensor."""

    def put(self, at: int, terms: Sequence[Contribution]) -> None:
        """Keep the gradients of the examples from ``at``, as the sums of ``terms``."""

    def gram(self) -> Tensor:
        """Multiply all that is held with each other, (blocks, n, n)."""

    def products(self, terms: Sequence[Contribution], count: int) -> Tensor:
        """Multiply all that is held with ``count`` other gradients, (blocks, n, count)."""


class HeldRows:
    """Gradients that are formed, (n, P)."""

    def __init__(self, like: Tensor, capacity: int, extents: Sequence[Extent]) -> None:
        self.rows = torch.zeros(capacity, like.numel(), dtype=like.dtype, device=like.device)
        self.extents = extents

    def put(self, at: int, terms: Sequence[Contribution]) -> None:
        for term in terms:
            term.add_to(self.rows[at : at + term.count])

    def gram(self) -> Tensor:
        return torch.stack([gram_of_rows(self.rows, self.rows, extent) for extent in self.extents])

    def products(self, terms: Sequence[Contribution], count: int) -> Tensor:
        other = torch.zeros(count, self.rows.shape[1], dtype=self.rows.dtype, device=self.rows.device)
        for term in terms:
            term.add_to(other)
        return torch.stack([gram_of_rows(self.rows, other, extent) for extent in self.extents])


class HeldProducts:
    """Gradients that are kept as outer products, with ``memory`` bytes for the inner products of their positions."""

    def __init__(self, like: Tensor, capacity: int, chosen: Sequence[Selection], memory: int) -> None:
        self.like, self.capacity, self.chosen, self.memory = like, capacity, chosen, memory
        self.kept: list[tuple[slice, list[Outer]]] = []

    def put(self, at: int, terms: Sequence[Contribution]) -> None:
        outers = _outers(terms)
        if outers:
            self.kept.append((slice(at, at + outers[0].count), [_compact(outer) for outer in outers]))

    def gram(self) -> Tensor:
        total = self._zeros(self.capacity)
        for i, (a, one) in enumerate(self.kept):
            for b, other in self.kept[i:]:
                found = gram_of_outers(one, other, self.chosen, self.memory)
                total[:, a, b] = found
                total[:, b, a] = found.transpose(1, 2)
        return total

    def products(self, terms: Sequence[Contribution], count: int) -> Tensor:
        total, outers = self._zeros(count), _outers(terms)
        for a, one in self.kept if outers else ():
            total[:, a] = gram_of_outers(one, outers, self.chosen, self.memory)
        return total

    def _zeros(self, count: int) -> Tensor:
        return self.like.new_zeros(len(self.chosen), self.capacity, count, dtype=torch.float64)


def _compact(outer: Outer) -> Outer:
    """Copy factors that are parts of larger tensors, which would be held with them."""
    left, right = (
        values.clone() if values.untyped_storage().nbytes() > values.nbytes else values
        for values in (outer.left, outer.right)
    )
    return Outer(left, right, outer.rows)


def _outers(terms: Sequence[Contribution]) -> list[Outer]:
    found = [term for term in terms if isinstance(term, Outer)]
    if len(found) != len(terms):
        raise TypeError("a term of a gradient that is kept as outer products is none")
    return found
