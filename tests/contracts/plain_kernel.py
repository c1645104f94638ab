"""A kernel in a few lines of numpy, float64: what the others are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.kernels.base import RowGroup

TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


class PlainKernel:
    """Gathers a block element by element, holds what is not finite, and takes one product a pair."""

    def __init__(self, total: int, new: int, dtype: str | None = None) -> None:
        self.total, self.new, self.dtype = total, new, dtype

    def multiply(
        self,
        rows: Sequence[RowGroup],
        extent: Extent,
        lo: int,
        hi: int,
        sums: NDArray[np.float64],
        nonfinite: NDArray[np.int64],
    ) -> int:
        [values] = self.widened(rows, extent, lo, hi)
        for k in np.flatnonzero(~np.isfinite(values).all(axis=0)):
            last = 0.0
            for t in range(self.total):
                if np.isfinite(values[t, k]):
                    last = values[t, k]
                else:
                    values[t, k] = last
                    nonfinite[t] += 1
        basis = np.concatenate([values[:1], np.diff(values, axis=0)])
        pairs = [(i, j) for i in range(self.total - self.new, self.total) for j in range(i + 1)]
        sums[0] += [np.dot(basis[i], basis[j]) for i, j in pairs]
        return values.shape[1]

    def widened(self, rows: Sequence[RowGroup], extent: Extent, lo: int, hi: int) -> Iterator[NDArray[np.float64]]:
        columns = [
            o * extent.stride + extent.start + i - lo
            for o in range(extent.outer)
            for i in range(extent.length)
            if lo <= o * extent.stride + extent.start + i < hi
        ]
        parts = []
        for group in rows:
            stored = torch.from_numpy(group.raw.copy()).view(TORCH[group.dtype])
            kept = stored if self.dtype is None else stored.to(TORCH[self.dtype])
            parts.append(kept.to(torch.float64).numpy()[:, columns])
        yield np.concatenate(parts)
