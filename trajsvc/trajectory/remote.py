"""Θ over a network: what a slab needs of all files, in few requests, each byte asked for once.

A slab's bytes of one checkpoint are one stretch of a file, or a few. Where that is little (many checkpoints share the memory of a slab),
several slabs are read ahead at once into a file on disk, a *window*, so that requests are large and the network does not wait for the
arithmetic. Two or three windows at most are on disk: one is used while the next one is filled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from trajsvc.gram.plan import Slab
from trajsvc.gram.slab_worker import Part
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.ranges import ByteRange, MergedRange, coalesce, read_requests
from trajsvc.trajectory.elements import codes_crc, delivered, places, raw_bytes
from trajsvc.trajectory.matrix import Trajectory


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
        """Return None: only one process reads from the network."""

    def prepare(self, slabs: Sequence[Slab]) -> None:
        """Do nothing: nothing is read ahead."""

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        """Read all parts at once: neighbours in a file are one request, and requests are made concurrently."""
        ranges: list[ByteRange] = []
        buffers: list[memoryview] = []
        others: list[tuple[Part, TensorEntry, np.ndarray]] = []
        for part in parts:
            entry = self.trajectory.rows[part.row].entries[part.column]
            out = part.out
            if not entry.plain:
                others.append((part, entry, np.empty(raw_bytes(entry, part.lo, part.hi), np.uint8)))
                out = others[-1][2].data
            for place in places(entry, part.lo, part.hi):
                ranges.append(ByteRange(place.file, place.lo, place.hi, len(buffers)))
                buffers.append(out[place.at : place.at + place.hi - place.lo])
        requests = [w for s in _disjoint(coalesce(ranges, self.gap)) for w in read_requests(s, buffers)]
        self.trajectory.source.read_many(requests, stop)
        if stop():
            return
        for part, entry, raw in others:
            part.out[:] = delivered(entry, raw, part.lo, part.hi)
            part.crc = codes_crc(entry, raw, part.lo, part.hi)


def _disjoint(stretches: Sequence[MergedRange]) -> list[MergedRange]:
    """Split merged ranges whose own ranges overlap: tensors with strides may share bytes, and are then read one by one."""
    found: list[MergedRange] = []
    for stretch in stretches:
        ends = [0, *(s.hi for s in stretch.ranges)]
        if any(s.lo < end for s, end in zip(stretch.ranges, ends, strict=False)):
            found += [MergedRange(s.file, s.lo, s.hi, (s,)) for s in stretch.ranges]
        else:
            found.append(stretch)
    return found


class Gaps:
    """Decides which bytes between parameters may be read along: those that belong to no parameter of the run."""

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
