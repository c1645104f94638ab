"""Write tensors as safetensors files, in shards with an index where they are large, as transformers writes them.

The sizes are known before the values: headers are written first, then every tensor's bytes where they belong, in any number of pieces.
The format: 8 bytes of the header's length (little-endian), the header as JSON, padded with spaces to a multiple of 8, the tensors' bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage_schema.files.durable import sync_dir, write_all
from trajsvc.errors import Refused
from trajsvc.sources.formats.safetensors import DTYPES

SHARD: Final = 5 * 10**9
"""bytes of a file of weights at most, unless one tensor is larger"""
WEIGHTS: Final = "model.safetensors"
_SPELT: Final = {name: code for code, (name, _) in DTYPES.items()}
ITEM: Final = dict(DTYPES.values())
"""stored type → bytes of an element"""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * ITEM[self.dtype]


class CheckpointWriter:
    """Files of weights below ``folder``, open for writing: whoever writes them maps an OSError (``writing_result``).

    Raises Refused (``unsupported-tensor``) for a type that has no spelling.
    """

    def __init__(self, folder: Path, tensors: Sequence[TensorSpec], shard: int = SHARD) -> None:
        for tensor in tensors:
            if tensor.dtype not in _SPELT:
                words = f"safetensors has no type {tensor.dtype}"
                raise Refused(
                    "unsupported-tensor", words, hint="Leave the tensor out with --exclude.", tensor=tensor.name
                )
        self.folder = folder
        self._places: dict[str, tuple[int, int]] = {}
        self._open: list[int] = []
        self.files = self._lay_out(_shards(tensors, shard))

    def _lay_out(self, shards: Sequence[Sequence[TensorSpec]]) -> tuple[str, ...]:
        names = [WEIGHTS] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
        for name, tensors in zip(names, shards, strict=True):
            fd = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            self._open.append(fd)
            header, offsets = _header(tensors)
            write_all(fd, header, 0)
            self._places |= {t.name: (fd, len(header) + at) for t, at in zip(tensors, offsets, strict=True)}
            os.posix_fallocate(fd, 0, len(header) + sum(t.nbytes for t in tensors))
        if len(shards) > 1:
            self._write_index(dict(zip(names, shards, strict=True)))
        return tuple(names)

    def _write_index(self, shards: Mapping[str, Sequence[TensorSpec]]) -> None:
        total = sum(t.nbytes for tensors in shards.values() for t in tensors)
        where = {t.name: name for name, tensors in shards.items() for t in tensors}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        (self.folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")

    def write(self, tensor: str, at: int, data: bytes | memoryview) -> None:
        """Write bytes of a tensor from byte ``at`` of it on."""
        fd, begin = self._places[tensor]
        write_all(fd, data, begin + at)

    def finish(self) -> None:
        """Make everything durable and close the files."""
        for fd in self._open:
            os.fsync(fd)
        sync_dir(self.folder)
        self.close()

    def close(self) -> None:
        """Close the files."""
        while self._open:
            os.close(self._open.pop())


def _shards(tensors: Sequence[TensorSpec], most: int) -> list[list[TensorSpec]]:
    """Put tensors into files of at most ``most`` bytes, in order."""
    found: list[list[TensorSpec]] = [[]]
    filled = 0
    for tensor in tensors:
        if found[-1] and filled + tensor.nbytes > most:
            found.append([])
            filled = 0
        found[-1].append(tensor)
        filled += tensor.nbytes
    return found


def _shard_name(number: int, count: int) -> str:
    return f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _header(tensors: Sequence[TensorSpec]) -> tuple[bytes, list[int]]:
    """Return a file's header, with its length, and where every tensor begins after it."""
    at, offsets = 0, []
    facts: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for tensor in tensors:
        facts[tensor.name] = {
            "dtype": _SPELT[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes],
        }  # fmt: skip
        offsets.append(at)
        at += tensor.nbytes
    text = json.dumps(facts, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets
