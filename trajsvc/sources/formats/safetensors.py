"""Read safetensors headers strictly: where each tensor's bytes lie, or why the file is damaged.

A file is an 8-byte little-endian length, that many bytes of JSON, and the data. The JSON maps tensor names to
``dtype``, ``shape`` and ``data_offsets`` (begin and end, from the end of the header); ``__metadata__`` holds strings.
Here the tensors must cover the data exactly: no gap, no overlap, nothing after the last.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from trajsvc.errors import DamagedCheckpoint
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.files import Region
from trajsvc.sources.formats.json_file import parse_object
from trajsvc.sources.formats.limits import (
    MAX_EMPTY,
    MAX_HEADER,
    MAX_RANK,
    MAX_TENSORS,
    check_name,
    check_rank,
    too_much,
)
from trajsvc.sources.formats.sniff import refuse_impostors

DTYPES: Final[Mapping[str, tuple[str, int]]] = {
    "F16": ("float16", 2), "BF16": ("bfloat16", 2), "F32": ("float32", 4), "F64": ("float64", 8),
    "I8": ("int8", 1), "I16": ("int16", 2), "I32": ("int32", 4), "I64": ("int64", 8),
    "U8": ("uint8", 1), "U16": ("uint16", 2), "U32": ("uint32", 4), "U64": ("uint64", 8),
    "BOOL": ("bool", 1), "C64": ("complex64", 8), "C128": ("complex128", 16),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1), "F8_E8M0": ("float8_e8m0fnu", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
}  # fmt: skip
"""Spelling in the header → spelling everywhere else, bytes an element."""

# A shape with a zero among its lengths. Bounded, as a repetition that is not possessive takes memory for each; longer shapes are refused.
_EMPTY: Final = re.compile(rb'"shape"\s*+:\s*+\[(?:[\s\d]*+,){0,%d}?\s*+0\s*+[,\]]' % MAX_RANK)
_MAX_QUOTES: Final = 400_000
"""beside the ten of each tensor: those of ``__metadata__``, where trainers keep JSON as a text"""
_KIND: Final = "malformed-safetensors"
_FIELDS: Final = {"dtype", "shape", "data_offsets"}
_AGAIN: Final = (
    "Fetch or copy the file again; if it was written by a program of yours, write it with the safetensors library."
)


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """Tensors in the order of the header, and the strings of ``__metadata__``."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


def read_header(region: Region) -> SafetensorsHeader:
    """Parse and check the header of a safetensors file; reads no tensor data and allocates in proportion to the header alone.

    Limits: header 16 MiB, 100,000 tensors, rank 16, names of 512 bytes. Raises LimitExceeded (``limit-exceeded``) beyond them and
    DamagedCheckpoint (``malformed-safetensors``, ``empty-file``, ``lfs-pointer``, ``html-instead-of-file``), naming file and tensor.
    """
    refuse_impostors(region)
    length = _header_length(region)
    data = 8 + length
    raw = region.bytes(8, length)
    _check_empties(raw, region.path)
    quotes = raw.count(b'"')
    if quotes > 10 * raw.count(b"{") + _MAX_QUOTES:
        raise too_much(region.path, f"{quotes:,} quotation marks", f"{_MAX_QUOTES:,} beside those of its tensors")
    words = parse_object(raw, region.path, _KIND)
    metadata = _metadata(region.path, words.pop("__metadata__", None))
    if len(words) > MAX_TENSORS:
        raise too_much(region.path, f"{len(words):,} tensors", f"{MAX_TENSORS:,}")
    if not words:
        raise _bad(region.path, "it holds no tensors")
    tensors = {name: _entry(region, data, name, words.pop(name)) for name in list(words)}
    _check_layout(region, data, tensors)
    return SafetensorsHeader(tensors, metadata)


def _check_empties(raw: bytes, path: str) -> None:
    """Raise LimitExceeded for more tensors without elements than a checkpoint has, before anything is made of them."""
    empty = sum(1 for _ in islice(_EMPTY.finditer(raw), MAX_EMPTY + 1))
    if empty > MAX_EMPTY:
        raise too_much(path, f"more than {MAX_EMPTY:,} tensors without elements", f"{MAX_EMPTY:,}")


def _bad(path: str, what: str, tensor: str | None = None) -> DamagedCheckpoint:
    about = f"tensor {tensor[:200]!r} " if tensor is not None else ""
    tensor = tensor and tensor[:200]
    return DamagedCheckpoint(_KIND, f"{path}: {about}{what}", hint=_AGAIN, file=path, tensor=tensor)


def _header_length(region: Region) -> int:
    if region.size < 8:
        raise _bad(region.path, f"it has {region.size} bytes, too few for a header")
    (length,) = struct.unpack("<Q", region.bytes(0, 8))
    if length > region.size - 8:
        raise _bad(region.path, f"it ends within its header, which says that it is {length:,} bytes long")
    if length > MAX_HEADER:
        raise too_much(region.path, f"a header of {length:,} bytes", f"{MAX_HEADER:,}")
    if length == 0:
        raise _bad(region.path, "its header is empty")
    return int(length)


def _metadata(path: str, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _bad(path, "its __metadata__ is not an object of strings")
    return value


def _integers(value: object) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _entry(region: Region, data: int, name: str, value: object) -> TensorEntry:
    path = region.path
    check_name(path, name)
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise _bad(path, "is not described by dtype, shape and data_offsets", name)
    if not isinstance(value["dtype"], str) or value["dtype"] not in DTYPES:
        raise _bad(path, f"has the unknown dtype {str(value['dtype'])[:40]!r}", name)
    dtype, itemsize = DTYPES[value["dtype"]]
    if not _integers(value["shape"]):
        raise _bad(
            path, f"has the shape {str(value['shape'])[:60]}, which is not a list of non-negative integers", name
        )
    shape = tuple(value["shape"])
    check_rank(path, name, shape)
    offsets = value["data_offsets"]
    if not _integers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(path, f"has the data_offsets {str(offsets)[:60]}, which are not a begin and an end", name)
    begin, end = offsets
    if data + end > region.size:
        raise _bad(path, f"ends at byte {data + end:,}, but the file has {region.size:,}: it was cut short", name)
    entry = TensorEntry(name, dtype, shape, path, data + begin, storage_offset=data + begin, storage_nbytes=end - begin)
    if entry.size * itemsize != end - begin:
        raise _bad(
            path,
            f"of shape {list(shape)} and dtype {dtype} needs {entry.size * itemsize:,} bytes, not {end - begin:,}",
            name,
        )
    return entry


def _check_layout(region: Region, data: int, tensors: Mapping[str, TensorEntry]) -> None:
    # Tensors without elements occupy nothing and may lie anywhere: they share offsets with others.
    position = data
    for entry in sorted((e for e in tensors.values() if e.size), key=lambda e: e.offset):
        if entry.offset < position:
            raise _bad(
                region.path,
                f"begins at byte {entry.offset:,}, within another tensor, which ends at {position:,}",
                entry.name,
            )
        if entry.offset > position:
            raise _bad(
                region.path,
                f"begins at byte {entry.offset:,}; nothing describes the bytes from {position:,}",
                entry.name,
            )
        position += entry.storage_nbytes
    if position != region.size:
        raise _bad(region.path, f"its tensors end at byte {position:,}, but the file has {region.size:,}")
