"""The kernel of GPUs: stored bytes are shipped as they are, widened and differenced there, and multiplied in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.extents import Rectangle, chunks, rectangles
from trajsvc.gram.kernels.base import RowGroup
from trajsvc.gram.kernels.values import hold
from trajsvc.gram.pairs import add_exactly, pair_indices

_TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


class TorchKernel:
    """Multiplies on any torch device, ``chunk`` columns at a time, in float64 throughout: little beside the bus of a device."""

    def __init__(self, total: int, new: int, device: str, chunk: int, dtype: str | None = None) -> None:
        self._total, self._new, self._chunk = total, new, chunk
        self._dtype = None if dtype is None else _TORCH[dtype]
        self._device = torch.device(device)
        if self._device.type == "cpu":
            torch.set_num_threads(1)  # every worker has one
        rows, columns = pair_indices(total, new)
        self._rows, self._columns = rows - (total - new), columns

    def multiply(
        self,
        rows: Sequence[RowGroup],
        extent: Extent,
        lo: int,
        hi: int,
        sums: NDArray[np.float64],
        nonfinite: NDArray[np.int64],
    ) -> int:
        seen = 0
        for place in self._places(extent, lo, hi):
            values = self._widen(rows, place)
            if not bool(torch.isfinite(values).all()):
                held = values.cpu().numpy()
                nonfinite += hold(held)
                values = torch.from_numpy(held).to(self._device)
            values[1:] -= values[:-1].clone()
            product = (values[self._total - self._new :] @ values.T).cpu().numpy()
            add_exactly(sums, product[self._rows, self._columns])
            seen += place.size
        return seen

    def widened(self, rows: Sequence[RowGroup], extent: Extent, lo: int, hi: int) -> Iterator[NDArray[np.float64]]:
        for place in self._places(extent, lo, hi):
            yield self._widen(rows, place).cpu().numpy()

    def _places(self, extent: Extent, lo: int, hi: int) -> Iterator[Rectangle]:
        for rectangle in rectangles(extent, lo, hi):
            yield from chunks(rectangle, self._chunk)

    def _widen(self, rows: Sequence[RowGroup], place: Rectangle) -> torch.Tensor:
        """Return the values as float64 on the device, (T, elements)."""
        parts = []
        for group in rows:
            stored = torch.from_numpy(group.raw).view(_TORCH[group.dtype])
            shape, stride = (len(stored), place.outer, place.length), (stored.stride(0), place.stride, 1)
            piece = stored.as_strided(shape, stride, stored.storage_offset() + place.at)
            values = piece.contiguous().to(self._device, non_blocking=True).view(len(stored), place.size)
            if self._dtype is not None:
                values = values.to(self._dtype)
            parts.append(values.to(torch.float64))
        return torch.cat(parts)  # a copy of its own: it is changed in place
