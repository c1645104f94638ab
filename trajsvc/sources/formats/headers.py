"""The headers of one checkpoint, whatever its format and wherever its files lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from storage_schema.models.results import Finding
from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import CheckpointTensors, TensorEntry
from trajsvc.sources.files import Region
from trajsvc.sources.formats.json_file import read_object
from trajsvc.sources.formats.layout import Found, Weights
from trajsvc.sources.formats.safetensors import read_header
from trajsvc.sources.formats.shards import SHARD, complete_set, merge, missing_shard, read_index, stale_shards
from trajsvc.sources.formats.torch_dcp import METADATA, read_dcp
from trajsvc.sources.formats.torch_state import TorchFile, read_torch, under
from trajsvc.sources.tensor_names import strip_wrappers

CONFIG: Final = "config.json"
_PARTS: Final = {"complex64": "float32", "complex128": "float64"}
"""Complex types and the type of their parts."""

Tensors = dict[str, TensorEntry]


class FileAccess(Protocol):
    """Files by path, whose parts are read as regions."""

    def region(self, path: str) -> Region: ...
    def exists(self, path: str) -> bool: ...


@dataclass
class _Read:
    tensors: Tensors
    left_out: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    lightning: bool = False
    state: str = ""


def read_checkpoint(
    files: FileAccess, found: Found, torch: Callable[[str], TorchFile] | None = None
) -> CheckpointTensors:
    """Read the headers of the checkpoint ``found``, with wrappers' prefixes removed from the names.

    ``torch`` reads a torch file, for a caller that caches some. Raises Damaged, Refused, NotFound, TryAgain; each names
    the step.
    """
    if found.problem is not None:
        raise found.problem
    step = found.name.step
    try:
        read = _read(files, found, torch or (lambda path: TorchFile(files.region(path))))
    except TrajsvcError as error:
        raise error.about(step=step) from None
    first = f"{found.weights.folder}/{found.weights.files[0]}"
    names = strip_wrappers(list(read.tensors), lightning=read.lightning, file=first)
    config, problems = _config(files, found.config_folders)
    noted = (f.model_copy(update={"steps": (step,)}) for f in (*read.findings, *problems))
    tensors = {names[n]: _as_real(e) for n, e in read.tensors.items()}
    return CheckpointTensors(tensors, config, read.left_out, tuple(noted), read.state)


def read_beside(
    files: FileAccess, found: Found, torch: Callable[[str], TorchFile] | None = None
) -> dict[str, Mapping[str, TensorEntry]]:
    """Read the headers of the files that were passed over: another format or precision of the model.

    Those that cannot be read are left out.
    """
    groups: dict[str, list[str]] = {}
    for name in found.weights.passed_over:
        shard = SHARD.fullmatch(name)
        groups.setdefault(f"{shard[1]}-*{shard[4]}" if shard else name, []).append(name)
    beside: dict[str, Mapping[str, TensorEntry]] = {}
    for label, names in groups.items():
        form = "safetensors" if names[0].endswith(".safetensors") else "torch-zip"
        form = f"{form}-sharded" if SHARD.fullmatch(names[0]) else form
        one = replace(found, weights=Weights(found.weights.folder, tuple(sorted(names)), form), inside=())
        try:
            beside[label] = read_checkpoint(files, one, torch).tensors
        except TrajsvcError:
            continue
    return beside


def _as_real(entry: TensorEntry) -> TensorEntry:
    """Return a complex tensor as its real and imaginary parts, which are its bytes: a last axis of two."""
    real = _PARTS.get(entry.dtype)
    if real is None:
        return entry
    strides = entry.strides and (*(2 * s for s in entry.strides), 1)
    pieces = entry.pieces and tuple(replace(p, lo=2 * p.lo, hi=2 * p.hi) for p in entry.pieces)
    return replace(entry, dtype=real, shape=(*entry.shape, 2), strides=strides, pieces=pieces)


def _read(files: FileAccess, found: Found, torch: Callable[[str], TorchFile]) -> _Read:
    weights = found.weights
    folder, wish = weights.folder, weights.wish
    path = f"{folder}/{weights.files[0]}"
    if weights.format == "torch-zip":
        header = torch(path).header(wish, found.inside)
        return _Read(header.tensors, header.left_out, header.findings, header.lightning, header.state)
    if weights.format == "distcp":
        region = files.region(f"{folder}/{METADATA}")
        tensors, left_out, findings = read_dcp(region, lambda n: _shard(files, folder, n), wish)
        return _Read(tensors, left_out, findings)
    if weights.format.endswith("-sharded"):
        read = _sharded(files, folder, weights.files, weights.format)
    else:
        read = _Read(_safetensors(files.region(path)))
    return replace(read, tensors=under(path, read.tensors, wish)) if wish else read


def _sharded(files: FileAccess, folder: str, names: Sequence[str], form: str) -> _Read:
    index = None
    if names[0].endswith(".index.json"):
        index = read_index(files.region(f"{folder}/{names[0]}"))
        used = list(dict.fromkeys(index.values()))
    else:
        used = complete_set(names, folder)
    tensors_of: Callable[[Region], Mapping[str, TensorEntry]] = (
        _safetensors if form.startswith("safetensors") else lambda region: read_torch(region).tensors
    )
    shards = {}
    for shard in used:
        first = next((t for t, s in (index or {}).items() if s == shard), None)
        shards[shard] = tensors_of(_shard(files, folder, shard, first))
    tensors, left_out = merge(index, shards, lambda shard: f"{folder}/{shard}")
    return _Read(tensors, left_out, stale_shards(names, used, folder))


def _shard(files: FileAccess, folder: str, name: str, tensor: str | None = None) -> Region:
    path = f"{folder}/{name}"
    if not files.exists(path):
        raise missing_shard(path, tensor=tensor)
    return files.region(path)


def _safetensors(region: Region) -> Tensors:
    return read_header(region).tensors


def _config(files: FileAccess, folders: Sequence[str]) -> tuple[dict[str, Any] | None, tuple[Finding, ...]]:
    for folder in dict.fromkeys(folders):
        path = f"{folder}/{CONFIG}"
        if files.exists(path):
            try:
                return read_object(files.region(path), "bad-config"), ()
            except TrajsvcError as error:
                return None, (Finding(kind="bad-config", message=f"{error.message}; it is left out"),)
    return None, ()
