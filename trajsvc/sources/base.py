"""The protocol of sources: an ordered list of checkpoints, their tensors, and bytes on request.

A source never loads a checkpoint. ``checkpoints()`` lists, ``tensors()`` reads one checkpoint's headers and says
where every tensor's bytes lie, ``read()`` copies a byte range into the caller's buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from storage_schema.models.results import Finding
from storage_schema.models.training_log import TrainingLog


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
    """Elements [lo, hi) of a flat tensor (C order) that are stored without gaps at ``offset`` of ``file``."""

    lo: int
    hi: int
    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class Scale:
    """The scales that stand beside a tensor of an 8-bit type: their values are in C order without gaps at ``offset`` of ``file``. Scale i
    along an axis multiplies elements [i · block, (i + 1) · block)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """of the same rank as the tensor's"""
    block: tuple[int, ...]
    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the stored bytes of a tensor become values: codes of an 8-bit floating type (``storage_schema.format.float8``), and what they
    are multiplied by."""

    stored: str
    scale: Scale | None = None


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one stored tensor lies.

    ``offset`` is the absolute byte offset in ``file`` of the element with index (0, …, 0). ``strides`` (in elements) is
    None when the elements lie in C order without gaps: then element i is at ``offset + i * itemsize``.
    ``storage`` names the bytes (file and record): two tensors with the same storage, offset, shape and strides are tied.
    ``storage_offset``, ``storage_nbytes`` bound the record in the file, ``crc32`` is the archive's checksum of it.
    ``pieces`` is set when the elements lie in several places (a tensor saved by several ranks): they are in order and cover the
    tensor exactly; ``file`` and ``offset`` are then those of the first, and ``strides`` and ``crc32`` are None.
    With an ``encoding`` ``dtype`` is the type of the values that are read, and an element takes one byte in the file.
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
    encoding: Encoding | None = None

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def stored_type(self) -> str:
        """The type of the bytes in the file."""
        return self.dtype if self.encoding is None else self.encoding.stored

    @property
    def plain(self) -> bool:
        """Whether the stored bytes are those of the values, in C order: in one place, or in ``pieces``."""
        return self.strides is None and self.encoding is None


@dataclass(frozen=True, slots=True)
class CheckpointTensors:
    """The headers of one checkpoint: its tensors by name as a model would name them (prefixes such as ``module.`` removed),
    the model's configuration when it has one, and what was noticed."""

    tensors: Mapping[str, TensorEntry]
    config: Mapping[str, Any] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    """file or tensor → why it was not taken (optimizer state, rng, non-tensor values …)"""
    findings: tuple[Finding, ...] = ()
    state: str = ""
    """the name of the state dict that was read, where the file names it"""
    beside: Mapping[str, Mapping[str, TensorEntry]] = field(default_factory=dict)
    """file → its tensors, of files in the same folder that should hold the same model and were not read"""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One request for consecutive bytes of ``file`` from ``offset`` on: each part is a buffer to fill, or a number of
    bytes to skip.
    """

    file: str
    offset: int
    parts: tuple[memoryview | int, ...]

    @property
    def nbytes(self) -> int:
        return sum(p if isinstance(p, int) else p.nbytes for p in self.parts)


Steps = str | Sequence[int] | None
"""A selection of checkpoints as ``steps.select_steps`` reads it; None: all."""


def never() -> bool:
    """Never cancel."""
    return False


class CheckpointSource(Protocol):
    """Contract of every source (local folder, Hub repository, zarr copy)."""

    @property
    def uri(self) -> str: ...

    @property
    def name(self) -> str:
        """The run's name when the user gives none: the folder's or repository's."""
        ...

    @property
    def remote(self) -> RemoteReading | None:
        """How to read bytes that come over a network; None where they lie on this machine. A run over a network is copied unless told
        otherwise, and read in few, large requests."""
        ...

    def checkpoints(self, steps: Steps = None) -> tuple[CheckpointRef, ...]:
        """List the selected checkpoints in order of their step; look at no more than they need.

        Raises Damaged, Refused, NotFound or UsageError.
        """
        ...

    def findings(self) -> tuple[Finding, ...]:
        """Return what listing noticed: ignored files, growing files, gaps in numbering."""
        ...

    def tensors(self, checkpoint: CheckpointRef) -> CheckpointTensors:
        """Read the headers of one checkpoint; reads no tensor data."""
        ...

    def read(self, file: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the bytes of ``file`` from ``offset``. Thread-safe. A short read is an error."""
        ...

    def read_many(self, wanted: Sequence[ReadRequest], stop: Callable[[], bool] = never) -> None:
        """Fill the buffers of all requests, in any order, several at once where that is faster.

        Returns early when ``stop`` returns True; what was filled is then unknown. Thread-safe. A short read is an
        error.
        """
        ...

    def training_log(self, checkpoints: Sequence[CheckpointRef]) -> TrainingLog:
        """Return what the trainer logged beside these checkpoints: losses, scores, the learning rate; often nothing.

        Never raises.
        """
        ...

    def refresh(self) -> None:
        """Forget what was listed: the next ``checkpoints()`` looks again."""
        ...

    def unchanged(self, checkpoint: CheckpointRef) -> bool:
        """Return whether the checkpoint's files are still those that were listed."""
        ...

    def portable(self) -> CheckpointSource | None:
        """Return a source that can be pickled and reads the same files in another process.

        None if other processes must not read.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class NoSource:
    """The source of a matrix whose values are read from a copy: there is nothing to list or to read."""

    uri: str
    name: str = ""
    remote: RemoteReading | None = None

    def checkpoints(self, steps: Steps = None) -> tuple[CheckpointRef, ...]:
        return ()

    def findings(self) -> tuple[Finding, ...]:
        return ()

    def tensors(self, checkpoint: CheckpointRef) -> CheckpointTensors:
        raise LookupError(self.uri)

    def read(self, file: str, offset: int, out: memoryview) -> None:
        raise LookupError(file)

    def read_many(self, wanted: Sequence[ReadRequest], stop: Callable[[], bool] = never) -> None:
        raise LookupError(self.uri)

    def training_log(self, checkpoints: Sequence[CheckpointRef]) -> TrainingLog:
        return TrainingLog()

    def refresh(self) -> None:
        return None

    def unchanged(self, checkpoint: CheckpointRef) -> bool:
        return True

    def portable(self) -> CheckpointSource | None:
        return self

    def close(self) -> None:
        return None


class Sink(Protocol):
    """Receives the bytes of a request, in order."""

    def room(self) -> memoryview:
        """Return the buffer for the next bytes; not empty while bytes are missing."""
        ...

    def take(self, count: int) -> None:
        """Accept ``count`` bytes that were written into ``room``."""
        ...


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A request for bytes [lo, hi) of ``file`` into ``sink``."""

    file: str
    lo: int
    hi: int
    sink: Sink


@dataclass(frozen=True, slots=True)
class Cache:
    """Disk that a remote source may use: ``room`` bytes in ``folder``."""

    folder: Path
    room: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Counts of requests made, and of the bytes of files that they brought."""

    requests: int
    bytes: int


class RemoteReading(Protocol):
    """The methods that a source whose bytes come over a network has beside those of CheckpointSource."""

    @property
    def cache(self) -> Cache | None: ...

    def fetch(self, requests: Sequence[FetchRequest], stop: Callable[[], bool] = never) -> None:
        """Make all requests, several at once. Thread-safe."""
        ...

    def asked(self) -> Asked:
        """Count the requests to the network so far, and the bytes they brought, without listings."""
        ...

    def outline(self) -> dict[str, Any]:
        """Describe what the source has, before any selection by step: ``found``, ``missing``, ``others``, ``family`` …"""
        ...

    def digest(self, file: str) -> str:
        """Return the digest of the file's bytes: a SHA-256 in hexadecimal, or ``git-`` and the id of a git blob
        (SHA-1).
        """
        ...
