"""What a source of checkpoints is: an ordered list of checkpoints, their tensors, and bytes on request.

A source never loads a checkpoint. ``checkpoints()`` lists, ``tensors()`` reads one checkpoint's headers and says
where every tensor's bytes lie, ``read()`` copies a byte range into the caller's buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from storage_schema.wire import Finding


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of a checkpoint as it was when listed; ``path`` is what ``read`` takes."""

    path: str
    size: int
    mtime_ns: int = 0
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """One checkpoint of a run: its number, the name it had, and its files."""

    step: int
    label: str
    files: tuple[FileRef, ...]
    format: str
    """``safetensors``, ``torch-zip``, ``safetensors-sharded``, ``torch-zip-sharded``, ``distcp``"""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the name or keys said: ``epoch``, ``tokens``, ``stage`` …"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a tensor's elements that lies by itself: elements [lo, hi) of the flat tensor (C order) at ``offset`` of ``file``,
    without gaps."""

    lo: int
    hi: int
    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one stored tensor lies.

    ``offset`` is the absolute byte offset in ``file`` of the element with index (0, …, 0). ``strides`` (in elements) is
    None when the elements lie in C order without gaps: then element i is at ``offset + i * itemsize``.
    ``storage`` names the bytes (file and record): two tensors with the same storage, offset, shape and strides are tied.
    ``storage_offset``, ``storage_nbytes`` bound the record in the file, ``crc32`` is the archive's checksum of it.
    ``pieces`` is set when the elements lie in several places (a tensor saved by several ranks): they are in order and cover the
    tensor exactly; ``file`` and ``offset`` are then those of the first, and ``strides`` and ``crc32`` are None.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    strides: tuple[int, ...] | None = None
    storage: str | None = None
    storage_offset: int = 0
    storage_nbytes: int = 0
    crc32: int | None = None
    pieces: tuple[Piece, ...] | None = None

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n


@dataclass(frozen=True, slots=True)
class CheckpointTensors:
    """The headers of one checkpoint: its tensors by name as a model would name them (prefixes such as ``module.`` removed),
    the model's configuration when it has one, and what was noticed."""

    tensors: Mapping[str, TensorEntry]
    config: Mapping[str, Any] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    """file or tensor → why it was not taken (optimizer state, rng, non-tensor values …)"""
    findings: tuple[Finding, ...] = ()


class CheckpointSource(Protocol):
    """Contract of every source (local folder, Hub repository, zarr copy)."""

    @property
    def uri(self) -> str: ...

    @property
    def name(self) -> str:
        """The run's name when the user gives none: the folder's or repository's."""
        ...

    def checkpoints(self) -> tuple[CheckpointRef, ...]:
        """All checkpoints in order of their step. Raises Damaged, Refused or NotFound."""
        ...

    def findings(self) -> tuple[Finding, ...]:
        """What listing noticed: ignored files, growing files, gaps in numbering."""
        ...

    def tensors(self, checkpoint: CheckpointRef) -> CheckpointTensors:
        """Headers of one checkpoint; reads no tensor data."""
        ...

    def read(self, file: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the bytes of ``file`` from ``offset``. Thread-safe. A short read is an error."""
        ...

    def refresh(self) -> None:
        """Forget what was listed: the next ``checkpoints()`` looks again."""
        ...

    def unchanged(self, checkpoint: CheckpointRef) -> bool:
        """Whether the checkpoint's files are still those that were listed."""
        ...

    def close(self) -> None: ...
