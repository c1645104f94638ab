"""Compute one slab: read its bytes once, fingerprint them, and multiply every block's part."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol

import numpy as np
import xxhash
from isal import isal_zlib
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.anatomy.blocks import Extent
from trajsvc.errors import Cancelled
from trajsvc.gram.kernels.base import Kernel, RowGroup, part_of, raw_rows, raw_size
from trajsvc.gram.kernels.changes import count_changes
from trajsvc.gram.kernels.rows import add_row_norms
from trajsvc.gram.pairs import add_exactly
from trajsvc.gram.plan import Plan, Segment, Slab, granule
from trajsvc.gram.rounding import observe
from trajsvc.gram.sums import SlabResult, empty_result, row_ranges_of


@dataclass(slots=True)
class Part:
    """Elements [lo, hi) of a tensor at one checkpoint, and the buffer for their stored bytes."""

    column: int
    row: int
    lo: int
    hi: int
    out: memoryview
    crc: int | None = None
    """set by ``load``: CRC-32 of the bytes in the file, where the archive keeps one and ``out`` has values in their place"""


class Theta(Protocol):
    """Columns of the matrix Θ, wherever its bytes lie."""

    def dtypes(self, column: int) -> Sequence[str]:
        """Return the stored type of a tensor at every checkpoint."""
        ...

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        """Fill every buffer of ``parts``, which are all that ``slab`` reads; may return early when ``stop`` says so."""
        ...

    def has_crc(self, column: int, row: int) -> bool:
        """Return whether the archive keeps a CRC-32 of the tensor's bytes as ``load`` gives them."""
        ...

    def prepare(self, slabs: Sequence[Slab]) -> None:
        """Announce, before the first ``load``, which slabs will be loaded, in about this order, so that reading ahead
        can begin.
        """
        ...

    def portable(self) -> Theta | None:
        """Return the same Θ for another process that sees the same files (it can be pickled); None if there is none."""
        ...


_ODD = np.uint64(0x9E3779B97F4A7C15)  # mixes a granule's digest with its place before the sum

RowSink = Callable[[int, int, int, "NDArray[np.uint8]"], None]
"""``sink(column, row, lo, raw bytes)``: where a copy is written as the bytes pass."""


