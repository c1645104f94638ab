"""The gradient Grams of a run: sets of vectors at checkpoints, kept beside the run's own Gram; every file read is
checked by its SHA-256.

::

    <store>/runs/<run>.zarr/gradients/<set>/    a zarr v3 group (``storage_schema.format.gradients``)
    <store>/locks/gradients/<run>.lock          held by the writer

    run = store.open("pythia-70m")
    with GradientWriter(store.root, run) as writer:  # storage_schema.runs.gradient_writer
        writer.begin("example", spec)
        writer.put("example", 1000, grams)
    run.gradients.open("example").record(1000)

A record notes the fingerprints of the checkpoints it depends on. If the run now holds others, the record is stale and
is not returned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from storage_schema.errors import NotFound, StoreChanged, StoreDamaged
from storage_schema.files.regular import read_file
from storage_schema.format.gradients import HEAD, RecordHead, parse_head
from storage_schema.format.manifest import FileEntry
from storage_schema.format.names import check_name
from storage_schema.runs import small_arrays
from storage_schema.runs.beside import GRADIENTS, Beside
from storage_schema.runs.contents import BlockTable, CheckpointTable
from storage_schema.runs.gradient_files import BLOCK_COLUMNS, GradientRecord, grams_in, members, scalar_key
from storage_schema.runs.gradient_source import GroupRecord, group_record

_HELD: Final = 2**25
"""Bytes of files that a set keeps, proved, the ones used last."""


class HasCheckpoints(Protocol):
    @property
    def checkpoints(self) -> CheckpointTable: ...


def fingerprints(run: HasCheckpoints) -> dict[int, str]:
    """Return step → fingerprint of every checkpoint of a run."""
    table = run.checkpoints
    return dict(zip(table.step.tolist(), table.fingerprint, strict=True))


class StoredSet:
    """One set, as it was when it was opened. ``known`` are the run's fingerprints by step: a record of others is stale."""

    def __init__(self, folder: Path, known: Mapping[int, str], beside: Beside = GRADIENTS) -> None:
        self.folder, self.beside = folder, beside
        self.name = folder.name
        self._raw = read_file(folder / HEAD)
        self.head = parse_head(self._raw, folder / HEAD)
        self._known = known
        self._held: LRUCache[str, bytes] = LRUCache(_HELD, len)

    @property
    def kind(self) -> str:
        return self.head.kind

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.head.spec

    @property
    def digest(self) -> str:
        """Changes whenever anything of the set does."""
        return hashlib.sha256(self._raw).hexdigest()

    @property
    def n(self) -> int:
        """How many vectors it has."""
        return self.head.n

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the vectors, where they have any."""
        return self.head.labels

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the sums that are kept beside the Gram."""
        return tuple(self.head.scalars)

    @property
    def steps(self) -> list[int]:
        """Steps of the records that are of the run as it is, ascending."""
        return list(self.rows)

    @cached_property
    def rows(self) -> dict[int, int]:
        """Step → row of these records."""
        return {row.step: i for i, row in sorted(self._records(), key=lambda r: r[1].step) if self._is_current(row)}

    @cached_property
    def stale(self) -> list[int]:
        """Steps whose record is of other parameters than the run has now."""
        return sorted({row.step for _, row in self._records()} - set(self.rows))

    def _records(self) -> list[tuple[int, RecordHead]]:
        return [(i, row) for i, row in enumerate(self.head.rows) if row is not None]

    def _is_current(self, row: RecordHead) -> bool:
        return all(self._known.get(step) == fingerprint for step, fingerprint in row.used.items())

    @cached_property
    def blocks(self) -> BlockTable:
        """The blocks of the network that the probe built."""
        texts = {column: self._table(column) for column in BLOCK_COLUMNS}
        words = {"name" if c == "block" else c: tuple(str(v) for v in values) for c, values in texts.items()}
        size = self._table("size").astype(np.int64)
        return BlockTable(**words, size=size, offset=np.cumsum(size) - size)

    def _table(self, name: str) -> NDArray[Any]:
        metadata = members(self.head)[name]
        return small_arrays.read(metadata, lambda key: self._proved(f"{name}/{key}", self.head.files))

    def record(self, step: int, blocks: Sequence[int] | None = None) -> GradientRecord:
        """Read the record of a step: of all blocks, or of those with the indices ``blocks``, in this order; scalars are of all blocks.

        Raises NotFound (``gradients-not-found``) where there is none, or a stale one, StoreDamaged, StoreChanged.
        """
        row = self.row_of(step)
        head = self._row(row)
        chosen = list(range(self.head.blocks)) if blocks is None else list(blocks)
        same = None
        if self.head.same:
            same = self._numbers(f"same/c/{row}/0/0", head, "<i8", (self.head.blocks, self.head.n))[chosen]
        scalars = {name: self._scalar(name, shape, row, head) for name, shape in self.head.scalars.items()}
        return GradientRecord(step, self._grams(row, head, chosen), head.error, same, scalars, head.facts)

    def group(self, step: int, group: str, blocks: Sequence[int]) -> GroupRecord:
        """Sum some blocks at a step; see ``record``."""
        found = self.record(step, blocks)
        return group_record(found.gram, found.error, found.same, found.scalars, blocks, found.facts)

    def scalar(self, step: int, name: str) -> NDArray[np.float64]:
        """Read one of the arrays that are kept beside the Gram, at a step; raises as ``record``."""
        row = self.row_of(step)
        return self._scalar(name, self.head.scalars[name], row, self._row(row))

    def facts(self, step: int) -> Mapping[str, Any]:
        """Return what was noted when the record of a step was made."""
        return self._row(self.row_of(step)).facts

    def row_of(self, step: int) -> int:
        if step in self.rows:
            return self.rows[step]
        stored = ", ".join(map(str, self.rows)) or "none"
        why = "is of other parameters than the run has now" if step in self.stale else "was not computed"
        hint = f"It has the steps {stored}. `trajsvc {self.beside.folder} compute` computes others."
        raise NotFound(self.beside.absent, f"set {self.name} at step {step} {why}", hint=hint)

    def _row(self, row: int) -> RecordHead:
        head = self.head.rows[row]
        assert head is not None
        return head

    def _grams(self, row: int, head: RecordHead, chosen: Sequence[int]) -> NDArray[np.float64]:
        span, n = self.head.span, self.head.n
        out = np.empty((len(chosen), n, n))
        for number in sorted({block // span for block in chosen}):
            places = [i for i, block in enumerate(chosen) if block // span == number]
            shard = self._proved(f"gram/c/{row}/{number}/0/0", head.files)
            for i, gram in zip(places, grams_in(shard, self.head, [chosen[i] % span for i in places]), strict=True):
                out[i] = gram
        return out

    def _scalar(self, name: str, shape: tuple[int, ...], row: int, head: RecordHead) -> NDArray[np.float64]:
        if 0 in shape:
            return np.zeros(shape)
        return self._numbers(scalar_key(name, row, len(shape)), head, "<f8", shape)

    def _numbers(self, key: str, head: RecordHead, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.frombuffer(self._proved(key, head.files), kind).reshape(shape).copy()

    def _proved(self, key: str, files: Mapping[str, FileEntry]) -> bytes:
        """Return a file's bytes, checked against their SHA-256.

        Raises StoreDamaged if they are not what was written, StoreChanged if the set was written anew since it was
        opened.
        """
        if key in self._held:
            return self._held[key]
        entry, path = files.get(key), self.folder / key
        data = read_file(path) if path.is_file() else None
        if data is None or entry is None or entry != FileEntry(len(data), hashlib.sha256(data).hexdigest()):
            raise self._fault(key, "is missing" if data is None else "is not what was written")
        if len(data) <= _HELD:
            self._held[key] = data
        return data

    def _fault(self, key: str, what: str) -> StoreDamaged | StoreChanged:
        try:
            changed = read_file(self.folder / HEAD) != self._raw
        except FileNotFoundError:
            changed = True
        if changed:
            return StoreChanged(
                self.folder, f"the {self.beside.folder} were written anew while they were being read", "Try again."
            )
        hint = "Restore it from a copy, or compute the set again."
        return StoreDamaged(self.folder / key, f"the stored file {key} of the set {self.name} {what}", hint)

    def damaged(self, step: int | None = None) -> list[str]:
        """Return the keys of the files that are not what was written: of one step, or of all that are not stale."""
        files = dict(self.head.files)
        for at, row in self.rows.items():
            if step in (None, at):
                files |= self._row(row).files
        self._held.clear()
        return [key for key in sorted(files) if not self._is_whole(key, files)]

    def _is_whole(self, key: str, files: Mapping[str, FileEntry]) -> bool:
        try:
            self._proved(key, files)
        except StoreDamaged:
            return False
        return True


class GradientSets:
    """The sets of a run, below the run's folder. Nothing is created before something is written."""

    def __init__(self, run: Path, known: Mapping[int, str], beside: Beside = GRADIENTS) -> None:
        self.folder, self.beside = run / beside.folder, beside
        self.known = known

    def names(self) -> tuple[str, ...]:
        """Return the names of the sets, sorted."""
        return tuple(sorted(path.parent.name for path in self.folder.glob(f"[!.]*/{HEAD}")))

    def open(self, name: str) -> StoredSet:
        """Open a set. Raises NotFound (``gradients-not-found``, ``spectra-not-found``), StoreDamaged, StoreVersion."""
        if name not in self.names():
            raise self.beside.no_such(name, self.names())
        return StoredSet(self.folder / check_name(name), self.known, self.beside)
