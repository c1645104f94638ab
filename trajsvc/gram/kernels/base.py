"""What a kernel is: rows of raw values in, inner products of the update basis out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.gram.extents import Rectangle

_TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class RowGroup:
    """Consecutive checkpoints that store a segment in one type: ``values`` is (rows, elements) of that type, on the CPU."""

    first: int
    values: torch.Tensor


def row_group(first: int, raw: NDArray[np.uint8], dtype: str) -> RowGroup:
    """Rows of raw bytes (rows, elements × itemsize) as a typed tensor that shares them."""
    return RowGroup(first, torch.from_numpy(raw).view(_TORCH[dtype]))


@dataclass(frozen=True)
class ChunkGram:
    """Inner products of one chunk and what was noticed in it."""

    gram: NDArray[np.float64]
    """(new, T)"""
    nonfinite: NDArray[np.int64] | None
    """(T,), None when all values are finite"""


class Kernel(Protocol):
    """One worker's arithmetic. Not shared between threads; its buffers are its own."""

    def widen(self, groups: Sequence[RowGroup], place: Rectangle) -> None:
        """Take the elements at ``place`` of every checkpoint as the current chunk."""
        ...

    def gram(self, new: int) -> ChunkGram:
        """Inner products of the last ``new`` vectors of the update basis with all T, for the current chunk."""
        ...

    def widened(self) -> NDArray[np.floating]:
        """The current chunk's values (T, elements) in the working type, as a view that the next ``widen`` overwrites."""
        ...


def rounded_type(dtype: str | None) -> torch.dtype | None:
    """The type of torch that ``float16``, ``bfloat16`` … names."""
    return None if dtype is None else _TORCH[dtype]


def raw_size(dtypes: Sequence[str], elements: int) -> int:
    """Bytes that ``raw_rows`` needs."""
    return sum(ITEMSIZE[d] * elements + 64 for d in dtypes)


def raw_rows(
    buffer: NDArray[np.uint8], dtypes: Sequence[str], elements: int
) -> list[tuple[int, str, NDArray[np.uint8]]]:
    """Cut ``buffer`` into (first row, type, (rows, bytes)) arrays for runs of equal type; each row holds ``elements``.

    Every array begins on a cache line.
    """
    groups: list[tuple[int, str, NDArray[np.uint8]]] = []
    at = first = 0
    while first < len(dtypes):
        last = first
        while last < len(dtypes) and dtypes[last] == dtypes[first]:
            last += 1
        width = elements * ITEMSIZE[dtypes[first]]
        end = at + (last - first) * width
        groups.append((first, dtypes[first], buffer[at:end].reshape(last - first, width)))
        at, first = -(-end // 64) * 64, last
    return groups