class SlabWorker:
    """Reads and multiplies slabs, one at a time, in buffers of its own."""

    def __init__(self, theta: Theta, plan: Plan, kernel: Kernel, sink: RowSink | None = None) -> None:
        steady_heap()
        self.theta, self.plan, self.kernel, self.sink = theta, plan, kernel, sink
        self._buffer = np.empty(max((sum(self._sizes(s)) for s in plan.slabs), default=0), np.uint8)

    def run(self, slab: Slab, computing: AbstractContextManager[object], cancelled: Callable[[], bool]) -> SlabResult:
        """Compute the slab's partial sums.

        Reading is done outside ``computing`` so that it overlaps with others' arithmetic.
        """
        result = empty_result(self.plan, slab)
        loaded = self._load(slab, result, cancelled)
        with computing, np.errstate(all="ignore"):  # non-finite values are counted, not warned of
            place = {int(b): i for i, b in enumerate(result.blocks)}
            counted = {
                (r.segment, r.block): result.row_norms[r.place : r.place + r.count]
                for r in row_ranges_of(self.plan, slab)
            }
            for number, (segment, groups) in enumerate(zip(slab.segments, loaded, strict=True)):
                if cancelled():
                    raise Cancelled
                self._digest(number, segment, groups, result)
                self._multiply(slab, segment, groups, place, result, cancelled)
                self._add_rows(number, segment, groups, counted)
        return result

    def _add_rows(
        self,
        number: int,
        segment: Segment,
        rows: list[RowGroup],
        counted: dict[tuple[int, int], NDArray[np.float64]],
    ) -> None:
        """Add the norms of the rows of the segment's matrices."""
        plan, wide = self.plan, self.plan.precision == "float64"
        for block, extent in plan.columns[segment.column].blocks:
            sums = counted.get((number, block))
            if sums is not None:
                width = plan.row_widths[block]
                add_row_norms(rows, extent, segment.lo, segment.hi, width, sums, self.kernel, wide, plan.dtype)

    def _sizes(self, slab: Slab) -> list[int]:
        """Return the bytes that each segment of ``slab`` takes in the buffer."""
        return [raw_size(self.theta.dtypes(s.column), s.size) for s in slab.segments]

    def _load(self, slab: Slab, result: SlabResult, cancelled: Callable[[], bool]) -> list[list[RowGroup]]:
        sizes = self._sizes(slab)
        loaded, at = [], 0
        parts, numbers = [], []
        for number, (segment, size) in enumerate(zip(slab.segments, sizes, strict=True)):
            groups = raw_rows(self._buffer[at : at + size], self.theta.dtypes(segment.column), segment.size)
            for group in groups:
                for row, out in enumerate(group.raw, start=group.first):
                    parts.append(Part(segment.column, row, segment.lo, segment.hi, memoryview(out)))
                    numbers.append(number)
            loaded.append(groups)
            at += size // 64 * 64
        self.theta.load(slab, parts, cancelled)
        if cancelled():
            raise Cancelled
        for number, part in zip(numbers, parts, strict=True):
            if part.crc is not None:
                result.crc[number, part.row] = part.crc
        if self.sink is not None:
            for segment, groups in zip(slab.segments, loaded, strict=True):
                for group in groups:
                    for row, out in enumerate(group.raw, start=group.first):
                        self.sink(segment.column, row, segment.lo, out)
        return loaded

    def _digest(self, number: int, segment: Segment, groups: list[RowGroup], result: SlabResult) -> None:
        """Fingerprint the segment's granules, count zero values, and compute the CRC where the archive keeps one.

        Zeros are counted one by one in segments no longer than a granule, else by whole granules of zero bytes. Only the checksum is
        computed of checkpoints that are known.
        """
        column = self.plan.columns[segment.column]
        g = granule(column.size)
        seed = np.uint64(xxhash.xxh3_64_intdigest(column.name.encode()))
        for group in groups:
            for i, row in enumerate(group.raw, start=group.first):
                if self.theta.has_crc(segment.column, i):
                    result.crc[number, i] = isal_zlib.crc32(row)
        known = self.plan.known
        for group in part_of(groups, known, 0, segment.size):
            first, item = known + group.first, ITEMSIZE[group.dtype]
            rows = slice(first, first + len(group.raw))
            step = g * item
            places = range(0, segment.size * item, step)
            mixed = seed + np.arange(segment.lo // g, segment.lo // g + len(places), dtype=np.uint64)
            digests = _digests(group.raw, places, step)
            result.fingerprint[rows] += np.sum((digests ^ mixed) * _ODD, axis=1, dtype=np.uint64)
            if segment.size <= g:
                result.zeros[number, rows] = segment.size - np.count_nonzero(group.raw.view(f"u{item}"), axis=1)
            else:
                nothing = np.uint64(xxhash.xxh3_64_intdigest(bytes(step)))
                result.zeros[number, rows] = g * np.count_nonzero(digests == nothing, axis=1)

    def _multiply(
        self,
        slab: Slab,
        segment: Segment,
        rows: list[RowGroup],
        place: dict[int, int],
        result: SlabResult,
        cancelled: Callable[[], bool],
    ) -> None:
        known, looked_at = self.plan.known, self.plan.looked_at(slab, segment)
        for block, extent in self.plan.columns[segment.column].blocks:
            if cancelled():
                raise Cancelled
            i, lo, hi = place[block], segment.lo, segment.hi
            sampled = segment.replicate >= 0
            sums = np.zeros_like(result.sums[i]) if sampled else result.sums[i]
            wide = self.plan.precision == "float64"
            count_changes(rows, extent, lo, hi, self.plan.new, result.changes[i], self.kernel, wide)
            seen = self.kernel.multiply(rows, extent, lo, hi, sums, result.nonfinite[i])
            result.seen[i] += seen
            if sampled:
                add_exactly(result.sums[i], *sums)
                result.replicates[i, segment.replicate] += sums.sum(axis=0)
                result.counts[i, segment.replicate] += seen
            for begin, end in looked_at:
                self._look(part_of(rows, known, begin - lo, end - lo), extent, begin, end, i, result)

    def _look(self, rows: Sequence[RowGroup], extent: Extent, lo: int, hi: int, place: int, result: SlabResult) -> None:
        """Look at a block's values in columns [lo, hi), which ``rows`` hold, of the checkpoints that are not known."""
        known = self.plan.known
        for values in self.kernel.widened(rows, extent, lo, hi):
            result.rounding[place, known:] += observe(values, result.statistics.since(known))
            result.looked[place] += values.shape[1]


def _digests(raw: NDArray[np.uint8], places: Sequence[int], step: int) -> NDArray[np.uint64]:
    """Hash each granule's bytes, (rows, granules)."""
    digest = xxhash.xxh3_64_intdigest
    if len(places) == 1:
        found = [digest(row) for row in raw]
    else:
        views = [memoryview(row) for row in raw]
        found = [digest(view[at : at + step]) for view in views for at in places]
    return np.array(found, np.uint64).reshape(len(raw), len(places))


@dataclass(frozen=True)
class PortableJob:
    """What another process needs to compute slabs of a job; it can be pickled."""

    theta: Theta
    plan: Plan
    kernel: Callable[[], Kernel]
    key: str

    def here(self, slots: int) -> SlabJob:
        """Return the job in this process, where ``slots`` slabs are multiplied at once."""
        return SlabJob(self.theta, self.plan, self.kernel, key=self.key, slots=slots)


class SlabJob:
    """Computes slabs of one plan over one Θ. ``run`` may be called from several threads. ``folder`` is where processes elsewhere may keep
    what they have done."""

    def __init__(
        self,
        theta: Theta,
        plan: Plan,
        kernel: Callable[[], Kernel],
        sink: RowSink | None = None,
        stop: threading.Event | None = None,
        *,
        key: str = "",
        folder: Path | None = None,
        slots: int | None = None,
    ) -> None:
        self.theta, self.plan, self.kernel, self.sink = theta, plan, kernel, sink
        self.key, self.folder = key, folder
        self.stop = stop or threading.Event()
        self._idle: SimpleQueue[SlabWorker] = SimpleQueue()
        self._slots = threading.BoundedSemaphore(slots or plan.threads)

    @property
    def threads(self) -> int:
        """How many slabs the plan multiplies at once in one process."""
        return self.plan.threads

    def run(self, slab: Slab, halted: Callable[[], bool]) -> SlabResult:
        """Compute the partial sums of ``slab``. Raises Cancelled when the job is stopped or ``halted`` returns True."""
        try:
            worker = self._idle.get_nowait()
        except Empty:
            worker = SlabWorker(self.theta, self.plan, self.kernel(), self.sink)
        try:
            return worker.run(slab, self._slots, lambda: self.stop.is_set() or halted())
        finally:
            self._idle.put(worker)

    def release(self) -> None:
        """Free the buffers of idle workers, so that what follows the slabs has the memory."""
        while True:
            try:
                self._idle.get_nowait()
            except Empty:
                return

    def until(self, stop: threading.Event) -> SlabJob:
        """Return the same job, sharing its buffers and slots, for a part of the work that ends when ``stop`` is set."""
        part = copy(self)
        part.stop = stop
        return part

    def portable(self) -> PortableJob | None:
        """Return the job for another process; None if its Θ lies in this one, or a copy is made as the bytes pass."""
        theta = self.theta.portable()
        return None if theta is None or self.sink is not None else PortableJob(theta, self.plan, self.kernel, self.key)


_M_TRIM_THRESHOLD: Final = -1


_M_MMAP_THRESHOLD: Final = -3


LARGE: Final = 2**20
"""bytes from which on an array has pages of its own, which go when it goes"""


TOP: Final = 2**25
"""bytes at the end of the heap that stay for the next array"""


@cache
def steady_heap() -> bool:
    """Fix the sizes by which glibc's malloc decides what to keep, for this process; False where it is another malloc.

    Left alone, malloc takes the first large array that is freed as a sign to take such arrays from the heap from then on; results that
    one thread makes and another frees leave holes there. Measured with 154 checkpoints in a budget of 80 MiB: 81 MB at most without,
    68 MB with these settings, in the same time.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, TOP))
