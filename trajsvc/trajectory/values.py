"""A few values of a run's tensors, read before anything is planned: to tell a table from a parameter, a copy from a tensor of its own.

What is read is small: whole tensors only where they are small or where little else would do, windows of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE, MANTISSA_BITS
from storage_schema.format.dtypes import widen
from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import CheckpointRef, CheckpointSource, ReadRequest, TensorEntry
from trajsvc.trajectory.elements import read_elements

WINDOW: Final = 1024
"""Elements of one window."""
WHOLE: Final = 2**22
"""Elements up to which a tensor of this machine is compared whole."""
CHUNK: Final = 2**18


@dataclass(frozen=True, slots=True)
class Window:
    """Elements [lo, hi) of a tensor at one checkpoint."""

    checkpoint: int
    name: str
    lo: int
    hi: int


class Values:
    """Values of the tensors of some checkpoints, by name: ``headers`` are the checkpoints with their tensors, in order."""

    def __init__(
        self, source: CheckpointSource, headers: Sequence[tuple[CheckpointRef, Mapping[str, TensorEntry]]]
    ) -> None:
        self.source, self.headers = source, headers

    def __len__(self) -> int:
        return len(self.headers)

    def entry(self, checkpoint: int, name: str) -> TensorEntry | None:
        return self.headers[checkpoint][1].get(name)

    def having(self, *names: str) -> list[int]:
        """Return the checkpoints that have all of ``names``."""
        return [t for t, (_, tensors) in enumerate(self.headers) if all(n in tensors for n in names)]

    def step(self, checkpoint: int) -> int:
        return self.headers[checkpoint][0].step

    def windows(self, checkpoint: int, name: str, count: int = 2, part: tuple[int, int] | None = None) -> list[Window]:
        """Return ``count`` windows spread over the elements ``part`` of a tensor, or all, the first at their beginning, the last at their
        end; a small tensor is one window.
        """
        first, end = part or (0, self.headers[checkpoint][1][name].size)
        if end - first <= count * WINDOW:
            return [Window(checkpoint, name, first, end)]
        starts = np.linspace(first, end - WINDOW, count).astype(np.int64).tolist()
        return [Window(checkpoint, name, lo, lo + WINDOW) for lo in starts]

    def read(self, windows: Sequence[Window]) -> list[NDArray[np.float64]]:
        """Read the values in each of ``windows``, in float64; over a network all are asked for at once.

        Raises what the source raises.
        """
        entries = [self.headers[w.checkpoint][1][w.name] for w in windows]
        raw = [np.empty((w.hi - w.lo) * ITEMSIZE[e.dtype], np.uint8) for w, e in zip(windows, entries, strict=True)]
        apart: list[int] = []
        wanted: list[ReadRequest] = []
        for i, (w, e) in enumerate(zip(windows, entries, strict=True)):
            if self.source.remote and e.plain and e.pieces is None:
                wanted.append(ReadRequest(e.file, e.offset + w.lo * ITEMSIZE[e.dtype], (raw[i].data,)))
            else:
                apart.append(i)
        if wanted:
            self.source.read_many(wanted)
        for i in apart:
            try:
                read_elements(self.source, entries[i], windows[i].lo, windows[i].hi, raw[i].data)
            except TrajsvcError as error:
                where = self.headers[windows[i].checkpoint][0]
                raise error.about(tensor=windows[i].name, step=where.step, file=entries[i].file) from None
        return [as_floats(bits, e.dtype) for bits, e in zip(raw, entries, strict=True)]

    def equal(self, one: tuple[int, str], other: tuple[int, str], part: tuple[int, int] | None = None) -> bool:
        """Return whether two tensors, each (checkpoint, name), hold equal values as far as their types can say.

        ``part`` are the elements to compare of tensors that need not have the same shape.

        Every value of a tensor on this machine is compared, and windows of one beyond a network or larger than
        ``WHOLE``.
        """
        first, second = self.headers[one[0]][1][one[1]], self.headers[other[0]][1][other[1]]
        if part is None and first.shape != second.shape:
            return False
        begin, end = part or (0, first.size)
        if self.source.remote or end - begin > WHOLE:
            pairs = list(zip(*(self.windows(*at, 8, (begin, end)) for at in (one, other)), strict=True))
            found = self.read([w for pair in pairs for w in pair])
            return all(alike(a, b, first.dtype, second.dtype) for a, b in zip(found[::2], found[1::2], strict=True))
        for lo in range(begin, end, CHUNK):
            hi = min(end, lo + CHUNK)
            a, b = self.read([Window(*one, lo, hi), Window(*other, lo, hi)])
            if not alike(a, b, first.dtype, second.dtype):
                return False
        return True


def as_floats(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float64]:
    """Convert stored values to float64."""
    if dtype == "bfloat16":
        return np.frombuffer(widen(raw.data, "bfloat16", "float32"), "<f4").astype(np.float64)
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return raw.view(f"<f{ITEMSIZE[dtype]}").astype(np.float64)


def alike(one: NDArray[np.float64], other: NDArray[np.float64], kind: str, other_kind: str) -> bool:
    """Return whether values of two stored types are equal, to the rounding of the coarser one where the types differ."""
    if kind == other_kind:
        return bool(np.array_equal(one, other, equal_nan=True))
    digits = min(MANTISSA_BITS[kind], MANTISSA_BITS[other_kind])
    return bool(np.allclose(one, other, rtol=2.0**-digits, atol=1e-7, equal_nan=True))
