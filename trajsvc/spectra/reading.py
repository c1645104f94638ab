"""Rows of a run's matrices at its checkpoints, in float64: of the weights, and of differences of two checkpoints.

Values come from where the run came from, or from its stored parameters where the run keeps a copy of what lies on a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from cachetools import LRUCache

from storage_schema.format.arrays import ITEMSIZE
from storage_schema.runs.reader import StoredRun
from trajsvc.analysis.stored_checkpoints import StoredCheckpoints
from trajsvc.errors import Cancelled, TrajsvcError
from trajsvc.measures.base import Array
from trajsvc.sources.base import never
from trajsvc.spectra.matrices import Matrix
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.values import as_floats

PANEL: Final = 2**20
"""Elements that are read at once, at least one row."""
_HELD: Final = 8


class MatrixReader:
    """Reads matrices of a stored run. ``source`` is where its checkpoints lie now, where that is not what the run says."""

    def __init__(self, run: StoredRun, source: str | None = None, stop: Callable[[], bool] = never) -> None:
        self.run, self.stop = run, stop
        self.checkpoints = StoredCheckpoints(run, source, stop)
        self._rows = {step: i for i, step in enumerate(run.checkpoints.step.tolist())}
        self._trajectories: LRUCache[int, Trajectory] = LRUCache(_HELD)

    def close(self) -> None:
        self.checkpoints.close()

    def trajectory(self, step: int) -> Trajectory:
        """Return the headers of a checkpoint. Raises Refused (``source-gone``, ``checkpoint-changed``)."""
        if step not in self._trajectories:
            self._trajectories[step] = self.checkpoints.trajectory(step)
        return self._trajectories[step]

    def panels(self, matrix: Matrix, step: int, base: int | None = None) -> Iterator[tuple[int, Array]]:
        """Yield (first row, rows) of W_step, or of W_step − W_base, until all rows are there.

        Raises Cancelled between two panels, and what reading raises.
        """
        height = max(1, PANEL // matrix.width)
        for lo in range(0, matrix.rows, height):
            if self.stop():
                raise Cancelled
            hi = min(matrix.rows, lo + height)
            values = self.rows(matrix, step, lo, hi)
            if base is not None:
                with np.errstate(invalid="ignore"):
                    values = values - self.rows(matrix, base, lo, hi)
            yield lo, values

    def rows(self, matrix: Matrix, step: int, lo: int, hi: int) -> Array:
        """Return rows [lo, hi) of a matrix at a checkpoint, (hi − lo, columns), float64."""
        first, last = (matrix.row + lo) * matrix.width, (matrix.row + hi) * matrix.width
        flat = self._copied(matrix, step, first, last) if self._is_copied else self._read(matrix, step, first, last)
        return flat.reshape(hi - lo, matrix.width)[:, matrix.column : matrix.column + matrix.columns]

    @property
    def _is_copied(self) -> bool:
        return self.run.theta is not None and self.checkpoints.source.remote is not None

    def _copied(self, matrix: Matrix, step: int, lo: int, hi: int) -> Array:
        """Return elements [lo, hi) of a block, in its order, from the run's own copy."""
        layout, at = self.run.theta, int(self.run.blocks.offset[matrix.block])
        assert layout is not None
        out = np.empty((hi - lo) * ITEMSIZE[layout.dtype], np.uint8)
        self.run.read_theta(self._rows[step], at + lo, at + hi, out.data)
        return as_floats(out, layout.dtype)

    def _read(self, matrix: Matrix, step: int, lo: int, hi: int) -> Array:
        """Return the same from the checkpoint's files: whole periods of the block's extent are read, and cut."""
        found = self.trajectory(step)
        extent = found.anatomy.blocks[matrix.block].extent
        if extent.outer == 1:
            return self._elements(found, matrix, extent.start + lo, extent.start + hi)
        first, last = lo // extent.length, -(-hi // extent.length)
        stored = self._elements(found, matrix, first * extent.stride, last * extent.stride)
        cut = stored.reshape(last - first, extent.stride)[:, extent.start : extent.start + extent.length]
        return cut.reshape(-1)[lo - first * extent.length : hi - first * extent.length]

    def _elements(self, found: Trajectory, matrix: Matrix, lo: int, hi: int) -> Array:
        column = next(i for i, c in enumerate(found.columns) if c.name == matrix.tensor)
        entry = found.rows[0].entries[column]
        out = np.empty((hi - lo) * ITEMSIZE[entry.dtype], np.uint8)
        try:
            found.read(column, 0, lo, hi, out.data)
        except TrajsvcError as error:
            raise error.about(tensor=matrix.tensor, step=found.rows[0].step, file=entry.file) from None
        return as_floats(out, entry.dtype)
