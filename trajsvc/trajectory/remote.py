"""Θ over a network: what a slab needs of all files, in few requests, each byte asked for once.

A slab's bytes of one checkpoint are one stretch of a file, or a few. Where that is little (many checkpoints share the memory of a slab),
several slabs are read ahead at once into a file on disk, a *window*, so that requests are large and the network does not wait for the
arithmetic. Two or three windows at most are on disk: one is used while the next one is filled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.gram.plan import Plan, Slab
from trajsvc.gram.slab_worker import Part
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.ranges import Gap, Span, Stretch, coalesce, wants
from trajsvc.trajectory.matrix import Row, Trajectory, gathered, strided_bytes

ENOUGH: Final = 2**22
"""Bytes of a request from which on larger ones gain nothing worth a detour over the disk."""
ON_DISK: Final = 2
"""Windows that are on disk at once: one is used while the next one is filled."""


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
        spans: list[Span] = []
        buffers: list[memoryview] = []
        strided: list[tuple[Part, TensorEntry, np.ndarray]] = []
        for part in parts:
            entry = self.trajectory.rows[part.row].entries[part.column]
            if entry.strides is not None:
                raw = np.empty(strided_bytes(entry), np.uint8)
                strided.append((part, entry, raw))
            for place in places(entry, part.lo, part.hi):
                spans.append(Span(place.file, place.lo, place.hi, len(buffers)))
                size = place.hi - place.lo
                buffers.append(part.out[place.at : place.at + size] if entry.strides is None else strided[-1][2].data)
        requests = [w for s in _disjoint(coalesce(spans, self.gap)) for w in wants(s, buffers)]
        self.trajectory.source.read_many(requests, stop)
        if stop():
            return
        for part, entry, raw in strided:
            part.out[:] = gathered(entry, raw, part.lo, part.hi)


def _disjoint(stretches: Sequence[Stretch]) -> list[Stretch]:
    """Stretches none of whose spans overlap: tensors with strides may share bytes, and are then asked for one by one."""
    found: list[Stretch] = []
    for stretch in stretches:
        ends = [0, *(s.hi for s in stretch.spans)]
        if any(s.lo < end for s, end in zip(stretch.spans, ends, strict=False)):
            found += [Stretch(s.file, s.lo, s.hi, (s,)) for s in stretch.spans]
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


@dataclass(frozen=True)
class Window:
    """Slabs whose bytes are asked for together."""

    number: int
    slabs: tuple[Slab, ...]


def cut_windows(plan: Plan, cache: int, *, apart: bool = False) -> list[Window]:
    """The plan's slabs in windows that lie side by side in ``cache`` bytes, in the order in which they are begun; with ``apart`` those of
    the sample by themselves.

    A sample is many small requests, and leaves many small stretches between them. So the first window holds, beside the sample, the slabs
    that consist of most such stretches: what is neighbours there is one request. It stays on disk for long, and the others share the rest.

    Empty where windows gain nothing: they would hold one slab each, or a slab's own requests are large enough.
    """
    room = _window_room(cache, ON_DISK)
    if plan.slab_bytes * 2 > room or plan.slab_bytes // max(1, plan.rows) >= ENOUGH:
        return []
    whole = sum(map(plan.slab_read_bytes, plan.slabs)) <= room
    first = set() if apart or whole else _beside_sample(plan, _window_room(cache, ON_DISK + 1))
    if first:
        room = _window_room(cache, ON_DISK + 1)
    groups = [[s for s in plan.slabs if s.index in first]] if first else []
    held: list[Slab] = []
    used = 0
    for slab in plan.slabs:
        if slab.index in first:
            continue
        size = plan.slab_read_bytes(slab)
        if held and ((apart and slab.sample != held[0].sample) or used + size > room):
            groups.append(held)
            held, used = [], 0
        held.append(slab)
        used += size
    return [Window(n, tuple(g)) for n, g in enumerate([*groups, held] if held else groups)]


def windows_on_disk(windows: Sequence[Window]) -> int:
    """How many windows are there at once: the first one stays where it holds slabs of later on."""
    first = [s.index for s in windows[0].slabs]
    return ON_DISK if first == list(range(len(first))) else ON_DISK + 1


def _window_room(cache: int, windows: int) -> int:
    return cache // windows * 16 // 17  # the rest is for what lies between the tensors


def _beside_sample(plan: Plan, room: int) -> set[int]:
    """The sample's slabs and those to be read with them, within ``room`` bytes; empty where that is no gain."""
    sizes = {s.index: plan.slab_read_bytes(s) for s in plan.slabs}
    found = {s.index for s in plan.slabs if s.sample}
    used = sum(sizes[i] for i in found)
    rest = sorted((s for s in plan.slabs if not s.sample), key=lambda s: (-len(s.segments) / sizes[s.index], s.index))
    taken = set()
    for slab in rest:
        if used + sizes[slab.index] > room:
            break
        taken.add(slab.index)
        used += sizes[slab.index]
    return found | taken if found and taken else set()


@dataclass(frozen=True)
class Layout:
    """Stretches of files, and where each lies in a window's own file."""

    stretches: tuple[Stretch, ...]
    places: tuple[int, ...]
    size: int

    def requests(self) -> list[tuple[str, int, int, int]]:
        """(file, lo, hi, where in the window's file) of every request."""
        return [
            (s.file, lo, hi, at + lo - s.lo)
            for s, at in zip(self.stretches, self.places, strict=True)
            for lo, hi in s.requests()
        ]


def slab_spans(rows: Sequence[Row], slab: Slab) -> list[Span]:
    """Everything that a slab reads of some checkpoints."""
    return [
        Span(p.file, p.lo, p.hi)
        for segment in slab.segments
        for row in rows
        for p in places(row.entries[segment.column], segment.lo, segment.hi)
    ]


def lay_out(rows: Sequence[Row], slabs: Sequence[Slab], gap: Gap) -> Layout:
    """What slabs read of some checkpoints, file by file."""
    found = coalesce((span for slab in slabs for span in slab_spans(rows, slab)), gap)
    ends = np.cumsum([0, *(s.size for s in found)])
    bare = tuple(Stretch(s.file, s.lo, s.hi, ()) for s in found)
    return Layout(bare, tuple(int(e) for e in ends[:-1]), int(ends[-1]))


@dataclass(frozen=True)
class Cost:
    """What reading a run over the network takes: requests for ranges, and their bytes."""

    requests: int
    bytes: int


def reading_cost(trajectory: Trajectory, plan: Plan, cache: int, *, sample: bool = False) -> Cost:
    """Exactly what reading the plan's slabs (the sample's alone, if asked) will request, without retries.

    Checkpoints whose files are laid out alike cost the same, so one of them is reckoned for all.
    """
    gap = Gaps(trajectory)
    alike: dict[tuple[object, ...], list[Row]] = {}
    for row in trajectory.rows:
        names = {f: i for i, f in enumerate(dict.fromkeys(p.file for e in row.entries for p in places(e, 0, e.size)))}
        key = tuple((names[p.file], p.lo, p.hi) for e in row.entries for p in places(e, 0, e.size))
        alike.setdefault(key, []).append(row)
    pieces = cut_windows(plan, cache, apart=sample) or [Window(s.index, (s,)) for s in plan.slabs]
    requests = total = 0
    for window in pieces:
        if sample and not window.slabs[0].sample:
            break
        for rows in alike.values():
            laid = lay_out(rows[:1], window.slabs, gap)
            requests += len(rows) * len(laid.requests())
            total += len(rows) * laid.size
    return Cost(requests, total)
