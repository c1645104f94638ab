"""Checkpoints in a local folder: lists them by name, reads headers on demand, copies byte ranges.

Formats may differ from step to step of one run. Each has its module (``safetensors``, ``torch_zip``, ``shards``, ``dcp``); how folders
are recognised is in ``listing`` and ``layout``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from storage_schema.wire import Finding
from trajsvc.errors import NotFound, TrajsvcError
from trajsvc.sources.base import CheckpointRef, CheckpointTensors, FileRef, TensorEntry
from trajsvc.sources.dcp import METADATA, read_dcp
from trajsvc.sources.files import Files, Region, failed
from trajsvc.sources.jsonfile import read_object
from trajsvc.sources.listing import Found, Listing, list_file, list_folder, list_glob
from trajsvc.sources.names import strip_wrappers
from trajsvc.sources.safetensors import read_header
from trajsvc.sources.shards import complete_set, merge, missing_shard, read_index, stale_shards
from trajsvc.sources.torch_state import TorchHeader, read_torch

CONFIG: Final = "config.json"
_MARKERS: Final = ("trainer_state.json", METADATA)
"""Files that are written after the weights: the Trainer's state, and the table of torch.distributed.checkpoint."""
_MAGIC: Final = "*?["

Tensors = dict[str, TensorEntry]


