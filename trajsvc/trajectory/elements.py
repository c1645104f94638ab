"""Elements of a stored tensor in C order, whatever its layout in the file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.sources.base import CheckpointSource, Piece, TensorEntry


def read_elements(source: CheckpointSource, entry: TensorEntry, lo: int, hi: int, out: memoryview) -> None:
    """Elements [lo, hi) of a tensor in C order, whatever its layout in the file."""
    item = ITEMSIZE[entry.dtype]
    if entry.pieces is not None:
        _read_pieces(source, entry.pieces, item, lo, hi, out)
    elif entry.strides is None:
        source.read(entry.file, entry.offset + lo * item, out)
    else:
        raw = np.empty(strided_bytes(entry), np.uint8)
        source.read(entry.file, entry.offset, raw.data)
        out[:] = gathered(entry, raw, lo, hi)


def strided_bytes(entry: TensorEntry) -> int:
    """Bytes from the first to the last element of a tensor with strides."""
    return (1 + sum((d - 1) * s for d, s in zip(entry.shape, entry.strides or (), strict=True))) * ITEMSIZE[entry.dtype]


def gathered(entry: TensorEntry, raw: NDArray[np.uint8], lo: int, hi: int) -> memoryview:
    """Elements [lo, hi) in C order of a tensor with strides, from the bytes that it spans."""
    item = ITEMSIZE[entry.dtype]
    strides = [s * item for s in entry.strides or ()]
    view = np.lib.stride_tricks.as_strided(raw.view(f"u{item}"), entry.shape, strides, writeable=False)
    return np.ascontiguousarray(view).reshape(-1)[lo:hi].view(np.uint8).data


def _read_pieces(
    source: CheckpointSource, pieces: Sequence[Piece], item: int, lo: int, hi: int, out: memoryview
) -> None:
    for piece in pieces:
        begin, end = max(lo, piece.lo), min(hi, piece.hi)
        if begin < end:
            source.read(
                piece.file, piece.offset + (begin - piece.lo) * item, out[(begin - lo) * item : (end - lo) * item]
            )
