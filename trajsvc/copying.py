"""Writes the copy: the bytes of a slab, as they pass, go to theta's columns, Q, K and V of a fused tensor to three runs of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage_schema.arrays import ITEMSIZE
from storage_schema.runstore import RunWriter
from storage_schema.stored_types import common_type
from trajsvc.anatomy.blocks import Extent
from trajsvc.assemble import block_table
from trajsvc.gram.extents import rectangles
from trajsvc.trajectory import Trajectory


class ThetaSink:
    """A ``RowSink`` that writes rows ``first`` and later of a trajectory into a run's theta. Safe to call from several threads."""

    def __init__(self, writer: RunWriter, trajectory: Trajectory, first: int, key: str) -> None:
        self.writer, self.trajectory, self.first = writer, trajectory, first
        self._offset = block_table(trajectory).offset
        kinds = {trajectory.dtypes(c)[r] for c in range(len(trajectory.columns)) for r in range(len(trajectory.rows))}
        rows = range(first, len(trajectory.rows))
        self.resumed = writer.theta_begin(trajectory.parameters, common_type(sorted(kinds)), rows, key=key)

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


def elements_before(extent: Extent, position: int) -> int:
    """How many elements of ``extent`` lie before ``position`` of the flat tensor."""
    runs, within = divmod(position, extent.stride)
    if runs >= extent.outer:
        return extent.size
    return runs * extent.length + min(max(within - extent.start, 0), extent.length)
