"""Copy stored values into theta's columns as they pass, and read them back as they were.

Q, K and V of a fused tensor go to three column ranges of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from storage_schema.format.dtypes import common_type, narrow_back
from storage_schema.runs.writer import RunWriter
from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.extents import rectangles
from trajsvc.gram.plan import Slab
from trajsvc.gram.slab_worker import Part
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.tables import block_table


class ThetaSink:
    """A ``RowSink`` that writes rows ``first`` and later of a trajectory into a run's theta. Safe to call from several threads."""

    def __init__(self, writer: RunWriter, trajectory: Trajectory, first: int, key: str) -> None:
        self.writer, self.trajectory, self.first = writer, trajectory, first
        self._offset = block_table(trajectory).offset
        rows = range(first, len(trajectory.rows))
        self.resumed = writer.theta_begin(trajectory.parameters, theta_type(trajectory), rows, key=key)

    def __call__(self, column: int, row: int, lo: int, raw: NDArray[np.uint8]) -> None:
        if row < self.first:
            return
        dtype = self.trajectory.dtypes(column)[row]
        item = ITEMSIZE[dtype]
        values = raw.view(f"u{item}")
        hi = lo + len(values)
        for block, extent in self.trajectory.columns[column].blocks:
            at = int(self._offset[block]) + elements_before(extent, lo)
            for r in rectangles(extent, lo, hi):
                shape, strides = (r.outer, r.length), (r.stride * item, item)
                piece = np.lib.stride_tricks.as_strided(values[r.at :], shape, strides, writeable=False)
                self.writer.write_theta(row, at, np.ascontiguousarray(piece).data.cast("B"), dtype)
                at += r.size

    def has(self, row: int, column: int, lo: int, hi: int) -> bool:
        """Return whether elements [lo, hi) of a tensor are in theta at a row."""
        if row < self.first:
            return True
        return all(
            self.writer.theta_has(row, at + elements_before(extent, lo), at + elements_before(extent, hi))
            for block, extent in self.trajectory.columns[column].blocks
            for at in [int(self._offset[block])]
        )


class ThetaRows(Protocol):
    """Rows of a theta: those being written, after those that are committed."""

    def read_theta(self, row: int, lo: int, out: memoryview) -> None: ...

    def portable(self) -> ThetaRows:
        """Return the same rows for another process that sees the store."""
        ...


class CopiedTheta:
    """A run's Θ read back from the theta that is being written: tensors in the layout and types of the files."""

    def __init__(self, rows: ThetaRows, trajectory: Trajectory) -> None:
        self.rows, self.trajectory = rows, trajectory
        self._offset = block_table(trajectory).offset
        self._dtype = theta_type(trajectory)

    def dtypes(self, column: int) -> Sequence[str]:
        return self.trajectory.dtypes(column)

    def has_crc(self, column: int, row: int) -> bool:
        """Return False: the files were verified as a whole."""
        return False

    def portable(self) -> CopiedTheta:
        """Return the same Θ for another process that sees the store."""
        return CopiedTheta(self.rows.portable(), self.trajectory.bare())

    def prepare(self, slabs: Sequence[Slab]) -> None:
        """Do nothing: the operating system reads files ahead."""

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        for part in parts:
            if stop():
                return
            self.read(part.column, part.row, part.lo, part.hi, part.out)

    def read(self, column: int, row: int, lo: int, hi: int, out: memoryview) -> None:
        """Read elements [lo, hi) of a tensor at one checkpoint, with Q, K and V of a fused one in their original
        places.
        """
        dtype = self.trajectory.dtypes(column)[row]
        item, wide = ITEMSIZE[dtype], ITEMSIZE[self._dtype]
        values = np.frombuffer(out, f"u{item}")
        for block, extent in self.trajectory.columns[column].blocks:
            at = int(self._offset[block]) + elements_before(extent, lo)
            for r in rectangles(extent, lo, hi):
                raw = np.empty(r.size * wide, np.uint8)
                self.rows.read_theta(row, at, raw.data)
                kept = np.frombuffer(narrow_back(raw.data, self._dtype, dtype), f"u{item}")
                shape, strides = (r.outer, r.length), (r.stride * item, item)
                np.lib.stride_tricks.as_strided(values[r.at :], shape, strides)[:] = kept.reshape(shape)
                at += r.size


def theta_type(trajectory: Trajectory) -> str:
    """Return the narrowest stored type that holds the values of all rows."""
    columns, rows = range(len(trajectory.columns)), range(len(trajectory.rows))
    return common_type(sorted({trajectory.dtypes(c)[r] for c in columns for r in rows}))


def elements_before(extent: Extent, position: int) -> int:
    """Return how many elements of ``extent`` lie before ``position`` of the flat tensor."""
    runs, within = divmod(position, extent.stride)
    if runs >= extent.outer:
        return extent.size
    return runs * extent.length + min(max(within - extent.start, 0), extent.length)
