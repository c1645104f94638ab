"""The checkpoints of a stored run, for networks: every tensor by name, through the readers that analysed them.

Values come from where the run came from, or from its stored parameters where the run keeps a copy of what lies on a network. Files must
be those that were analysed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import FLOAT_TYPES, ITEMSIZE
from trajsvc.analysis.stored_checkpoints import StoredCheckpoints
from trajsvc.errors import NotFound, TrajsvcError
from trajsvc.sources.base import TensorEntry
from trajsvc.trajectory.elements import read_elements
from trajsvc.trajectory.matrix import Row, Trajectory
from trajsvc.trajectory.values import as_floats

Values = NDArray[Any]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: its tensors by name, as float64 (or as stored, where they are no floats), and what its folder says of it."""

    step: int
    config: Mapping[str, Any] | None
    folder: Path | None
    tensors: Mapping[str, Values]
    blocks: Mapping[str, Values]
    """values of stored blocks, flat, of a run that is read from its own copy alone; then ``tensors`` is empty"""
    parameters: frozenset[str] = frozenset()
    """the tensors that were analysed: the others are buffers, or were left out"""


class Checkpoints(StoredCheckpoints):
    """Reads the checkpoints of a stored run. ``source`` is where they lie now, where that is not what the run says."""

    def look(self, step: int) -> tuple[Mapping[str, Any] | None, Path | None]:
        """Return the config.json of a checkpoint, and its folder on this machine; None where there is none."""
        found = self._headers(step)
        return (None, None) if found is None else (found.config, self.folder(found.rows[0]))

    def _headers(self, step: int) -> Trajectory | None:
        """Return the matrix of one checkpoint; None where only the run's own copy of it is left, which serves a
        probe that needs no config."""
        try:
            return self.trajectory(step)
        except TrajsvcError:
            if self.run.theta is None:
                raise
            return None

    def read(self, step: int) -> Checkpoint:
        """Read a checkpoint. Raises Refused (``source-gone``, ``checkpoint-changed``) and what reading raises."""
        found = self._headers(step)
        if found is None:
            return Checkpoint(step, None, None, {}, dict(self._copied(step)), frozenset(self.run.blocks.tensor))
        row, parameters = found.rows[0], frozenset(column.name for column in found.columns)
        if self.run.theta is not None and self.source.remote is not None:
            buffers = self._tensors(found, row, but=parameters)
            tensors = _assembled(found, dict(self._copied(step))) | dict(buffers)
        else:
            tensors = dict(self._tensors(found, row))
        return Checkpoint(step, found.config, self.folder(row), tensors, {}, parameters)

    def _tensors(self, trajectory: Trajectory, row: Row, but: Collection[str] = ()) -> Iterable[tuple[str, Values]]:
        """Every tensor of the files, ``but`` some: parameters under the run's names, whatever else under its own."""
        entries: dict[str, TensorEntry] = dict(self.source.tensors(row.checkpoint).tensors)
        entries |= {column.name: entry for column, entry in zip(trajectory.columns, row.entries, strict=True)}
        for name, entry in entries.items():
            if entry.dtype not in ITEMSIZE or name in but:
                continue  # counters and masks: a network makes its own
            out = np.empty(entry.size * ITEMSIZE[entry.dtype], np.uint8)
            try:
                read_elements(self.source, entry, 0, entry.size, out.data)
            except TrajsvcError as error:
                raise error.about(tensor=name, step=row.step, file=entry.file) from None
            yield name, as_floats(out, entry.dtype).reshape(entry.shape)

    def _copied(self, step: int) -> Iterable[tuple[str, Values]]:
        """Return the blocks of the run's own copy."""
        layout, table = self.run.theta, self.run.blocks
        steps = self.run.checkpoints.step.tolist()
        if layout is None or step not in steps:
            raise NotFound("step-not-found", f"run {self.run.name} has no checkpoint of step {step}", step=step)
        assert layout.dtype in FLOAT_TYPES
        for name, lo, size in zip(table.name, table.offset.tolist(), table.size.tolist(), strict=True):
            out = np.empty(size * ITEMSIZE[layout.dtype], np.uint8)
            self.run.read_theta(steps.index(step), lo, lo + size, out.data)
            yield name, as_floats(out, layout.dtype)


def _assembled(found: Trajectory, blocks: Mapping[str, Values]) -> dict[str, Values]:
    """Whole tensors from the blocks of a run's own copy."""
    shapes = {column.name: shape for column, shape in zip(found.columns, found.shapes, strict=True)}
    flat = {name: np.zeros(math.prod(shape)) for name, shape in shapes.items()}
    for block in found.anatomy.blocks:
        flat[block.tensor][block.extent.elements()] = blocks[block.name]
    return {name: values.reshape(shapes[name]) for name, values in flat.items()}
