"""Grams of vectors that are formed: tensor by tensor, as many at once as the memory holds, multiplied in float64."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Block
from trajsvc.errors import Cancelled, LimitExceeded, Refused
from trajsvc.gradients.masks import Mask
from trajsvc.measures.base import Array

if TYPE_CHECKING:
    import torch

Vector = Mapping[str, "torch.Tensor"]
"""one vector: tensor → its values"""
Vectors = Callable[[Sequence[str]], Iterator[Vector]]
"""makes the vectors, in order, of some tensors only; it is called once for each pass and gives the same each time"""


def sum_of_losses(loss: torch.Tensor, tensors: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Differentiate a scalar: tensor → its gradient, in float64; zero where the scalar does not depend on it or it is frozen."""
    from trajsvc.gradients.layerwise.formed import gradient_of

    return {name: gradient.double() for name, gradient in gradient_of(loss, tensors).items()}


@dataclass(frozen=True)
class Formed:
    """Grams (blocks, n, n) and, (blocks, n), equal numbers for vectors that are equal in a block. Of a sample of the coordinates,
    ``parts`` are the Grams (R, n, n) of the whole network from each of R disjoint parts of it, unscaled as ``gram`` is scaled."""

    gram: Array
    same: NDArray[np.int64]
    parts: Array | None = None


def formed_grams(
    blocks: Sequence[Block],
    count: int,
    vectors: Vectors,
    memory: int,
    stop: Callable[[], bool],
    mask: Mask | None = None,
) -> Formed:
    """Form ``count`` vectors and multiply them, block by block; with a ``mask`` only the coordinates that it keeps.

    n × (parameters of the tensors that are held at once) × 8 bytes are kept within ``memory``. Raises LimitExceeded (``memory-budget``)
    where one tensor alone does not fit, Refused (``gradients-not-finite``), Cancelled.
    """
    gram, same = np.zeros((len(blocks), count, count)), np.zeros((len(blocks), count), np.int64)
    parts: Array | None = None if mask is None else np.zeros((mask.parts, count, count))
    places: dict[str, list[int]] = {}
    for i, block in enumerate(blocks):
        places.setdefault(block.tensor, []).append(i)
    kept = [block.size if mask is None else mask.count(block) for block in blocks]
    sizes = {name: sum(kept[i] for i in found) for name, found in places.items()}
    for names in _passes(sizes, count, memory):
        chosen = {i: blocks[i] for name in names for i in places[name]}
        rows = _rows(chosen, kept, count, vectors(names), stop, mask)
        while rows:  # none of a pass is held while those of the next are formed
            i, values = rows.popitem()
            gram[i] = values @ values.T
            same[i] = _equal(values)
            if mask is not None and parts is not None:
                gram[i] *= mask.scale(blocks[i])
                parts += mask.of_parts(blocks[i], values)
            del values
    return Formed(gram, same, parts)


def values_of(flat: Array, block: Block) -> Array:
    """Return the elements of a block in the flat values of its tensor."""
    e = block.extent
    if e.outer == 1:
        return flat[e.start : e.start + e.length]
    return np.asarray(flat[e.elements()])


def _rows(
    blocks: Mapping[int, Block],
    kept: Sequence[int],
    count: int,
    vectors: Iterator[Vector],
    stop: Callable[[], bool],
    mask: Mask | None,
) -> dict[int, Array]:
    """Block → (count, kept)."""
    rows: dict[int, Array] = {i: np.empty((count, kept[i])) for i in blocks}
    wrong: Counter[str] = Counter()
    for number in range(count):
        if stop():
            raise Cancelled
        vector = {name: v.reshape(-1).cpu().numpy() for name, v in next(vectors).items()}
        wrong.update(name for name, values in vector.items() if not np.isfinite(values).all())
        for i, block in blocks.items():
            values = values_of(vector[block.tensor], block)
            rows[i][number] = values if mask is None else values[mask.kept(block)]
    for name, times in wrong.items():
        hint = "Look at the loss of these examples, or choose another checkpoint."
        words = f"{times} of {count} gradients of {name} have NaN or infinite values"
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
    keys = (hashlib.blake2b(row + 0.0, digest_size=16).digest() for row in values)  # 0.0: −0 is 0
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)
