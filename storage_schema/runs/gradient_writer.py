"""The one writer of a run's gradient Grams: each checkpoint is durable, and whole or absent, when ``put`` returns."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from storage_schema.errors import NotFound, Refused, StoreDamaged
from storage_schema.files.durable import Lock, make_dir, replace_file, sync_dir, writing
from storage_schema.format.gradients import HEAD, RecordHead, SetHead, span_of
from storage_schema.format.manifest import FileEntry
from storage_schema.format.names import check_name
from storage_schema.runs.beside import GRADIENTS, Beside
from storage_schema.runs.gradient_files import SetAtStep, block_table, check, members, record_files, table_files
from storage_schema.runs.gradient_store import GradientSets, StoredSet, fingerprints
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.snapshot import hash_pieces

_REMOVED: Final = ".removed-"
_GROUP: Final = {"attributes": {}, "zarr_format": 3, "node_type": "group"}


def lock_of(root: Path, name: str, beside: Beside = GRADIENTS) -> Lock:
    """Return the lock held by the process that writes what is ``beside`` the run ``name``, or removes the run."""
    path = root / "locks" / beside.folder / f"{name}.lock"
    with writing(path):
        make_dir(path.parent)
    return Lock(path)


class GradientWriter:
    """Writes the sets of one run, alone: a context manager that holds their lock. Entering raises StoreBusy.

    ``run`` is the run whose parameters the computation of gradients reads: its fingerprints are noted with every record.
    """

    def __init__(self, root: Path, run: StoredRun, beside: Beside = GRADIENTS) -> None:
        self.run, self.beside = run, beside
        self.sets = GradientSets(run.path, fingerprints(run), beside)
        self._lock = lock_of(root, run.name, beside)
        self._specs: dict[str, Mapping[str, Any]] = {}

    def __enter__(self) -> Self:
        with writing(self._lock.path):
            self._lock.acquire()
        for left in self.sets.folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(left)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def begin(self, name: str, spec: Mapping[str, Any], *, replace: bool = False) -> None:
        """Begin or go on with the set ``name``: its records that are there stay where their ``spec`` is this one.

        Of another spec it is removed with ``replace``; else Refused (``gradients-exist``).
        """
        check_name(name)
        plain = json.loads(json.dumps(spec, allow_nan=False))
        if name in self.sets.names() and not self._goes_on(name, plain, replace):
            self._remove(name)
        self._specs[name] = plain

    def _goes_on(self, name: str, spec: Mapping[str, Any], replace: bool) -> bool:
        try:
            stored = self.sets.open(name)
        except StoreDamaged:
            if replace:
                return False
            raise
        if dict(stored.spec) != spec and not replace:
            raise exists(name, stored.spec, spec, self.beside)
        return dict(stored.spec) == spec

    def has(self, name: str, step: int) -> bool:
        """Return whether the set holds the step, undamaged and of the run's current parameters."""
        stored = self._stored(name)
        return stored is not None and step in stored.rows and not stored.damaged(step)

    def put(self, name: str, step: int, found: SetAtStep, *, uses: Iterable[int] = ()) -> None:
        """Keep a set at a checkpoint; when this returns it survives a crash. A record of the step that is there is replaced.

        ``uses`` are further steps whose parameters it depends on. Raises DiskFull and StoreUnwritable with the other steps as they were,
        NotFound (``step-not-found``) for a step that the run does not have, ValueError where the set is not shaped as at its other steps.
        """
        if name not in self._specs:
            raise ValueError(f"begin({name!r}) comes before put")
        check(found)
        used = {at: self._fingerprint(at) for at in sorted({step, *uses})}
        folder = self.sets.folder / name
        with writing(folder):
            head = self._begun(name, found)
            row = self._row_for(head, step)
            if row < len(head.rows) and head.rows[row] is not None:  # these files are about to be overwritten
                head = replace(head, rows=_with(head.rows, row, None))
                self._publish(folder, head)
            files = {key: _write(folder / key, pieces) for key, pieces in record_files(head, row, step, found)}
            record = RecordHead(step, used, found.error, json.loads(json.dumps(dict(found.facts))), files)
            self._publish(folder, replace(head, rows=_with(head.rows, row, record)))

    def _fingerprint(self, step: int) -> str:
        try:
            return self.sets.known[step]
        except KeyError:
            raise NotFound(
                "step-not-found", f"run {self.run.name} has no checkpoint of step {step}", step=step
            ) from None

    def _stored(self, name: str) -> StoredSet | None:
        return self.sets.open(name) if name in self.sets.names() else None

    def _begun(self, name: str, found: SetAtStep) -> SetHead:
        """Return the head of the stored set, or of a new one whose tables are on disk but which no head on disk names
        yet.
        """
        stored = self._stored(name)
        new = _head(self._specs[name], found)
        if stored is not None and not stored.rows and not _alike(stored, new, found):
            self._remove(name)  # all of it is of parameters that the run no longer has
            stored = None
        if stored is not None:
            if not _alike(stored, new, found):
                raise ValueError(f"the set {name} is of other blocks or vectors at its other steps: {_shape(new)} here")
            return stored.head
        folder = self.sets.folder / name
        make_dir(folder)
        if not (self.sets.folder / HEAD).exists():
            replace_file(self.sets.folder / HEAD, json.dumps(_GROUP).encode())
        tables = table_files(block_table(found.blocks), new.labels)
        return replace(new, files={key: _write(folder / key, [data]) for key, data in tables.items()})

    def _row_for(self, head: SetHead, step: int) -> int:
        """Return the row of the step if it has one, else the first void row, else a new one."""
        for i, row in enumerate(head.rows):
            if row is not None and row.step == step:
                return i
        void = [i for i, row in enumerate(head.rows) if row is None]
        return void[0] if void else len(head.rows)

    def _publish(self, folder: Path, head: SetHead) -> None:
        """Write the metadata; the last file written names all others and is the commit point."""
        arrays = members(head)
        for name, metadata in arrays.items():
            make_dir(folder / name)
            replace_file(folder / name / HEAD, json.dumps(metadata, indent=1).encode())
        replace_file(folder / HEAD, head.to_bytes(arrays))

    def remove(self, name: str) -> None:
        """Remove a set. Raises NotFound (``gradients-not-found``)."""
        if name not in self.sets.names():
            raise self.beside.no_such(name, self.sets.names())
        with writing(self.sets.folder):
            self._remove(name)

    def _remove(self, name: str) -> None:
        away = self.sets.folder / f"{_REMOVED}{name}-{secrets.token_hex(4)}"
        (self.sets.folder / name).rename(away)
        sync_dir(self.sets.folder)
        shutil.rmtree(away)


