"""Checkpoints in a local folder: lists them by name, reads headers on demand, copies byte ranges.

Formats may differ from step to step of one run. Each has its module (``safetensors``, ``torch_zip``, ``shards``, ``dcp``); how folders
are recognised is in ``listing`` and ``layout``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

from storage_schema.models.results import Finding
from storage_schema.models.training_log import TrainingLog
from trajsvc.errors import NotFound, TrajsvcError
from trajsvc.sources.base import CheckpointRef, CheckpointTensors, FileRef, ReadRequest, Steps, never
from trajsvc.sources.files import Files, failed
from trajsvc.sources.formats.headers import read_beside, read_checkpoint
from trajsvc.sources.formats.layout import Found
from trajsvc.sources.formats.torch_dcp import METADATA
from trajsvc.sources.formats.torch_state import TorchFile
from trajsvc.sources.listing.entries import How, Listing, extra_of
from trajsvc.sources.listing.folders import list_file, list_folder, list_glob
from trajsvc.sources.logs.histories import histories_apart
from trajsvc.sources.logs.training_log import training_log
from trajsvc.sources.named import PATHS, Naming
from trajsvc.sources.patterns import StepPattern
from trajsvc.sources.run_names import default_name
from trajsvc.sources.states import wish_of
from trajsvc.steps import select_steps

_MARKERS: Final = ("trainer_state.json", METADATA)
"""Files that are written after the weights: the Trainer's state, and the table of torch.distributed.checkpoint."""
_MAGIC: Final = "*?["


