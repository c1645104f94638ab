"""The Gram kernel: widen, difference, multiply.

For every chunk of at most 2^15 columns: stored values → float32 (float64 when stored so); D = [θ_0, θ_1 − θ_0, …], the
update basis, differenced in that type; D Dᵀ in float32 (SYRK) over 2^11 columns at a time; summed over columns in float64.
Differencing before multiplying keeps small updates, which a float32 product of the θ themselves would lose by
cancellation: every inner product here is right to 1e-7 … 5e-7 of the product of the norms, whatever the size of the updates.
``precision="float64"`` differences and multiplies in float64.

Chunks with NaN or infinite values, or whose squares leave float32's range, take a careful path in float64: a non-finite element
counts as unchanged since the last finite checkpoint, so that the updates on both sides of it still add up, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from trajsvc.gram.extents import Rectangle
from trajsvc.gram.kernels.base import ChunkGram, RowGroup, rounded_type

RUN = 2**11
"""Columns whose products are summed in the working type."""
SAMPLE_EVERY = 64
COARSE = 0.1
"""Updates above this share of the values use most of a 16-bit type's digits."""
_ALL_BITS = np.float32(1.3548387)
_TINY = 1e-26
"""A squared norm below this in float32 may have lost squares to underflow."""


class CpuKernel:
    """torch widens (vectorised for 16-bit types), numpy multiplies (``D @ D.T`` is SYRK). Buffers: two of T × width."""

    def __init__(self, rows: int, width: int, precision: str = "float32", dtype: str | None = None) -> None:
        self.rows, self.width = rows, width
        self._dtype = rounded_type(dtype)
        self._double = precision == "float64"
        self._buffers: dict[torch.dtype, tuple[torch.Tensor, NDArray[np.floating]]] = {}
        self._values = np.empty((rows, 0), np.float32)
        self._work: NDArray[np.floating] = self._values

    def widen(self, groups: Sequence[RowGroup], place: Rectangle) -> None:
        n = place.size
        first = groups[0].values
        plain = not self._double and self._dtype is None and first.dtype == torch.float32
        if plain and len(groups) == 1 and place.outer == 1:
            self._values = first[:, place.at : place.at + n].numpy()  # stored as it is multiplied: no copy
            self._work = self._room(torch.float32, n)[1]
            return
        wide = self._double or any(g.values.dtype == torch.float64 for g in groups)
        values, self._work = self._room(torch.float64 if wide else torch.float32, n)
        target = values.view(self.rows, place.outer, place.length)
        for group in groups:
            rows = group.values.shape[0]
            source = group.values.as_strided(
                (rows, place.outer, place.length),
                (group.values.stride(0), place.stride, 1),
                group.values.storage_offset() + place.at,
            )
            # from the stored type to the wanted one in one rounding, as a program that saves checkpoints does it
            target[group.first : group.first + rows].copy_(source if self._dtype is None else source.to(self._dtype))
        self._values = values.numpy()

    def widened(self) -> NDArray[np.floating]:
        return self._values

    def gram(self, new: int) -> ChunkGram:
        work, values = self._work, self._values
        work[0] = values[0]
        np.subtract(values[1:], values[:-1], out=work[1:])
        if work.dtype == np.float64 and not self._double:
            work = work.astype(np.float32)
        product = inner_products(work, new)
        norms = np.diagonal(product, self.rows - new)
        # a non-finite or overflowed row shows in its products as NaN or infinity
        if math.isfinite(product.sum()) and (norms.min() >= _TINY or not _underflowed(norms, self._work[-new:])):
            return ChunkGram(product, None)
        return careful_gram(values, new)

    def _room(self, dtype: torch.dtype, n: int) -> tuple[torch.Tensor, NDArray[np.floating]]:
        """Contiguous (rows, n) views of this kernel's two buffers."""
        if dtype not in self._buffers or self._buffers[dtype][0].numel() < self.rows * n:
            size = self.rows * max(n, self.width)
            self._buffers[dtype] = (torch.empty(size, dtype=dtype), torch.empty(size, dtype=dtype).numpy())
        values, work = self._buffers[dtype]
        return values[: self.rows * n].view(self.rows, n), work[: self.rows * n].reshape(self.rows, n)


def inner_products(work: NDArray[np.floating], new: int) -> NDArray[np.float64]:
    """(new, T) products of the last ``new`` rows of ``work`` (overwritten) with all rows.

    In the type of ``work`` over 2^11 columns at a time, summed in float64; the columns that do not fill a run in float64. A float32
    sum over more columns would lose digits; so would squares of values with few mantissa bits, see ``_even_rounding``.
    """
    rows, n = work.shape
    split = n // RUN * RUN if work.dtype == np.float32 else 0
    tail = work[:, split:].astype(np.float64)
    total = tail[rows - new :] @ tail.T
    if not split:
        return total
    body = work[:, :split]
    scale = _even_rounding(body)
    runs = body.reshape(rows, split // RUN, RUN).transpose(1, 0, 2)
    left = runs if new == rows else runs[:, rows - new :]
    product = np.matmul(left, runs.transpose(0, 2, 1)).sum(axis=0, dtype=np.float64)
    return np.asarray(total + product / np.outer(scale[rows - new :], scale))


def _even_rounding(body: NDArray[np.floating]) -> NDArray[np.float64]:
    """Multiply rows in place so that sums of their squares round evenly; returns (T,) what each was multiplied by.

    The low bits of squares of 16-bit values are not spread evenly (an odd square is 1 modulo 8): a long float32 sum of them comes out
    short by up to 1e-6. Times a number that uses all bits, they are spread. Updates much smaller than the values are left as they
    are: a few units in the last place each, their squares are small integers, whose sums are exact.
    """
    scale = np.ones(len(body))
    sample = body[:, ::SAMPLE_EVERY]
    if (np.ascontiguousarray(sample[0]).view(np.int32) & 0xFFF).any():
        return scale
    norms = np.einsum("ij,ij->i", sample, sample)
    for row in np.flatnonzero(norms >= COARSE**2 * norms[0]):
        body[row] *= _ALL_BITS
        scale[row] = float(_ALL_BITS)
    return scale


def _underflowed(norms: NDArray[np.floating], work: NDArray[np.floating]) -> bool:
    """Whether some row's squared norm is so small that squares may have been lost, though the row is not zero."""
    return any(bool(work[i].any()) for i in np.flatnonzero(norms < _TINY))


def careful_gram(values: NDArray[np.floating], new: int) -> ChunkGram:
    """The chunk's Gram in float64 with non-finite elements held at their last finite value (0 before the first)."""
    wide = values.astype(np.float64)
    bad = ~np.isfinite(wide)
    counts = bad.sum(axis=1)
    if counts.any():
        wide[0, bad[0]] = 0.0
        for t in range(1, len(wide)):
            wide[t, bad[t]] = wide[t - 1, bad[t]]
    wide[1:] -= wide[:-1].copy()
    product = wide[len(wide) - new :] @ wide.T
    return ChunkGram(product, counts.astype(np.int64) if counts.any() else None)
