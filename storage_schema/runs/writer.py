"""The one writer of a run: stage what is new and commit it as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from storage_schema.errors import RunMissing, ThetaLost
from storage_schema.files.durable import Lock, make_dir, writing
from storage_schema.files.journal import SlabJournal
from storage_schema.format import arrays
from storage_schema.format.dtypes import widen
from storage_schema.format.manifest import PENDING, FileEntry, Manifest, read_manifest
from storage_schema.format.theta import ThetaLayout
from storage_schema.runs import commit
from storage_schema.runs.contents import RunContents
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.staging import gram_span, stage
from storage_schema.runs.theta_rows import ThetaFiles
from storage_schema.runs.theta_staging import ThetaStage, resumable

if TYPE_CHECKING:
    from typing_extensions import Buffer


PROGRESS: Final = "theta.json"
ThetaChoice = Literal["auto", "keep", "drop"]


class RunWriter:
    """Writes one run, alone: a context manager that holds the run's lock. Get one from ``RunStore.writer``.

    ``write_theta`` may be called from several threads; everything else from one.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.path = root / "runs" / f"{name}{arrays.SUFFIX}"
        self.work = root / "work" / name
        self._lock = Lock(root / "locks" / f"{name}.lock")
        self._current: StoredRun | None = None
        self._stage: ThetaStage | None = None

    def hold(self) -> None:
        """Take the run's lock only; raises StoreBusy."""
        with writing(self._lock.path):
            make_dir(self._lock.path.parent)
            self._lock.acquire()

    def release(self, *, remove: bool = False) -> None:
        self._stage = None
        self._lock.release(remove=remove)

    def __enter__(self) -> Self:
        self.hold()
        try:
            with writing(self.path):
                commit.recover(self.path, _manifest(self.path), theta_of=resumable(self.work / PROGRESS))
            self._current = _stored(self.path)
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    @property
    def current(self) -> StoredRun | None:
        """The run as it is committed now."""
        return self._current

    @property
    def _pending(self) -> Path:
        return self.path / f"{PENDING}{1 + (self._current.generation if self._current else 0)}"

    def journal(self, key: str) -> SlabJournal:
        """Return the resume journal of the job ``key`` on this run.

        Rows of theta that were begun are made durable before each record, so that a slab that counts as done has its
        copy on disk too.
        """
        return _CopyingJournal(self.work, key, self)

    def theta_begin(self, columns: int, dtype: str, rows: range, *, key: str) -> bool:
        """Begin to write rows ``rows`` of theta, to be committed with ``commit``; rows before them are the committed ones.

        ``dtype`` is the stored type of the whole theta (``stored_types.common_type`` finds it). True where an earlier attempt of
        the same ``key`` left rows to go on with; False means that nothing is written yet and no journal of slabs holds.
        Raises ThetaTypes or ThetaLost where the committed rows do not go with these.
        """
        layout = ThetaLayout.of(rows.stop, columns, dtype)
        if rows.step != 1 or not 0 <= rows.start < rows.stop:
            raise ValueError(f"rows must be a range of one or more rows, not {rows}")
        if rows.start:
            self._check_before(layout, rows.start)
        self._stage = ThetaStage(self._pending, layout, rows.start, key, self.work / PROGRESS)
        if not self._stage.resumed:
            with writing(self.path):
                commit.clear(self._pending, theta=True)
                (self.work / PROGRESS).unlink(missing_ok=True)
        return self._stage.resumed

    def _check_before(self, layout: ThetaLayout, rows: int) -> None:
        old = self._current.theta if self._current else None
        if old is None or old.rows < rows or old.columns != layout.columns:
            raise ThetaLost(
                self.path,
                f"theta has no {rows} rows of {layout.columns} parameters to append to",
                "Write all rows anew.",
            )
        if (old.dtype, old.chunk, old.shard) != (layout.dtype, layout.chunk, layout.shard):
            raise ThetaLost(
                self.path,
                f"theta is kept as {old.dtype} in chunks of {old.chunk}; {layout.dtype} rows do not go with it",
                "Write all rows anew.",
            )

    def write_theta(self, row: int, column_lo: int, data: Buffer, dtype: str | None = None) -> None:
        """Write stored values of one checkpoint from column ``column_lo`` on; ``dtype`` where they are of a narrower type."""
        if self._stage is None:
            raise ValueError("theta_begin comes before write_theta")
        wide = self._stage.layout.dtype
        self._stage.write(row, column_lo, widen(data, dtype or wide, wide))

    def theta_has(self, row: int, lo: int, hi: int) -> bool:
        """Return whether ``read_theta`` can read columns [lo, hi) of a row: committed earlier, or written since
        ``theta_begin``.
        """
        if self._stage is None:
            raise ValueError("theta_begin comes before theta_has")
        return row < self._stage.first or self._stage.covers(row, lo, hi)

    def read_theta(self, row: int, lo: int, out: memoryview) -> None:
        """Fill ``out`` with stored values of a row from column ``lo`` on, in the type of the theta being written.

        Rows before those of ``theta_begin`` come from the committed run.
        """
        if self._stage is None:
            raise ValueError("theta_begin comes before read_theta")
        if row >= self._stage.first:
            self._stage.read(row, lo, out)
        elif self._current is not None:
            self._current.read_theta(row, lo, lo + out.nbytes // self._stage.layout.itemsize, out)

    def portable(self) -> ThetaFiles:
        """Return the rows of the theta being written in a form that another process, which sees the store, can read.

        That process must not read what is not written yet.
        """
        if self._stage is None:
            raise ValueError("theta_begin comes before portable")
        committed = self.path if self._stage.first else None
        return ThetaFiles(self._stage.layout, self._pending, self._stage.first, committed)

    def sync_theta(self) -> None:
        """Make what was written durable and known to a resumed job; the journal of ``journal`` does it by itself."""
        if self._stage is not None:
            self._stage.sync()

    def commit(self, contents: RunContents, *, theta: ThetaChoice = "auto") -> StoredRun:
        """Commit a new generation and return it. When this raises, the run is what it was before.

        ``theta``: the rows begun with ``theta_begin`` if any, else the committed ones (``auto``); the committed ones only
        (``keep``); none (``drop``). Raises ThetaLost where committed rows would not belong to ``contents``, ThetaIncomplete, DiskFull.
        """
        _check(contents, self.name)
        staged = self._stage if theta == "auto" else None
        layout = self._theta_of(contents, staged, drop=theta == "drop")
        archive = self._current.archive if self._current and staged is None and theta != "drop" else None
        if archive is not None:
            self._check_same(archive, archive.rows, contents)
        written: Mapping[str, FileEntry] = {}
        if staged is None:
            self._give_up_stage()
        else:
            written = staged.finish()
        kept = self._kept(layout, staged.first if staged else None, archive)
        return self._commit(contents, layout, archive, written, kept)

    def commit_archive(self, contents: RunContents, layout: ThetaLayout, fill: Callable[[Path], None]) -> StoredRun:
        """Commit ``contents`` with an archive that ``fill`` writes, in place of theta."""
        self._give_up_stage()
        return self._commit(contents, None, layout, {}, {}, fill)

    def _theta_of(self, contents: RunContents, staged: ThetaStage | None, *, drop: bool) -> ThetaLayout | None:
        if staged is not None:
            _check_shape(self.path, staged.layout, contents)
            self._check_same(staged.layout, staged.first, contents)
            return staged.layout
        layout = self._current.theta if self._current and not drop else None
        if layout is not None:
            self._check_same(layout, layout.rows, contents)
        return layout

    def _check_same(self, layout: ThetaLayout, rows: int, contents: RunContents) -> None:
        """Raise ThetaLost unless the first ``rows`` committed rows belong to the contents' first checkpoints."""
        _check_shape(self.path, layout, contents)
        if not rows or self._current is None:
            return
        before, now = self._current, contents
        if (
            before.checkpoints.fingerprint[:rows] == now.checkpoints.fingerprint[:rows]
            and before.blocks.name == now.blocks.name
            and np.array_equal(before.blocks.size, now.blocks.size)
            and np.array_equal(before.blocks.offset, now.blocks.offset)
        ):
            return
        raise _lost(self.path, "the stored copy holds other checkpoints or blocks than these")

    def _kept(
        self, layout: ThetaLayout | None, staged_from: int | None, archive: ThetaLayout | None
    ) -> dict[str, FileEntry]:
        """Return the entries of the committed rows' files, which the new generation keeps."""
        if self._current is None:
            return {}
        keys: list[str] = []
        if layout is not None:
            rows = layout.rows if staged_from is None else staged_from
            keys += [layout.key(row, n) for row in range(rows) for n in range(layout.files_in_row)]
        if archive is not None:
            keys += archive.keys(arrays.THETA_ARCHIVE)
        return {key: self._current.entries[key] for key in keys}

    def _commit(
        self,
        contents: RunContents,
        layout: ThetaLayout | None,
        archive: ThetaLayout | None,
        written: Mapping[str, FileEntry],
        kept: Mapping[str, FileEntry],
        fill: Callable[[Path], None] | None = None,
    ) -> StoredRun:
        pending = self._pending
        with writing(self.path):
            self._settle()
            make_dir(pending)
            try:
                stage(pending, contents, layout, archive)
                if fill is not None:
                    fill(pending)
                live = self._current.entries if self._current else {}
                files = commit.prove(pending, written, live)
                manifest = self._manifest(contents, layout, archive, {**kept, **files})
                commit.publish(self.path, manifest)
            except BaseException:
                with suppress(OSError):
                    commit.clear(pending)
                raise
        # Committed: a failure from here on only delays the clean-up, which the next writer does.
        self._stage = None
        with suppress(OSError):
            (self.work / PROGRESS).unlink(missing_ok=True)
            commit.settle(self.path, manifest)
        self._current = StoredRun(self.path)
        return self._current

    def _settle(self) -> None:
        """Move the committed generation's files to their places if a crash prevented it, before a commit builds on
        them.
        """
        manifest = _manifest(self.path)
        if manifest is not None and (self.path / manifest.pending()).exists():
            commit.settle(self.path, manifest)

    def _manifest(
        self,
        contents: RunContents,
        layout: ThetaLayout | None,
        archive: ThetaLayout | None,
        files: Mapping[str, FileEntry],
    ) -> Manifest:
        blocks, basis, _ = contents.gram.shape
        return Manifest(
            generation=1 + (self._current.generation if self._current else 0),
            checkpoints=basis,
            blocks=blocks,
            parameters=int(contents.blocks.size.sum()),
            gram_span=gram_span(blocks, basis),
            theta=layout,
            archive=archive,
            files=files,
        )

    def _give_up_stage(self) -> None:
        """Remove rows that were begun and are not to be committed."""
        self._stage = None
        with writing(self.path):
            (self.work / PROGRESS).unlink(missing_ok=True)
            commit.clear(self._pending, theta=True)


class _CopyingJournal(SlabJournal):
    """A journal that writes a record only after the copy of its slab is durable."""

    def __init__(self, directory: Path, key: str, writer: RunWriter) -> None:
        super().__init__(directory, key)
        self._writer = writer

    def append(self, slab: int, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        self._writer.sync_theta()
        super().append(slab, arrays, meta)


def _manifest(path: Path) -> Manifest | None:
    try:
        return read_manifest(path)
    except RunMissing:
        return None


def _stored(path: Path) -> StoredRun | None:
    try:
        return StoredRun(path)
    except RunMissing:
        return None


def _check(contents: RunContents, name: str) -> None:
    """Raise ValueError unless the arrays and tables of ``contents`` fit each other."""
    steps, blocks = len(contents.checkpoints.step), len(contents.blocks.size)
    if contents.name != name:
        raise ValueError(f"contents of run {contents.name!r} for the writer of {name!r}")
    if steps == 0 or blocks == 0:
        raise ValueError(f"a run of {steps} checkpoints and {blocks} blocks has nothing to store")
    shapes = {
        "gram": (contents.gram, (blocks, steps, steps)),
        "rounding": (contents.rounding, (blocks, steps)),
        "nonfinite": (contents.nonfinite, (blocks, steps)),
    }
    if contents.changes is not None:
        shapes["changes"] = (contents.changes, (blocks, steps, 2))
    if contents.zeros is not None:
        shapes["zeros"] = (contents.zeros, (len(set(contents.blocks.tensor)), steps))
    if contents.rows is not None:
        count = int((contents.blocks.size[contents.rows.block] // contents.rows.width).sum())
        shapes["rows"] = (contents.rows.norms, (count, 3, steps))
    for what, (array, shape) in shapes.items():
        if array.shape != shape:
            raise ValueError(f"{what} is {array.shape}, not {shape}")
    for table, columns, rows in (
        (contents.checkpoints, arrays.CHECKPOINT_COLUMNS, steps),
        (contents.blocks, arrays.BLOCK_COLUMNS, blocks),
    ):
        for column in columns:
            if len(getattr(table, column)) != rows:
                raise ValueError(f"column {column} has {len(getattr(table, column))} rows, not {rows}")


def _check_shape(path: Path, layout: ThetaLayout, contents: RunContents) -> None:
    steps, columns = len(contents.checkpoints.step), int(contents.blocks.size.sum())
    if (layout.rows, layout.columns) != (steps, columns):
        raise _lost(
            path,
            f"a copy of {layout.rows} checkpoints of {layout.columns} parameters does not fit {steps} of {columns}",
        )


def _lost(path: Path, message: str) -> ThetaLost:
    return ThetaLost(
        path,
        message,
        "The run keeps a copy of its checkpoints: analyze with --copy so that it goes on, or under another --name.",
    )