class LocalSource:
    """A ``CheckpointSource`` of a folder, a glob or a file. Nothing outside its root is opened, whatever links say.

    ``spec`` is a folder of checkpoints or of one, a pattern with ``*``, ``?``, ``[…]`` or ``**``, or one file. ``max_open`` bounds the
    descriptors that are held (half of the process's limit by default). Listing reads names only; the result is kept.
    """

    def __init__(self, spec: str | Path, *, max_open: int | None = None) -> None:
        self._spec = os.path.abspath(Path(spec).expanduser())  # noqa: PTH100 (links stay as they are)
        self._root = _root_of(self._spec)
        self._files = Files(_allowed(self._root), max_open)
        self._headers: dict[str, TorchHeader] = {}

    @property
    def uri(self) -> str:
        return self._spec

    @property
    def name(self) -> str:
        base = Path(self._root if _is_glob(self._spec) else self._spec)
        return (base.stem if base.is_file() else base.name) or "run"

    def exists(self) -> bool:
        """Whether there is anything where ``spec`` points; a pattern may meet nothing yet."""
        return _is_glob(self._spec) or os.path.lexists(self._spec)

    def checkpoints(self) -> tuple[CheckpointRef, ...]:
        """All checkpoints in order of (stage, ingredient, step). Raises NotFound (``no-checkpoints``), Refused (``step-conflict``),
        UnsupportedFormat for a folder in a format that is recognised and not read."""
        return self._references

    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._listing.findings)

    def tensors(self, checkpoint: CheckpointRef) -> CheckpointTensors:
        """Headers of one checkpoint, wrappers' prefixes removed from the names. Raises Damaged, Refused, NotFound, TryAgain."""
        found = self._found(checkpoint.step)
        if found.problem is not None:
            raise found.problem
        try:
            tensors, left_out, findings, lightning = self._read(found)
        except TrajsvcError as error:
            raise error.about(step=checkpoint.step) from None
        names = strip_wrappers(list(tensors), lightning=lightning, file=checkpoint.files[0].path)
        config, problems = self._config(found)
        noted = (f.model_copy(update={"steps": (checkpoint.step,)}) for f in (*findings, *problems))
        return CheckpointTensors({names[n]: e for n, e in tensors.items()}, config, left_out, tuple(noted))

    def read(self, file: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the bytes of ``file`` from ``offset``, by ``preadv``. Thread-safe. Raises TryAgain (``file-changed``) when the
        file ends before that or is no longer the one that was listed."""
        self._files.read(file, offset, out)

    def refresh(self) -> None:
        """Forget what was listed and close what is open: the next ``checkpoints()`` looks again."""
        for kept in ("_listing", "_references", "_by_step"):
            self.__dict__.pop(kept, None)
        self._headers.clear()
        self._files.forget()

    def unchanged(self, checkpoint: CheckpointRef) -> bool:
        return all(_as_listed(file) for file in checkpoint.files)

    def close(self) -> None:
        self._files.close()

    @cached_property
    def _listing(self) -> Listing:
        if _is_glob(self._spec):
            return list_glob(self._spec, self._root, self._step_in_keys)
        if os.path.isdir(self._spec):  # noqa: PTH112
            try:
                return list_folder(self._spec, self._step_in_keys)
            except OSError as error:
                raise error if isinstance(error, TrajsvcError) else failed(self._spec, error) from error
        return list_file(self._spec, self._step_in_keys)

    @cached_property
    def _references(self) -> tuple[CheckpointRef, ...]:
        return tuple(self._reference(found) for found in self._listing.found)

    @cached_property
    def _by_step(self) -> dict[int, Found]:
        return {found.name.step: found for found in self._listing.found}

    def _found(self, step: int) -> Found:
        if step not in self._by_step:
            raise NotFound("step-not-found", f"{self.uri} has no step {step}", hint="List it again.", step=step)
        return self._by_step[step]

    def _reference(self, found: Found) -> CheckpointRef:
        names = found.weights.files or ("",)
        files = tuple(_file_ref(os.path.join(found.weights.folder, n)) for n in names)  # noqa: PTH118
        for file in files:
            if file.mtime_ns:
                self._files.expect(file.path, file.size, file.mtime_ns)
        return CheckpointRef(found.name.step, found.name.label, files, found.weights.format, dict(found.name.extra))

    def _read(self, found: Found) -> tuple[Tensors, dict[str, str], tuple[Finding, ...], bool]:
        """Tensors by stored name, what was left out, findings, and whether Lightning wrote the file."""
        weights = found.weights
        folder = weights.folder
        if weights.format == "distcp":
            tensors, left_out = read_dcp(self._files.region(f"{folder}/{METADATA}"), lambda n: self._shard(folder, n))
            return tensors, left_out, (), False
        if weights.format.endswith("-sharded"):
            tensors, left_out, findings = self._sharded(folder, weights.files, weights.format)
            return tensors, left_out, findings, False
        path = f"{folder}/{weights.files[0]}"
        if weights.format == "safetensors":
            return _safetensors(self._files.region(path)), {}, (), False
        header = self._torch(path)
        return header.tensors, header.left_out, (), header.lightning

    def _sharded(
        self, folder: str, names: tuple[str, ...], form: str
    ) -> tuple[Tensors, dict[str, str], tuple[Finding, ...]]:
        index = None
        if names[0].endswith(".index.json"):
            index = read_index(self._files.region(f"{folder}/{names[0]}"))
            used = list(dict.fromkeys(index.values()))
        else:
            used = complete_set(names, folder)
        tensors_of: Callable[[Region], Mapping[str, TensorEntry]] = (
            _safetensors if form.startswith("safetensors") else lambda region: read_torch(region).tensors
        )
        shards = {}
        for shard in used:
            first = next((t for t, s in (index or {}).items() if s == shard), None)
            shards[shard] = tensors_of(self._shard(folder, shard, first))
        tensors, left_out = merge(index, shards, lambda shard: f"{folder}/{shard}")
        return tensors, left_out, stale_shards(names, used, folder)

    def _shard(self, folder: str, name: str, tensor: str | None = None) -> Region:
        path = f"{folder}/{name}"
        if not os.path.lexists(path):
            raise missing_shard(path, tensor=tensor)
        return self._files.region(path)

    def _torch(self, path: str) -> TorchHeader:
        # A file whose keys were read for its step when the run was listed is not read again.
        return self._headers.pop(path, None) or read_torch(self._files.region(path))

    def _step_in_keys(self, path: str) -> int | None:
        self._headers[path] = header = read_torch(self._files.region(path))
        return header.step

    def _config(self, found: Found) -> tuple[dict[str, Any] | None, tuple[Finding, ...]]:
        for folder in dict.fromkeys(found.config_folders):
            path = f"{folder}/{CONFIG}"
            if os.path.lexists(path):
                try:
                    return read_object(self._files.region(path), "bad-config"), ()
                except TrajsvcError as error:
                    return None, (Finding(kind="bad-config", message=f"{error.message}; it is left out"),)
        return None, ()


def _safetensors(region: Region) -> Tensors:
    return read_header(region).tensors


def settled(checkpoint: CheckpointRef, quiet_seconds: float) -> bool:
    """Whether a checkpoint is written completely, as far as its files show: they are as they were listed, and have kept their time for
    ``quiet_seconds``, or a file that is written after the weights is newer than they are."""
    if not all(_as_listed(file) for file in checkpoint.files):
        return False
    newest = max(file.mtime_ns for file in checkpoint.files)
    if time.time_ns() - newest >= quiet_seconds * 1e9:
        return True
    folder = os.path.dirname(checkpoint.files[0].path)  # noqa: PTH120
    markers = (_file_ref(os.path.join(folder, name)).mtime_ns for name in _MARKERS)  # noqa: PTH118
    return any(m >= newest for m in markers)


def _file_ref(path: str) -> FileRef:
    """A file as it is now; size and time are zero for one that cannot be looked at, which opening it will explain."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return FileRef(path, 0)
    return FileRef(path, status.st_size, status.st_mtime_ns)


def _as_listed(file: FileRef) -> bool:
    now = _file_ref(file.path)
    return (now.size, now.mtime_ns) == (file.size, file.mtime_ns) and file.mtime_ns != 0


def _is_glob(spec: str) -> bool:
    return any(c in spec for c in _MAGIC) and not os.path.lexists(spec)


def _root_of(spec: str) -> str:
    """The folder itself; a pattern's parts before the first wildcard; the folder that a file's link leads to."""
    if not _is_glob(spec):
        return spec if os.path.isdir(spec) else os.path.dirname(os.path.realpath(spec))  # noqa: PTH112, PTH120
    parts = Path(spec).parts
    fixed = next(i for i, part in enumerate(parts) if any(c in part for c in _MAGIC))
    return str(Path(*parts[:fixed]))


def _allowed(root: str) -> str:
    """Where links may lead: into the root, or within the Hub's cache of one repository, whose snapshots are links to its blobs."""
    parent = Path(os.path.realpath(root)).parent
    return str(parent.parent) if parent.name == "snapshots" and (parent.parent / "blobs").is_dir() else root
