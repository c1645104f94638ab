"""Checkpoints of several runs as one matrix Θ, whose columns are the blocks that the runs have in common.

Where a run keeps a copy of its parameters, its rows are read from there, else from its source. Columns are blocks and not
tensors, so that a run whose Q, K and V are stored apart goes beside one that fuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from storage_schema.format.arrays import ITEMSIZE
from storage_schema.runs.reader import StoredRun
from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.extents import rectangles
from trajsvc.gram.plan import Slab
from trajsvc.gram.slab_worker import Part
from trajsvc.trajectory.copy import elements_before
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.remote import RemoteTheta


class BlockRows(Protocol):
    """The checkpoints of one run, block by block."""

    def dtypes(self, block: int) -> Sequence[str]:
        """Return the stored type of a block at every checkpoint."""
        ...

    def load(self, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        """Fill the buffers of ``parts``, whose columns are blocks; may return early when ``stop`` says so."""
        ...

    def portable(self) -> BlockRows | None:
        """Return the same for another process that sees the store; None if there is none."""
        ...


@dataclass(frozen=True)
class StoredRows:
    """The rows of a run's own copy."""

    path: Path

    @cached_property
    def _run(self) -> StoredRun:
        return StoredRun(self.path)

    @cached_property
    def _offset(self) -> list[int]:
        return [int(offset) for offset in self._run.blocks.offset]

    def dtypes(self, block: int) -> Sequence[str]:
        layout = self._run.theta
        assert layout is not None
        return [layout.dtype] * layout.rows

    def load(self, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        for part in parts:
            if stop():
                return
            at = self._offset[part.column]
            self._run.read_theta(part.row, at + part.lo, at + part.hi, part.out)

    def portable(self) -> StoredRows:
        return StoredRows(self.path)


class SourceRows:
    """The rows of a run where its checkpoints lie: ``trajectory`` has the run's blocks, in their order."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self._theta = trajectory if trajectory.source.remote is None else RemoteTheta(trajectory)
        self._places = [
            (column, extent)
            for _, column, extent in sorted(
                (block, number, extent)
                for number, column in enumerate(trajectory.columns)
                for block, extent in column.blocks
            )
        ]

    def dtypes(self, block: int) -> Sequence[str]:
        return self.trajectory.dtypes(self._places[block][0])

    def load(self, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        """Load all parts at once, so that neighbours in a file are one request over a network."""
        wanted: list[Part] = []
        gathered: list[tuple[Part, Extent, int, np.ndarray]] = []
        for part in parts:
            column, extent = self._places[part.column]
            if extent.outer == 1 or extent.stride == extent.length:
                lo = extent.start + part.lo
                wanted.append(Part(column, part.row, lo, lo + part.hi - part.lo, part.out))
                continue
            lo, hi = _position(extent, part.lo), _position(extent, part.hi - 1) + 1
            raw = np.empty((hi - lo) * ITEMSIZE[self.dtypes(part.column)[part.row]], np.uint8)
            wanted.append(Part(column, part.row, lo, hi, raw.data))
            gathered.append((part, extent, lo, raw))
        self._theta.load(Slab(0, (), False), wanted, stop)
        if stop():
            return
        for part, extent, lo, raw in gathered:
            item = ITEMSIZE[self.dtypes(part.column)[part.row]]
            _gather(extent, lo, raw.view(f"u{item}"), np.frombuffer(part.out, f"u{item}"))

    def portable(self) -> SourceRows | None:
        there = self.trajectory.portable()
        return None if there is None or self.trajectory.source.remote is not None else SourceRows(there)


def _position(extent: Extent, element: int) -> int:
    """Return where an element of the block lies in the flat tensor."""
    run, within = divmod(element, extent.length)
    return run * extent.stride + extent.start + within


def _gather(extent: Extent, lo: int, values: np.ndarray, out: np.ndarray) -> None:
    """Copy to ``out`` the elements of a block among ``values``, which begin at ``lo`` of the flat tensor."""
    at = 0
    for r in rectangles(extent, lo, lo + len(values)):
        shape, strides = (r.outer, r.length), (r.stride * values.itemsize, values.itemsize)
        piece = np.lib.stride_tricks.as_strided(values[r.at :], shape, strides, writeable=False)
        out[at : at + r.size].reshape(shape)[:] = piece
        at += r.size
    assert at == len(out) == elements_before(extent, lo + len(values)) - elements_before(extent, lo)


@dataclass(frozen=True)
class JoinedTheta:
    """Rows of several runs one after the other: row i is ``rows[i]``, a run and its checkpoint; column c is block ``blocks[run][c]``."""

    runs: tuple[BlockRows, ...]
    rows: tuple[tuple[int, int], ...]
    blocks: tuple[tuple[int, ...], ...]

    def dtypes(self, column: int) -> Sequence[str]:
        return self._dtypes[column]

    @cached_property
    def _dtypes(self) -> list[list[str]]:
        found = []
        for column in range(len(self.blocks[0])):
            own = [run.dtypes(blocks[column]) for run, blocks in zip(self.runs, self.blocks, strict=True)]
            found.append([own[run][row] for run, row in self.rows])
        return found

    def has_crc(self, column: int, row: int) -> bool:
        """Return False: the checksums were compared when the runs were analysed."""
        return False

    def prepare(self, slabs: Sequence[Slab]) -> None:
        """Do nothing: nothing is read ahead."""

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        of_run: list[list[Part]] = [[] for _ in self.runs]
        for part in parts:
            run, row = self.rows[part.row]
            of_run[run].append(Part(self.blocks[run][part.column], row, part.lo, part.hi, part.out))
        for rows, wanted in zip(self.runs, of_run, strict=True):
            rows.load(wanted, stop)

    def portable(self) -> JoinedTheta | None:
        there = [run.portable() for run in self.runs]
        known = tuple(run for run in there if run is not None)
        return JoinedTheta(known, self.rows, self.blocks) if len(known) == len(there) else None
