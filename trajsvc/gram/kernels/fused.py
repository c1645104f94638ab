"""The kernel of the CPU: widens, differences and multiplies in the cache, in float64 or float32 (``routines``).

A block's elements in each *window*, ``WINDOW`` columns of its tensor that begin at a multiple of ``WINDOW``, are multiplied together.
Segments begin and end at multiples of ``WINDOW`` or at the tensor's end, so that no window's sums depend on how a plan cuts it.

Elements that lie side by side, stored in one type at every checkpoint, are taken as they are stored. The others (checkpoints of several
types, values to be rounded, short runs, the last few columns, and windows with NaN or infinity) are widened to float64 first, a *piece* at
a time, and multiplied from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import FLOAT_TYPES, ITEMSIZE
from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.kernels.base import RowGroup
from trajsvc.gram.kernels.native import library
from trajsvc.gram.kernels.values import hold, is_exact, rounded

WINDOW: Final = 2**12
WIDTH: Final = 2**9
"""Columns in a panel: panels of 160 rows take 655 kB, which a second-level cache holds."""
DIRECT: Final = 2
"""New rows up to which an append multiplies straight from the stored values, without panels."""
PIECE: Final = 2**18
"""Values that are widened to float64 together."""

ALIGNED: Final = 16
"""Columns are taken as they are stored in multiples of this: the lanes of every precision divide it."""

Runs = list[tuple[int, int]]
"""Columns [begin, end) of a tensor, in order."""


class FusedKernel:
    """Multiplies the last ``new`` of ``total`` rows with the rows up to them, in float64 or float32 (``precision``); values are rounded to
    ``dtype`` first, if any."""

    def __init__(self, total: int, new: int, precision: str = "float64", dtype: str | None = None) -> None:
        self._total, self._dtype = total, dtype
        self._piece = piece_of(total)
        self._native = library(precision == "float64")
        lanes, size = self._native.lanes, self._native.size
        padded = -(-total // lanes) * lanes
        direct = new < total and new <= DIRECT
        self._panels = _aligned(padded * WIDTH * size if not direct else 0)
        self._updates = _aligned(new * WIDTH * size if direct else 0)
        self._gram = np.empty((padded, padded))
        self._zeros, self._places = np.zeros(WIDTH), np.empty(lanes + 1, np.int64)
        self._addresses, self._functions = np.empty(total, np.int64), np.empty(total, np.int64)
        self._values = np.empty((0, 0))
        self._given = {
            "rows": self._addresses.ctypes.data, "total": total, "new": new, "window": WINDOW, "width": WIDTH, "padded": padded,
            "panels": self._panels.ctypes.data, "updates": self._updates.ctypes.data if direct else 0,
            "gram": self._gram.ctypes.data, "places": self._places.ctypes.data, "zeros": self._zeros.ctypes.data,
        }  # fmt: skip

    def multiply(
        self,
        rows: Sequence[RowGroup],
        extent: Extent,
        lo: int,
        hi: int,
        sums: NDArray[np.float64],
        nonfinite: NDArray[np.int64],
    ) -> int:
        runs = runs_of(extent, lo, hi)
        if len(rows) > 1 or not is_exact(rows[0].dtype, self._dtype) or (extent.length < WINDOW and scattered(extent)):
            self._add_widened(rows, runs, lo, sums, nonfinite)
        else:
            for begin, end in runs:
                first, last = -(-begin // ALIGNED) * ALIGNED, end // ALIGNED * ALIGNED
                if first >= last:
                    self._add_widened(rows, [(begin, end)], lo, sums, nonfinite)
                    continue
                self._add_widened(rows, [(begin, first)], lo, sums, nonfinite)
                self._add_stored(rows, first, last, lo, sums, nonfinite)
                self._add_widened(rows, [(last, end)], lo, sums, nonfinite)
        return sum(end - begin for begin, end in runs)

    def widened(self, rows: Sequence[RowGroup], extent: Extent, lo: int, hi: int) -> Iterator[NDArray[np.float64]]:
        for piece in pieces(runs_of(extent, lo, hi), self._piece):
            yield self._widen(rows, piece, lo)[0]

    def _add_stored(
        self,
        rows: Sequence[RowGroup],
        begin: int,
        end: int,
        lo: int,
        sums: NDArray[np.float64],
        nonfinite: NDArray[np.int64],
    ) -> None:
        """Add columns [begin, end), multiples of ``ALIGNED``, from the stored values of one type."""
        [group] = rows
        kind, size = FLOAT_TYPES.index(group.dtype), ITEMSIZE[group.dtype]
        while begin < end:
            self._addresses[:] = row_addresses(group, (begin - lo) * size)
            begin += self._products(kind, size, end - begin, WINDOW - begin % WINDOW, sums)
            if begin < end:  # a window that is not finite
                window = min(end, (begin // WINDOW + 1) * WINDOW)
                self._add_widened(rows, [(begin, window)], lo, sums, nonfinite)
                begin = window

    def _add_widened(
        self, rows: Sequence[RowGroup], runs: Runs, lo: int, sums: NDArray[np.float64], nonfinite: NDArray[np.int64]
    ) -> None:
        """Add columns from values widened to float64, with what is not finite held at its last finite value."""
        for piece in pieces(runs, self._piece):
            values, padded = self._widen(rows, piece, lo)
            if not np.isfinite(values).all():
                nonfinite += hold(values)
            self._addresses[:] = padded.ctypes.data + np.arange(self._total) * padded.strides[0]
            self._products(FLOAT_TYPES.index("float64"), 8, padded.shape[1], padded.shape[1], sums, forced=True)

    def _widen(self, rows: Sequence[RowGroup], runs: Runs, lo: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Widen a piece; return its values (T, elements), and the same array with zeros up to a multiple of the lanes."""
        if not self._values.size:
            self._values = np.empty((self._total, self._piece))
        at, total = 0, sum(len(group.raw) for group in rows)
        for begin, end in runs:
            for group in rows:
                here = slice(group.first, group.first + len(group.raw))
                self._addresses[here] = row_addresses(group, (begin - lo) * ITEMSIZE[group.dtype])
                self._functions[here] = self._native.widen[FLOAT_TYPES.index(group.dtype)]
            self._native.widen_rows(
                self._addresses.ctypes.data, self._functions.ctypes.data, total, end - begin,
                self._values.ctypes.data + 8 * at, self._piece,
            )  # fmt: skip
            at += end - begin
        lanes = self._native.lanes
        padded = self._values[:total, : -(-at // lanes) * lanes]
        padded[:, at:] = 0.0
        values = padded[:, :at]
        if self._dtype is not None and any(not is_exact(g.dtype, self._dtype) for g in rows):
            values[:] = rounded(values, self._dtype)
        return values, padded

    def _products(
        self, kind: int, size: int, columns: int, first: int, sums: NDArray[np.float64], *, forced: bool = False
    ) -> int:
        native = self._native
        changed = {
                "size": size, "columns": columns, "first": first, "forced": int(forced), "sums": sums.ctypes.data, "pairs": sums.shape[1],
                "pack": native.pack[kind], "subtract": native.subtract[kind], "dots": native.dots[kind],
            }  # fmt: skip
        return native.products(self._given | changed)


def workspace(total: int, precision: str) -> int:
    """Return the bytes that a ``FusedKernel`` takes."""
    padded = -(-total // 16) * 16
    size = 8 if precision == "float64" else 4
    return padded * WIDTH * size + padded * padded * 8 + total * piece_of(total) * 8


def piece_of(total: int) -> int:
    """Return the number of columns that are widened together: a power of two that divides ``WINDOW``."""
    return min(WINDOW, max(WIDTH, 1 << (PIECE // max(1, total)).bit_length() - 1))


def scattered(extent: Extent) -> bool:
    """Return whether a block's elements do not all lie side by side."""
    return extent.outer > 1 and extent.stride != extent.length


def runs_of(extent: Extent, lo: int, hi: int) -> Runs:
    """Return the columns of a block within [lo, hi) as runs (begin, end)."""
    outer, length = (extent.outer, extent.length) if scattered(extent) else (1, extent.size)
    first = max(0, (lo - extent.start - length) // extent.stride + 1) if outer > 1 else 0
    last = min(outer - 1, -(-(hi - extent.start) // extent.stride) - 1) if outer > 1 else 0
    begins = (extent.start + o * extent.stride for o in range(first, last + 1))
    return [(max(b, lo), min(b + length, hi)) for b in begins if max(b, lo) < min(b + length, hi)]


def pieces(runs: Runs, width: int) -> Iterator[Runs]:
    """Cut ``runs`` at multiples of ``width`` and yield together what lies between two of them."""
    held: Runs = []
    for start, end in runs:
        begin = start
        while begin < end:
            cut = min(end, (begin // width + 1) * width)
            if held and held[0][0] // width != begin // width:
                yield held
                held = []
            held.append((begin, cut))
            begin = cut
    if held:
        yield held


def row_addresses(group: RowGroup, offset: int) -> NDArray[np.int64]:
    """Return the addresses at which the group's rows have the byte ``offset``."""
    raw = group.raw
    return np.asarray(raw.ctypes.data + offset + np.arange(len(raw)) * raw.strides[0], dtype=np.int64)


def _aligned(size: int) -> NDArray[np.uint8]:
    """Allocate ``size`` bytes that begin on a cache line."""
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]