def exists(name: str, stored: Mapping[str, Any], asked: Mapping[str, Any], beside: Beside = GRADIENTS) -> Refused:
    """Return the error for a set that is stored with other options; it names those that differ."""
    keys = [key for key in dict.fromkeys([*asked, *stored]) if asked.get(key) != stored.get(key)]
    said = ", ".join(f"{key} {_word(stored.get(key))}, not {_word(asked.get(key))}" for key in keys)
    return Refused(
        beside.exists,
        f"the run has a {beside.a_set} {name!r} of other options: {said}",
        hint=f"--replace computes it anew{';' if beside.apart else '.'}{beside.apart}",
    )


def _word(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 24 else f"{text[:23]}…"


def _head(spec: Mapping[str, Any], found: SetAtStep) -> SetHead:
    blocks, n = len(found.blocks), int(found.gram.shape[-1])
    scalars = {name: tuple(values.shape) for name, values in sorted(found.scalars.items())}
    return SetHead(
        kind=found.kind,
        spec=spec,
        n=n,
        blocks=blocks,
        span=span_of(blocks, n),
        labels=tuple(found.labels),
        same=found.same is not None,
        scalars=scalars,
        files={},
    )


def _shape(head: SetHead) -> tuple[Any, ...]:
    return head.kind, head.n, head.blocks, head.labels, head.same, dict(head.scalars)


def _alike(stored: StoredSet, new: SetHead, found: SetAtStep) -> bool:
    old, table = stored.blocks, block_table(found.blocks)
    return (_shape(stored.head), old.name, old.size.tolist()) == (_shape(new), table.name, table.size.tolist())


def _with(rows: Sequence[RecordHead | None], row: int, record: RecordHead | None) -> tuple[RecordHead | None, ...]:
    return (*rows[:row], record, *rows[row + 1 :])


def _write(path: Path, pieces: Sequence[bytes | memoryview]) -> FileEntry:
    make_dir(path.parent)
    replace_file(path, *pieces)
    return hash_pieces(pieces)
