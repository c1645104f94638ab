"""Θ: a run's checkpoints as one matrix, a row a checkpoint and a column range a tensor, read where the bytes lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.results import Finding
from trajsvc.anatomy.blocks import Anatomy
from trajsvc.errors import DamagedCheckpoint, TrajsvcError
from trajsvc.gram.plan import ColumnSpec, Slab
from trajsvc.gram.slab_worker import Part
from trajsvc.sources.base import CheckpointRef, CheckpointSource, NoSource, TensorEntry
from trajsvc.trajectory.elements import read_elements, stored_itemsize, whole_record


@dataclass(frozen=True)
class Row:
    """One checkpoint of the matrix: where each column's elements lie."""

    checkpoint: CheckpointRef
    entries: tuple[TensorEntry, ...]

    @property
    def step(self) -> int:
        return self.checkpoint.step

    @property
    def label(self) -> str:
        return self.checkpoint.label

    @property
    def dtype(self) -> str:
        """Stored type, ``mixed`` when tensors differ."""
        kinds = {e.stored_type for e in self.entries}
        return kinds.pop() if len(kinds) == 1 else "mixed"


@dataclass(frozen=True)
class Excluded:
    """A checkpoint that is not a row, and why."""

    step: int
    label: str
    reason: str


@dataclass(frozen=True)
class Trajectory:
    """The matrix Θ of one run. ``columns`` are in the order of ``anatomy.blocks``' tensors."""

    source: CheckpointSource
    anatomy: Anatomy
    columns: tuple[ColumnSpec, ...]
    shapes: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    excluded: tuple[Excluded, ...] = ()
    findings: tuple[Finding, ...] = ()
    config: Mapping[str, Any] | None = None
    doubtful: Mapping[str, str] = field(default_factory=dict)
    """tensor → why it may be no parameter, though it is counted"""
    _dtypes: tuple[tuple[str, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kinds = tuple(tuple(r.entries[c].dtype for r in self.rows) for c in range(len(self.columns)))
        object.__setattr__(self, "_dtypes", kinds)

    @property
    def steps(self) -> NDArray[np.int64]:
        return np.array([r.step for r in self.rows], dtype=np.int64)

    @property
    def parameters(self) -> int:
        return sum(c.size for c in self.columns)

    @cached_property
    def bytes(self) -> int:
        """Bytes of all rows: what one pass reads."""
        return sum(e.size * stored_itemsize(e) for r in self.rows for e in r.entries)

    def dtypes(self, column: int) -> Sequence[str]:
        return self._dtypes[column]

    def has_crc(self, column: int, row: int) -> bool:
        entry = self.rows[row].entries[column]
        return entry.plain and whole_record(entry)

    def read(self, column: int, row: int, lo: int, hi: int, out: memoryview) -> int | None:
        """Fill ``out`` with the stored bytes of elements [lo, hi) (C order) of a tensor at one checkpoint.

        Return ``codes_crc`` of them.
        """
        entry = self.rows[row].entries[column]
        try:
            return read_elements(self.source, entry, lo, hi, out)
        except TrajsvcError as error:
            raise error.about(tensor=entry.name, step=self.rows[row].step, file=entry.file) from None

    def prepare(self, slabs: Sequence[Slab]) -> None:
        """Do nothing: the operating system reads files ahead."""

    def bare(self) -> Trajectory:
        """Return the matrix without a source: what is needed to know where its values lie in a copy."""
        return replace(self, source=NoSource(self.source.uri), findings=(), excluded=(), config=None, doubtful={})

    def portable(self) -> Trajectory | None:
        """Return the same matrix without what only this process needs.

        None if its files cannot be read by another process.
        """
        source = self.source.portable()
        return (
            None if source is None else replace(self, source=source, findings=(), excluded=(), config=None, doubtful={})
        )

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        """Call ``read`` for every part in turn, until ``stop`` returns True."""
        for part in parts:
            if stop():
                return
            part.crc = self.read(part.column, part.row, part.lo, part.hi, part.out)

    def check_crc(self, segments: Sequence[tuple[int, int, int]], crc: NDArray[np.uint32]) -> None:
        """Compare the archives' checksums with those of the bytes read: ``crc`` is (segments, rows).

        Raises DamagedCheckpoint (``checksum-mismatch``) naming file, tensor and step.
        """
        from isal import isal_zlib

        by_column: dict[int, list[tuple[int, int, int]]] = {}
        for number, (column, lo, hi) in enumerate(segments):
            by_column.setdefault(column, []).append((lo, hi, number))
        for column, pieces in by_column.items():
            pieces.sort()
            for row in range(len(self.rows)):
                entry = self.rows[row].entries[column]
                if not whole_record(entry):
                    continue
                total = 0
                for lo, hi, number in pieces:
                    total = isal_zlib.crc32_combine(total, int(crc[number, row]), (hi - lo) * stored_itemsize(entry))
                if total != entry.crc32:
                    raise checksum_mismatch(entry, self.rows[row].step)


def checksum_mismatch(entry: TensorEntry, step: int) -> DamagedCheckpoint:
    """Return the error for bytes that do not have the checksum that their archive keeps."""
    return DamagedCheckpoint(
        "checksum-mismatch",
        f"the bytes of {entry.name} do not have the checksum that {entry.file} keeps for them",
        hint="The file is damaged: fetch or copy it again, or leave the checkpoint out with --steps.",
        file=entry.file, tensor=entry.name, step=step,
    )  # fmt: skip
