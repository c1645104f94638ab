"""Trajectories in memory, as the engine sees them, with a float64 oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.plan import ColumnSpec, Slab
from trajsvc.gram.slab_worker import Part

TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


@dataclass
class MemoryTheta:
    """Stored values of some tensors at every checkpoint; ``types[row]`` is the stored type."""

    values: list[list[torch.Tensor]]
    """[column][row], flat"""
    columns: tuple[ColumnSpec, ...]
    reads: list[tuple[int, int, int, int]] = field(default_factory=list)

    def dtypes(self, column: int) -> Sequence[str]:
        return [str(v.dtype).removeprefix("torch.") for v in self.values[column]]

    def has_crc(self, column: int, row: int) -> bool:
        return False

    def portable(self) -> MemoryTheta:
        return self

    def prepare(self, slabs: Sequence[Slab]) -> None:
        return None

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        for part in parts:
            self.read(part.column, part.row, part.lo, part.hi, part.out)

    def read(self, column: int, row: int, lo: int, hi: int, out: memoryview) -> None:
        self.reads.append((column, row, lo, hi))
        value = self.values[column][row]
        item = ITEMSIZE[str(value.dtype).removeprefix("torch.")]
        out[:] = memoryview(value.view(torch.uint8).numpy()[lo * item : hi * item])

    def block(self, block: int, rows: Sequence[int] | None = None) -> NDArray[np.float64]:
        """(T, size) of one block in float64, gathered element by element."""
        for column, spec in zip(self.values, self.columns, strict=True):
            for b, e in spec.blocks:
                if b == block:
                    index = (np.arange(e.outer)[:, None] * e.stride + e.start + np.arange(e.length)).reshape(-1)
                    return np.stack([v.to(torch.float64).numpy()[index] for v in column])
        raise KeyError(block)

    def oracle(self, block: int) -> NDArray[np.float64]:
        """The block's Gram in the update basis, one dot product at a time in float64."""
        theta = self.block(block)
        basis = np.concatenate([theta[:1], np.diff(theta, axis=0)])
        return np.array([[np.dot(a, b) for b in basis] for a in basis])


def make_theta(
    rows: int, *, size: float = 1e-2, types: Sequence[str] = ("float32",), seed: int = 0, large: int = 150_001
) -> MemoryTheta:
    """A random walk whose updates are ``size`` of the values: one large tensor, one fused Q/K/V, one small."""
    rng = np.random.default_rng(seed)
    heads, run = 4, 5000
    columns = (
        ColumnSpec("large", large, 8, ((0, Extent(1, large, 0, large)),)),
        ColumnSpec("fused", heads * 3 * run, 8, tuple((1 + j, Extent(heads, 3 * run, j * run, run)) for j in range(3))),
        ColumnSpec("small", 37, 8, ((4, Extent(1, 37, 0, 37)),)),
    )
    values = []
    for spec in columns:
        theta = rng.standard_normal(spec.size)
        column = []
        for t in range(rows):
            theta = theta + size * rng.standard_normal(spec.size) * (t > 0)
            column.append(torch.from_numpy(theta.copy()).to(TORCH[types[t % len(types)]]))
        values.append(column)
    return MemoryTheta(values, columns)


def relative(found: NDArray[np.float64], oracle: NDArray[np.float64]) -> float:
    """Largest error of an inner product relative to the product of its vectors' norms."""
    scale = np.sqrt(np.maximum(np.diag(oracle), 1e-300))
    return float(np.max(np.abs(found - oracle) / np.outer(scale, scale)))
