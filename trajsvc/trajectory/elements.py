"""Elements of a stored tensor in C order, whatever its layout in the file: where their bytes lie, and how they are
converted.

For a plain tensor the bytes of its ``places`` are the elements. For others they are raw: the bytes that a tensor with
strides spans, or codes of an 8-bit type and the scales after them. ``delivered`` converts raw bytes to elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from storage_schema.format.float8 import POWERS, table
from trajsvc.sources.base import CheckpointSource, Scale, TensorEntry

CHUNK: Final = 2**15
"""Codes that are decoded at once: what is made on the way stays in the cache, and out of the memory budget."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stretch of a tensor's elements lies: bytes [lo, hi) of a file, which belong at ``at`` of the wanted bytes."""

    file: str
    lo: int
    hi: int
    at: int


def places(entry: TensorEntry, lo: int, hi: int) -> list[Place]:
    """Return the places of all bytes read for elements [lo, hi) of a tensor; for one with strides, all that it spans."""
    found = element_places(entry, lo, hi)
    scale = None if entry.encoding is None else entry.encoding.scale
    return found if scale is None else [*found, scale_place(entry, scale, lo, hi)]


def element_places(entry: TensorEntry, lo: int, hi: int) -> list[Place]:
    """Return ``places`` without those of scales."""
    item = stored_itemsize(entry)
    if entry.pieces is not None:
        cut = ((p, max(lo, p.lo), min(hi, p.hi)) for p in entry.pieces)
        return [
            Place(p.file, p.offset + (a - p.lo) * item, p.offset + (b - p.lo) * item, (a - lo) * item)
            for p, a, b in cut
            if a < b
        ]
    if entry.strides is None:
        return [Place(entry.file, entry.offset + lo * item, entry.offset + hi * item, 0)]
    return [Place(entry.file, entry.offset, entry.offset + _strided_bytes(entry), 0)]


def scale_place(entry: TensorEntry, scale: Scale, lo: int, hi: int) -> Place:
    """Return the place of the scales of elements [lo, hi): those of the rows that they are in."""
    first, count = _scale_rows(entry, scale, lo, hi)
    row = prod(scale.shape[1:]) * _scale_itemsize(scale)
    begin = scale.offset + first * row
    return Place(scale.file, begin, begin + count * row, _element_bytes(entry, lo, hi))


def stored_itemsize(entry: TensorEntry) -> int:
    """Return the bytes of an element in the file."""
    return ITEMSIZE[entry.dtype] if entry.encoding is None else 1


def raw_bytes(entry: TensorEntry, lo: int, hi: int) -> int:
    """Return the total bytes of the ``places`` of elements [lo, hi)."""
    size = _element_bytes(entry, lo, hi)
    if entry.encoding is None or entry.encoding.scale is None:
        return size
    place = scale_place(entry, entry.encoding.scale, lo, hi)
    return size + place.hi - place.lo


def read_elements(source: CheckpointSource, entry: TensorEntry, lo: int, hi: int, out: memoryview) -> int | None:
    """Read elements [lo, hi) of a tensor in C order, whatever its layout in the file. Return ``codes_crc`` of them."""
    if entry.plain and entry.pieces is None:  # nearly all: a run has tens of thousands of such reads
        source.read(entry.file, entry.offset + lo * ITEMSIZE[entry.dtype], out)
        return None
    raw = out if entry.plain else np.empty(raw_bytes(entry, lo, hi), np.uint8).data
    for place in places(entry, lo, hi):
        source.read(place.file, place.lo, raw[place.at : place.at + place.hi - place.lo])
    if entry.plain:
        return None
    stored = np.frombuffer(raw, np.uint8)
    out[:] = delivered(entry, stored, lo, hi)
    return codes_crc(entry, stored, lo, hi)


def whole_record(entry: TensorEntry) -> bool:
    """Return whether the archive's checksum covers exactly this tensor's elements, or their codes, in order."""
    return (
        entry.crc32 is not None
        and entry.strides is None
        and entry.pieces is None
        and entry.offset == entry.storage_offset
        and entry.size * stored_itemsize(entry) == entry.storage_nbytes
    )