class LocalSource:
    """A ``CheckpointSource`` of a folder, a glob or a file. Nothing outside its root is opened, whatever links say.

    ``spec`` is a folder of checkpoints or of one, a pattern with ``*``, ``?``, ``[…]`` or ``**``, or one file. ``state`` names the
    model to read where there are several, ``step_pattern`` says where the step is in names. ``max_open`` bounds the
    descriptors that are held (half of the process's limit by default). ``naming`` is what files are called: ``spec`` is such a name then.
    Listing reads names only; the result is kept.
    """

    def __init__(
        self,
        spec: str | Path,
        *,
        state: str | None = None,
        step_pattern: StepPattern | None = None,
        max_open: int | None = None,
        naming: Naming = PATHS,
    ) -> None:
        self._naming = naming
        # Links stay as they are.
        self._spec = str(spec) if naming.prefix else os.path.abspath(Path(spec).expanduser())  # noqa: PTH100
        self._root = _root_of(self._spec, naming)
        self._files = Files(_allowed(naming.path(self._root)), max_open, naming)
        self._held: dict[str, TorchFile] = {}
        self._how = How(self._keys, wish_of(state), step_pattern, self._same)

    @property
    def uri(self) -> str:
        return self._spec

    @property
    def remote(self) -> None:
        return None

    @property
    def root(self) -> str:
        """The folder, with its links resolved, that links within it may lead into."""
        return self._files.root

    @property
    def name(self) -> str:
        base = Path(self._naming.path(self._root if self._is_glob else self._spec))
        name = default_name(str(base.with_suffix("") if base.is_file() else base))
        return "-".join((name, *self._how.state))

    def exists(self) -> bool:
        """Return whether there is anything where ``spec`` points; a pattern may match nothing yet."""
        return self._is_glob or os.path.lexists(self._naming.path(self._spec))

    def checkpoints(self, steps: Steps = None) -> tuple[CheckpointRef, ...]:
        """Return the checkpoints that ``steps`` selects, in order of (stage, ingredient, step).

        Raises NotFound (``no-checkpoints``), Refused (``step-conflict``), UnsupportedFormat for a folder in a format
        that is recognised and not read.
        """
        return tuple(self._references[i] for i in select_steps(steps, [c.step for c in self._references]))

    def findings(self) -> tuple[Finding, ...]:
        return (*self._listing.findings, *self._apart)

    def tensors(self, checkpoint: CheckpointRef) -> CheckpointTensors:
        """Read the headers of one checkpoint, with wrappers' prefixes removed from the names.

        Raises Damaged, Refused, NotFound, TryAgain.
        """
        found = self._found(checkpoint.step)
        read = read_checkpoint(self._files, found, self._torch)
        return replace(read, beside=read_beside(self._files, found)) if found.weights.passed_over else read

    def read(self, file: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the bytes of ``file`` from ``offset``, by ``preadv``. Thread-safe. Raises TryAgain (``file-changed``) when the
        file ends before that or is no longer the one that was listed."""
        self._files.read(file, offset, out)

    def read_many(self, wanted: Sequence[ReadRequest], stop: Callable[[], bool] = never) -> None:
        """Read each in turn, until ``stop`` returns True."""
        for want in wanted:
            at = want.offset
            for part in want.parts:
                if stop():
                    return
                if not isinstance(part, int):
                    self._files.read(want.file, at, part)
                at += part if isinstance(part, int) else part.nbytes

    def training_log(self, checkpoints: Sequence[CheckpointRef]) -> TrainingLog:
        """Read the logs in the run's folder (``trajsvc.sources.logs``)."""
        return training_log(self._files, self._root, checkpoints)

    def refresh(self) -> None:
        """Forget what was listed and close what is open: the next ``checkpoints()`` looks again."""
        for kept in ("_listing", "_references", "_apart", "_by_step"):
            self.__dict__.pop(kept, None)
        self._held.clear()
        self._files.forget()

    def unchanged(self, checkpoint: CheckpointRef) -> bool:
        return all(_as_listed(file, self._naming) for file in checkpoint.files)

    def portable(self) -> LocalSource:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # Another process reads the files that were listed here, and notices when they change.
        return _reopened, (self._spec, self._files.expected(), self._naming)

    def close(self) -> None:
        self._files.close()

    @property
    def _is_glob(self) -> bool:
        return not self._naming.prefix and _is_glob(self._spec)

    @cached_property
    def _listing(self) -> Listing:
        if self._is_glob:
            return list_glob(self._spec, self._root, self._how)
        if os.path.isdir(self._naming.path(self._spec)):  # noqa: PTH112
            try:
                return list_folder(self._spec, self._how, self._naming)
            except OSError as error:
                raise error if isinstance(error, TrajsvcError) else failed(self._spec, error) from error
        return list_file(self._spec, self._how, self._naming)

    @cached_property
    def _references(self) -> tuple[CheckpointRef, ...]:
        return tuple(self._reference(found) for found in self._listing.found)

    @cached_property
    def _apart(self) -> tuple[Finding, ...]:
        found = histories_apart(self._files, self._references)
        return () if found is None else (found,)

    @cached_property
    def _by_step(self) -> dict[int, Found]:
        return {found.name.step: found for found in self._listing.found}

    def _found(self, step: int) -> Found:
        if step not in self._by_step:
            raise NotFound("step-not-found", f"{self.uri} has no step {step}", hint="List it again.", step=step)
        return self._by_step[step]

    def _reference(self, found: Found) -> CheckpointRef:
        names = found.weights.files or ("",)
        files = tuple(_file_ref(os.path.join(found.weights.folder, n), self._naming) for n in names)  # noqa: PTH118
        for file in files:
            if file.mtime_ns:
                self._files.expect(file.path, file.size, file.mtime_ns)
        return CheckpointRef(found.name.step, found.name.label, files, found.weights.format, extra_of(found))

    def _keys(self, path: str) -> TorchFile:
        self._held[path] = held = self._held.get(path) or TorchFile(self._files.region(path))
        return held

    def _same(self, one: Found, other: Found) -> bool:
        paths = [[os.path.join(f.weights.folder, n) for n in f.weights.files] for f in (one, other)]  # noqa: PTH118
        try:
            return len(paths[0]) == len(paths[1]) and all(self._files.same(a, b) for a, b in zip(*paths, strict=True))
        except TrajsvcError:
            return False  # reading the checkpoint explains why

    def _torch(self, path: str) -> TorchFile:
        # A file whose keys were read when the run was listed is not read again; one that holds a whole run is kept for all of it.
        held = self._held.get(path) or TorchFile(self._files.region(path))
        if held.members:
            self._held[path] = held
        else:
            self._held.pop(path, None)
        return held


def _reopened(spec: str, expected: dict[str, tuple[int, int]], naming: Naming) -> LocalSource:
    source = LocalSource(spec, naming=naming)
    for path, (size, mtime_ns) in expected.items():
        source._files.expect(path, size, mtime_ns)
    return source


def settled(checkpoint: CheckpointRef, quiet_seconds: float) -> bool:
    """Return whether a checkpoint is written completely, as far as its files show.

    It is if they are as they were listed, and have kept their time for ``quiet_seconds``, or a file that is written
    after the weights is newer than they are.
    """
    if not all(_as_listed(file) for file in checkpoint.files):
        return False
    newest = max(file.mtime_ns for file in checkpoint.files)
    if time.time_ns() - newest >= quiet_seconds * 1e9:
        return True
    folder = os.path.dirname(checkpoint.files[0].path)  # noqa: PTH120
    markers = (_file_ref(os.path.join(folder, name)).mtime_ns for name in _MARKERS)  # noqa: PTH118
    return any(m >= newest for m in markers)


def _file_ref(path: str, naming: Naming = PATHS) -> FileRef:
    """Return a file as it is now; size and time are zero if it cannot be looked at, which opening it will explain."""
    try:
        status = os.stat(naming.path(path))  # noqa: PTH116
    except OSError:
        return FileRef(path, 0)
    return FileRef(path, status.st_size, status.st_mtime_ns)


def _as_listed(file: FileRef, naming: Naming = PATHS) -> bool:
    now = _file_ref(file.path, naming)
    return (now.size, now.mtime_ns) == (file.size, file.mtime_ns) and file.mtime_ns != 0


def _is_glob(spec: str) -> bool:
    return any(c in spec for c in _MAGIC) and not os.path.lexists(spec)


def _root_of(spec: str, naming: Naming) -> str:
    """Return the root of a source: the folder itself, a pattern's parts before the first wildcard, or the folder that a
    file's link leads to.
    """
    if naming.prefix:
        return spec if os.path.isdir(naming.path(spec)) else naming.split(spec)[0]  # noqa: PTH112
    if not _is_glob(spec):
        return spec if os.path.isdir(spec) else os.path.dirname(os.path.realpath(spec))  # noqa: PTH112, PTH120
    parts = Path(spec).parts
    fixed = next(i for i, part in enumerate(parts) if any(c in part for c in _MAGIC))
    return str(Path(*parts[:fixed]))


def _allowed(root: str) -> str:
    """Return the folder that links may lead into: the root, or the Hub's cache of one repository, whose snapshots are
    links to its blobs.
    """
    parent = Path(os.path.realpath(root)).parent
    return str(parent.parent) if parent.name == "snapshots" and (parent.parent / "blobs").is_dir() else root
