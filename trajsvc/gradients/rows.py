"""Grams of vectors that are formed: tensor by tensor, as many at once as the memory holds, multiplied in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Block
from trajsvc.errors import Cancelled, LimitExceeded, Refused
from trajsvc.measures.base import Array

if TYPE_CHECKING:
    import torch

Vector = Mapping[str, "torch.Tensor"]
"""one vector: tensor → its values"""
Vectors = Callable[[Sequence[str]], Iterator[Vector]]
"""makes the vectors, in order, of some tensors only; it is called once for each pass and gives the same each time"""


def sum_of_losses(loss: torch.Tensor, tensors: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Differentiate a scalar: tensor → its gradient, in float64; zero where the scalar does not depend on it or it is frozen."""
    import torch

    learnt = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    found: Sequence[torch.Tensor | None] = [None] * len(learnt)
    if learnt and loss.requires_grad:
        found = torch.autograd.grad(loss, list(learnt.values()), allow_unused=True)
    given = {n: g for n, g in zip(learnt, found, strict=True) if g is not None}
    return {
        n: given[n].detach().double() if n in given else torch.zeros_like(t, dtype=torch.float64)
        for n, t in tensors.items()
    }


def formed_grams(
    blocks: Sequence[Block], count: int, vectors: Vectors, memory: int, stop: Callable[[], bool]
) -> tuple[Array, NDArray[np.int64]]:
    """The Grams (blocks, n, n) of ``count`` vectors and, (blocks, n), equal numbers for those that are equal in a block.

    n × (parameters of the tensors that are held at once) × 8 bytes are kept within ``memory``. Raises LimitExceeded (``memory-budget``)
    where one tensor alone does not fit, Refused (``gradients-not-finite``), Cancelled.
    """
    gram, same = np.zeros((len(blocks), count, count)), np.zeros((len(blocks), count), np.int64)
    places: dict[str, list[int]] = {}
    for i, block in enumerate(blocks):
        places.setdefault(block.tensor, []).append(i)
    sizes = {name: sum(blocks[i].size for i in found) for name, found in places.items()}
    for names in _passes(sizes, count, memory):
        rows = _rows(names, sizes, count, vectors(names), stop)
        for name in names:
            for i in places[name]:
                values = columns(rows[name], blocks[i])
                gram[i] = values @ values.T
                same[i] = _equal(values)
    return gram, same


def columns(rows: NDArray[np.float64], block: Block) -> NDArray[np.float64]:
    """The columns of a block in the rows (n, size) of its tensor."""
    e = block.extent
    if e.outer == 1:
        return rows[:, e.start : e.start + e.length]
    at = np.arange(e.outer)[:, None] * e.stride + e.start + np.arange(e.length)
    return rows[:, at.reshape(-1)]


def _rows(
    names: Sequence[str], sizes: Mapping[str, int], count: int, vectors: Iterator[Vector], stop: Callable[[], bool]
) -> dict[str, NDArray[np.float64]]:
    rows = {name: np.empty((count, sizes[name])) for name in names}
    for i in range(count):
        if stop():
            raise Cancelled
        vector = next(vectors)
        for name in names:
            rows[name][i] = vector[name].reshape(-1).cpu().numpy()
    for name, values in rows.items():
        wrong = int((~np.isfinite(values)).any(axis=1).sum())
        if wrong:
            hint = "Look at the loss of these examples, or choose another checkpoint."
            words = f"{wrong} of {count} gradients of {name} have NaN or infinite values"
            raise Refused("gradients-not-finite", words, hint=hint, tensor=name)
    return rows


def _passes(sizes: Mapping[str, int], count: int, memory: int) -> Iterator[list[str]]:
    """Names of the tensors whose vectors are held together, in order."""
    held: list[str] = []
    room = memory
    for name, size in sizes.items():
        need = 8 * size * count
        if need > memory:
            words = (
                f"{count} gradients of {name} take {need >> 20} MiB, more than the memory budget of {memory >> 20} MiB"
            )
            raise LimitExceeded("memory-budget", words, hint="Give more --memory, or fewer examples.", tensor=name)
        if need > room:
            yield held
            held, room = [], memory
        held.append(name)
        room -= need
    if held:
        yield held


def _equal(values: NDArray[Any]) -> NDArray[np.int64]:
    """Equal numbers for equal rows."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault((row + 0.0).tobytes(), len(seen)) for row in values], dtype=np.int64)
