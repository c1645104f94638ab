"""A committed run, open for reading: cheap to open, every answer from one generation and proved against its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.durable import size_of
from storage_schema.files.roomy import Allocate, release, roomy
from storage_schema.format import arrays
from storage_schema.format.manifest import FileEntry
from storage_schema.format.theta import ThetaLayout, shard_offsets
from storage_schema.models.results import Hyperparameter
from storage_schema.runs import small_arrays
from storage_schema.runs.about import About, read_about
from storage_schema.runs.beside import ALL, SPECTRA
from storage_schema.runs.contents import (
    BlockTable,
    CheckpointTable,
    GroupRows,
    GroupTrees,
    RowTable,
    RunContents,
    TreeTable,
)
from storage_schema.runs.hyperparameters import gathered, of_families
from storage_schema.runs.snapshot import Snapshot
from storage_schema.runs.staging import ROOT, run_attributes

if TYPE_CHECKING:
    import zarr

    from storage_schema.runs.gradient_store import GradientSets

LARGE = 2**27
"""Bytes of Grams that are taken into memory together, at most."""


class StoredRun:
    """One generation of a run. It keeps answering from that generation while later ones are committed.

    Raises RunMissing, StoreDamaged or StoreVersion when opened; StoreDamaged when a file that is read turns out altered or
    missing; StoreChanged when a theta that it is asked for was replaced by a later commit. Safe to use from several threads.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._snapshot = Snapshot(self.path)

    def __repr__(self) -> str:
        return f"StoredRun({str(self.path)!r}, generation={self.generation})"

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(arrays.SUFFIX)

    @property
    def generation(self) -> int:
        """1 for the first commit, one more for each later one."""
        return self._snapshot.manifest.generation

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest: the same digest, the same bytes in every file."""
        return self._snapshot.manifest.digest

    def outdated(self) -> bool:
        """Return whether a writer has committed a later generation."""
        return self._snapshot.outdated()

    def read_file(self, key: str, at: int, out: memoryview) -> None:
        """Fill ``out`` with a file's bytes from ``at`` on, checked against the manifest.

        Raises LookupError for a file that is not the run's.
        """
        self._snapshot.read_into(key, at, out)

    @property
    def checkpoint_count(self) -> int:
        return self._snapshot.manifest.checkpoints

    @property
    def block_count(self) -> int:
        return self._snapshot.manifest.blocks

    @property
    def parameters(self) -> int:
        """Columns of theta: the sum of the blocks' sizes."""
        return self._snapshot.manifest.parameters

    @property
    def entries(self) -> Mapping[str, FileEntry]:
        """Size and SHA-256 of every file of this generation, by path."""
        return self._snapshot.manifest.files

    @property
    def about(self) -> About:
        """What is said of the run now: tags, notes, hyperparameters set by hand; they change without a commit."""
        return read_about(self.path)

    @property
    def tags(self) -> tuple[str, ...]:
        """The run's tags as they are now, sorted."""
        return self.about.tags

    @property
    def notes(self) -> str:
        """What people wrote of the run, as it is now."""
        return self.about.notes

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """The run's hyperparameters as they are now, by name, each with its origin."""
        families = of_families(self.path.parent.parent)
        return gathered(self.attributes, families.get(self.name, ()), self.about.hyperparameters)

    @property
    def nbytes(self) -> int:
        """Bytes of all its files."""
        return sum(entry.size for entry in self.entries.values())

    @property
    def size(self) -> int:
        """Bytes of its files and of what is kept beside it: gradients and spectra."""
        return self.nbytes + sum(size_of(self.path / beside.folder) for beside in ALL)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What ``RunContents.attributes`` held."""
        return run_attributes(self._snapshot.read(ROOT))

    @cached_property
    def group(self) -> zarr.Group:
        """The run as a zarr group; read-only, and proved as it is read."""
        import zarr

        from storage_schema.runs.zarr_view import VerifiedStore

        return zarr.open_group(VerifiedStore(self._snapshot), mode="r", zarr_format=3, use_consolidated=True)

    @cached_property
    def checkpoints(self) -> CheckpointTable:
        return CheckpointTable(**self._table(arrays.CHECKPOINT, arrays.CHECKPOINT_COLUMNS))

    @property
    def gradients(self) -> GradientSets:
        """The sets of gradients that are kept beside the run; they are no part of its generations."""
        from storage_schema.runs.gradient_store import GradientSets, fingerprints

        return GradientSets(self.path, fingerprints(self))

    @property
    def spectra(self) -> GradientSets:
        """The spectra of the run's matrices, in the same layout; no part of its generations either."""
        from storage_schema.runs.gradient_store import GradientSets, fingerprints

        return GradientSets(self.path, fingerprints(self), SPECTRA)

    @cached_property
    def blocks(self) -> BlockTable:
        return BlockTable(**self._table(arrays.BLOCK, arrays.BLOCK_COLUMNS))

    def _table(self, group: str, columns: Sequence[str]) -> dict[str, Any]:
        return {column: _column(self._array(f"{group}/{column}")) for column in columns}

    @cached_property
    def _metadata(self) -> dict[str, Any]:
        """That of every array and group, by path."""
        found: dict[str, Any] = json.loads(self._snapshot.read(ROOT))["consolidated_metadata"]["metadata"]
        return found

    def _array(self, path: str) -> NDArray[Any]:
        metadata = self._metadata.get(path, {})
        if small_arrays.is_small(metadata):
            return small_arrays.read(metadata, lambda key: self._snapshot.read(f"{path}/{key}"))
        import zarr

        array = self.group[path]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"{path} is a group")
        return np.asarray(array[...])

    def gram(self, blocks: Iterable[int] | None = None) -> NDArray[np.float64]:
        """Return the Gram of a set of blocks (all by default), Σ_b gram[b] in the update basis; (T, T) float64.

        Added in float64, one block after the other in the order of the columns, so the same set gives the same bits
        however it is asked for. Raises ValueError where a block is out of range.
        """
        size = self.checkpoint_count
        total = np.zeros((size, size))
        for _, gram in self._grams(self._indices(blocks)):
            total += gram
        return total

    def block_grams(self, blocks: Iterable[int] | None = None, allocate: Allocate = np.zeros) -> NDArray[np.float64]:
        """Return the Gram of each of n blocks (all by default), in the order of the columns; (n, T, T) float64."""
        chosen = self._indices(blocks)
        size = self.checkpoint_count
        out = allocate((len(chosen), size, size))
        for place, (_, gram) in enumerate(self._grams(chosen)):
            out[place] = gram
            release(out)
        return out

    def rounding(self, blocks: Iterable[int] | None = None) -> NDArray[np.float64]:
        """Return the expected squared norm of the stored type's rounding, Σ_b rounding[b]; (T,) float64, NaN where it
        is unknown.
        """
        total = np.zeros(self.checkpoint_count)
        for block in self._indices(blocks):
            total += self._rounding[block]
        return total

    def nonfinite(self) -> NDArray[np.int64]:
        """Return the counts of NaN and infinite values; (block, T) int64."""
        return self._nonfinite.copy()

    def changes(self) -> NDArray[np.int64] | None:
        """Return how many values changed, (block, T, 2); None where it was not counted. See ``RunContents.changes``."""
        return None if arrays.CHANGES not in self._metadata else self._array(arrays.CHANGES)

    def zeros(self) -> NDArray[np.int64] | None:
        """Return how many values are zero, (tensor, T); None where it was not kept. See ``RunContents.zeros``."""
        return None if arrays.ZEROS not in self._metadata else self._array(arrays.ZEROS)

    def group_changes(self, group: str, blocks: Sequence[int]) -> NDArray[np.float64] | None:
        """Return how many values of a set of blocks changed, (T, 2) float64, NaN where it was not counted; None if nowhere."""
        counted = self.changes()
        if counted is None:
            return None
        chosen = counted[self._indices(blocks)]
        return np.where((chosen < 0).any(axis=0), np.nan, chosen.sum(axis=0))

    @cached_property
    def row_places(self) -> dict[int, tuple[int, int]]:
        """Block → (first, number) of its rows in ``rows/norms``; empty where rows were not counted."""
        if arrays.ROWS not in self._metadata:
            return {}
        block, width = (self._array(f"{arrays.ROWS}/{name}") for name in ("block", "width"))
        counts = self.blocks.size[block] // width
        firsts = np.cumsum(counts) - counts
        return {int(b): (int(f), int(n)) for b, f, n in zip(block, firsts, counts, strict=True)}

    @property
    def has_rows(self) -> bool:
        return arrays.ROWS in self._metadata

    def group_rows(self, group: str, blocks: Sequence[int]) -> GroupRows | None:
        """Return the norms of the rows of a set of blocks' matrices; None where they were not counted. See ``RowTable``."""
        if not self.has_rows:
            return None
        places = [(b, *self.row_places[b]) for b in self._indices(blocks).tolist() if b in self.row_places]
        norms = np.empty((sum(n for *_, n in places), 3, self.checkpoint_count))
        at = 0
        for _, first, count in places:
            self._read_rows(first, norms[at : at + count])
            at += count
        return GroupRows(
            np.repeat(np.array([b for b, *_ in places], np.int64), [n for *_, n in places]),
            np.concatenate([np.zeros(0, np.int64), *(np.arange(n) for *_, n in places)]),
            norms,
        )

    def _read_rows(self, first: int, out: NDArray[np.float64]) -> None:
        """Fill ``out`` with the norms of rows from ``first`` on."""
        path = f"{arrays.ROWS}/norms"
        span = self._metadata[path]["chunk_grid"]["configuration"]["chunk_shape"][0]
        at = 0
        while at < len(out):
            number, begin = divmod(first + at, span)
            file = np.frombuffer(self._snapshot.read(f"{path}/c/{number}/0/0"), "<f8").reshape(span, *out.shape[1:])
            some = file[begin : begin + len(out) - at]
            out[at : at + len(some)] = some
            at += len(some)

    def _row_table(self, allocate: Allocate) -> RowTable | None:
        if not self.has_rows:
            return None
        block, width = (self._array(f"{arrays.ROWS}/{name}") for name in ("block", "width"))
        norms = allocate(tuple(self._metadata[f"{arrays.ROWS}/norms"]["shape"]))
        self._read_rows(0, norms)
        return RowTable(block, width, norms)

    @cached_property
    def _rounding(self) -> NDArray[np.float64]:
        return self._array(arrays.ROUNDING)

    @cached_property
    def _nonfinite(self) -> NDArray[np.int64]:
        return self._array(arrays.NONFINITE)

    def group_gram(self, group: str, blocks: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the (T, T) Gram and the (T,) rounding of a set of blocks; see ``gram`` and ``rounding``."""
        return self.gram(blocks), self.rounding(blocks)

    def group_left_out(self, group: str, blocks: Sequence[int]) -> NDArray[np.float64] | None:
        """Return the (R, T, T) jackknife replicates of a set of blocks; see ``replicates``."""
        return self.replicates(blocks)

    @cached_property
    def trees(self) -> TreeTable | None:
        """Blocks in another basis; None where the update basis serves all of them."""
        if arrays.TREE not in self._metadata:
            return None
        return TreeTable(**{name: self._array(f"{arrays.TREE}/{name}") for name in arrays.TREE_DIMS})

    def group_trees(self, group: str, blocks: Sequence[int]) -> GroupTrees | None:
        """Return the trees of a set of blocks, together with the updates of its other blocks.

        None if the update basis serves all of them.
        """
        table, chosen = self.trees, self._indices(blocks)
        own = [] if table is None else np.flatnonzero(np.isin(table.block, chosen)).tolist()
        if table is None or not own:
            return None
        path = np.arange(self.checkpoint_count, dtype=np.int64)
        parts = [(table.start[i], int(table.scale[i]), table.gram[i]) for i in own]
        rest = np.setdiff1d(chosen, table.block)
        if rest.size:
            parts.insert(0, (path, 0, self.gram(rest)))
        return group_trees(parts)

    def replicates(self, blocks: Iterable[int] | None = None) -> NDArray[np.float64] | None:
        """Return the Gram of a set of blocks with each jackknife replicate of the sample left out, (R, T, T).

        None for an exact run.
        """
        if arrays.REPLICATES not in self._metadata:
            return None
        return np.asarray(self._array(arrays.REPLICATES)[:, self._indices(blocks)].sum(axis=1))

    def contents(self, allocate: Allocate | None = None) -> RunContents:
        """Read all of the run but theta; its Grams to where ``allocate`` says, by default into a file beside the run if they are large."""
        allocate = allocate or roomy(self.path.parent, LARGE)
        return RunContents(
            name=self.name,
            checkpoints=self.checkpoints,
            blocks=self.blocks,
            gram=self.block_grams(allocate=allocate),
            rounding=self._rounding.copy(),
            nonfinite=self.nonfinite(),
            changes=self.changes(),
            zeros=self.zeros(),
            replicates=self._array(arrays.REPLICATES) if arrays.REPLICATES in self._metadata else None,
            trees=self.trees,
            rows=self._row_table(allocate),
            attributes=dict(self.attributes),
        )

    def verify(self) -> tuple[str, ...]:
        """Hash every file of the run again as it lies on disk; return the paths (relative to ``path``) of those that
        are damaged.
        """
        return self._snapshot.damaged()

    @property
    def theta(self) -> ThetaLayout | None:
        """Shape and stored type of theta; None where the run only refers to its source's files."""
        return self._snapshot.manifest.theta

    @property
    def archive(self) -> ThetaLayout | None:
        """Shape and stored type of the archived theta."""
        return self._snapshot.manifest.archive

    @property
    def has_theta(self) -> bool:
        return self.theta is not None

    @property
    def has_archive(self) -> bool:
        return self.archive is not None

    def read_theta(self, row: int, lo: int, hi: int, out: memoryview) -> None:
        """Fill ``out`` with the stored bytes of columns [lo, hi) of a checkpoint's row.

        A file is verified as a whole before its first use by this StoredRun, and again when its size or time changes.
        Raises LookupError if the run keeps no theta and ValueError if the range or the buffer does not fit.
        """
        layout = self.theta
        if layout is None:
            raise LookupError(f"run {self.name} keeps no copy of its checkpoints")
        view = memoryview(out).cast("B")
        if not (0 <= row < layout.rows and 0 <= lo <= hi <= layout.columns):
            raise ValueError(f"row {row}, columns {lo} to {hi} are not in a theta of {layout.rows} x {layout.columns}")
        if len(view) != (hi - lo) * layout.itemsize:
            raise ValueError(f"a buffer of {len(view)} bytes for {hi - lo} {layout.dtype} values")
        for file, at, start, length in layout.pieces(lo, hi):
            self._snapshot.read_into(layout.key(row, file), at, view[start : start + length])

    def _indices(self, blocks: Iterable[int] | None) -> NDArray[np.int64]:
        count = self.block_count
        if blocks is None:
            return np.arange(count)
        chosen = np.unique(np.fromiter(blocks, np.int64))
        if chosen.size and (chosen[0] < 0 or chosen[-1] >= count):
            raise ValueError(f"blocks {chosen[0]} to {chosen[-1]} are not all within 0 … {count - 1}")
        return chosen

    def _grams(self, chosen: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield (block, its Gram) of the chosen blocks, with one file in memory at a time.

        Read without zarr, which takes 0.7 ms for each inner chunk of a shard: a file is verified as a whole, and its
        chunks are raw float64 where its index says. Every other array is read by zarr.
        """
        size, span = self.checkpoint_count, self._snapshot.manifest.gram_span
        for file in np.unique(chosen // span):
            shard = memoryview(self._snapshot.read(f"{arrays.GRAM}/c/{file}/0/0"))
            offsets = shard_offsets(shard, span)
            for block in chosen[chosen // span == file]:
                at = int(offsets[block % span])
                yield int(block), np.frombuffer(shard, "<f8", size * size, at).reshape(size, size)


def group_trees(parts: Sequence[tuple[NDArray[np.int64], int, NDArray[np.float64]]]) -> GroupTrees:
    """Add (start, scale, Gram) of blocks, those of one tree together, in the scale of the largest that is not zero."""
    scale = max((s for _, s, gram in parts if gram.any()), default=0)
    sums: dict[bytes, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for start, own, gram in parts:
        factor = 2.0 ** min(0, own - scale)
        held = sums.get(start.tobytes())
        sums[start.tobytes()] = (start, gram * factor * factor + (0.0 if held is None else held[1]))
    return GroupTrees(np.stack([s for s, _ in sums.values()]), np.stack([g for _, g in sums.values()]), scale)


def _column(values: NDArray[Any]) -> NDArray[np.int64] | tuple[str, ...]:
    return tuple(str(v) for v in values) if values.dtype.kind in "TOU" else values.astype(np.int64)
