"""Θ over a network: what a slab needs of all files, in few requests, each byte asked for once.

A slab's bytes of one checkpoint are one stretch of a file, or a few. Where that is little (many checkpoints share the memory of a slab),
several slabs are read ahead at once into a file on disk, a *window*, so that requests are large and the network does not wait for the
arithmetic. Two or three windows at most are on disk: one is used while the next one is filled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.gram.plan import Slab
from trajsvc.gram.slab_worker import Part
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.ranges import ByteRange, MergedRange, coalesce, read_requests
from trajsvc.trajectory.elements import gathered, strided_bytes
from trajsvc.trajectory.matrix import Trajectory


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stretch of a tensor's elements lies: bytes [lo, hi) of a file, which belong at ``at`` of the wanted bytes."""

    file: str
    lo: int
    hi: int
    at: int


def places(entry: TensorEntry, lo: int, hi: int) -> list[Place]:
    """Where elements [lo, hi) of a tensor lie; of one with strides, all that it spans."""
    item = ITEMSIZE[entry.dtype]
    if entry.pieces is not None:
        cut = ((p, max(lo, p.lo), min(hi, p.hi)) for p in entry.pieces)
        return [
            Place(p.file, p.offset + (a - p.lo) * item, p.offset + (b - p.lo) * item, (a - lo) * item)
            for p, a, b in cut
            if a < b
        ]
    if entry.strides is None:
        return [Place(entry.file, entry.offset + lo * item, entry.offset + hi * item, 0)]
    return [Place(entry.file, entry.offset, entry.offset + strided_bytes(entry), 0)]


class RemoteTheta:
    """A run's Θ read over the network slab by slab, straight into the slabs' buffers."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self.gap = Gaps(trajectory)

    def dtypes(self, column: int) -> Sequence[str]:
        return self.trajectory.dtypes(column)

    def has_crc(self, column: int, row: int) -> bool:
        return self.trajectory.has_crc(column, row)

    def portable(self) -> None:
        """None: one process asks the network."""

    def prepare(self, slabs: Sequence[Slab]) -> None:
        """Nothing is read ahead."""

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        """All parts at once: neighbours in a file are one request, and requests are made side by side."""
        ranges: list[ByteRange] = []
        buffers: list[memoryview] = []
        strided: list[tuple[Part, TensorEntry, np.ndarray]] = []
        for part in parts:
            entry = self.trajectory.rows[part.row].entries[part.column]
            if entry.strides is not None:
                raw = np.empty(strided_bytes(entry), np.uint8)
                strided.append((part, entry, raw))
            for place in places(entry, part.lo, part.hi):
                ranges.append(ByteRange(place.file, place.lo, place.hi, len(buffers)))
                size = place.hi - place.lo
                buffers.append(part.out[place.at : place.at + size] if entry.strides is None else strided[-1][2].data)
        requests = [w for s in _disjoint(coalesce(ranges, self.gap)) for w in read_requests(s, buffers)]
        self.trajectory.source.read_many(requests, stop)
        if stop():
            return
        for part, entry, raw in strided:
            part.out[:] = gathered(entry, raw, part.lo, part.hi)


def _disjoint(stretches: Sequence[MergedRange]) -> list[MergedRange]:
    """Merged ranges whose own ranges do not overlap: tensors with strides may share bytes, and are then read one by one."""
    found: list[MergedRange] = []
    for stretch in stretches:
        ends = [0, *(s.hi for s in stretch.ranges)]
        if any(s.lo < end for s, end in zip(stretch.ranges, ends, strict=False)):
            found += [MergedRange(s.file, s.lo, s.hi, (s,)) for s in stretch.ranges]
        else:
            found.append(stretch)
    return found


class Gaps:
    """Which bytes between parameters may be read in passing: those that belong to no parameter of the run."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._of: dict[str, list[tuple[int, int]]] = {}
        for row in trajectory.rows:
            for entry in row.entries:
                for place in places(entry, 0, entry.size):
                    self._of.setdefault(place.file, []).append((place.lo, place.hi))
        for taken in self._of.values():
            taken.sort()

    def __call__(self, file: str, lo: int, hi: int) -> bool:
        taken = self._of.get(file, [])
        at = bisect_right(taken, (lo, hi))
        before = at > 0 and taken[at - 1][1] > lo
        after = at < len(taken) and taken[at][0] < hi
        return not (before or after)