def codes_crc(entry: TensorEntry, raw: NDArray[np.uint8], lo: int, hi: int) -> int | None:
    """Return the CRC-32 of the codes of elements [lo, hi) among the bytes of their ``places``.

    None for a tensor that is not of codes, or of which the archive keeps no checksum.
    """
    if entry.encoding is None or not whole_record(entry):
        return None
    return isal_zlib.crc32(raw[: hi - lo])


def delivered(entry: TensorEntry, raw: NDArray[np.uint8], lo: int, hi: int) -> memoryview:
    """Return elements [lo, hi) in C order, from the bytes of their ``places``."""
    count = _element_bytes(entry, lo, hi)
    stored = raw[:count] if entry.strides is None else _gathered(entry, raw[:count], lo, hi)
    if entry.encoding is None:
        return stored.data
    out = np.empty(hi - lo, f"<f{ITEMSIZE[entry.dtype]}")
    scale, values = entry.encoding.scale, table(entry.encoding.stored)
    factors = None if scale is None else _factors(scale, raw[count:])
    with np.errstate(all="ignore"):
        for at in range(0, hi - lo, CHUNK):
            found = values[stored[at : at + CHUNK]]
            if scale is not None and factors is not None:
                found = found * factors[_scale_index(entry, scale, lo, lo + at, len(found))]
            out[at : at + len(found)] = found
    return out.view(np.uint8).data


def _element_bytes(entry: TensorEntry, lo: int, hi: int) -> int:
    return (hi - lo) * stored_itemsize(entry) if entry.strides is None else _strided_bytes(entry)


def _strided_bytes(entry: TensorEntry) -> int:
    """Return the bytes from the first to the last element of a tensor with strides."""
    last = sum((d - 1) * s for d, s in zip(entry.shape, entry.strides or (), strict=True))
    return (1 + last) * stored_itemsize(entry)


def _gathered(entry: TensorEntry, raw: NDArray[np.uint8], lo: int, hi: int) -> NDArray[np.uint8]:
    """Gather elements [lo, hi) in C order of a tensor with strides, from the bytes that it spans."""
    item = stored_itemsize(entry)
    strides = [s * item for s in entry.strides or ()]
    view = np.lib.stride_tricks.as_strided(raw.view(f"u{item}"), entry.shape, strides, writeable=False)
    return np.ascontiguousarray(view).reshape(-1)[lo:hi].view(np.uint8)


def _scale_itemsize(scale: Scale) -> int:
    return 1 if scale.dtype == POWERS else ITEMSIZE[scale.dtype]


def _scale_rows(entry: TensorEntry, scale: Scale, lo: int, hi: int) -> tuple[int, int]:
    """Return the first of the scales along the first axis that elements [lo, hi) need, and how many."""
    row = prod(entry.shape[1:]) * scale.block[0]
    first = lo // row
    return first, max(0, -(-hi // row) - first)


def _factors(scale: Scale, raw: NDArray[np.uint8]) -> NDArray[np.float64]:
    if scale.dtype == POWERS:
        return table(POWERS)[raw]
    if scale.dtype == "bfloat16":
        bits = raw.view("<u2").astype("<u4") << 16
        return bits.view("<f4").astype(np.float64)
    return raw.view(f"<f{ITEMSIZE[scale.dtype]}").astype(np.float64)


def _scale_index(entry: TensorEntry, scale: Scale, lo: int, begin: int, count: int) -> NDArray[np.int64]:
    """Return, for elements [begin, begin + count), the index of their scale among those of ``scale_place`` for elements
    from ``lo`` on.
    """
    rest = np.arange(begin, begin + count, dtype=np.int64)
    index = np.zeros(count, np.int64)
    for axis, block in enumerate(scale.block):
        size, along = prod(entry.shape[axis + 1 :]), prod(scale.shape[axis + 1 :])
        if scale.shape[axis] > 1:
            index += rest // size // block * along
        rest %= size
    return index - _scale_rows(entry, scale, lo, lo)[0] * prod(scale.shape[1:])
