"""Windows: which slabs of a remote run are cached on disk together, and what reading them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trajsvc.gram.plan import Plan, Slab
from trajsvc.sources.ranges import ByteRange, Gap, MergedRange, coalesce
from trajsvc.trajectory.elements import places
from trajsvc.trajectory.matrix import Row, Trajectory
from trajsvc.trajectory.remote import Gaps

ENOUGH: Final = 2**22
"""Size of a request in bytes above which larger requests gain too little to justify caching on disk."""


ON_DISK: Final = 2
"""Windows that are on disk at once: one is used while the next one is filled."""


@dataclass(frozen=True)
class Window:
    """Slabs whose bytes are requested together."""

    number: int
    slabs: tuple[Slab, ...]


def cut_windows(plan: Plan, cache: int, *, apart: bool = False) -> list[Window]:
    """Group the plan's slabs into windows that fit in ``cache`` bytes together, in the order in which they are begun.

    With ``apart`` the sample's slabs have windows of their own.

    A sample is many small requests, and leaves many small ranges between them. So the first window holds, beside the
    sample, the slabs that consist mostly of such ranges: neighbours are then one request. It stays on disk for long,
    and the others share the rest.

    Empty if windows gain nothing: they would hold one slab each, or a slab's own requests are large enough.
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
    """Return how many windows are on disk at once: one more if the first one stays because it holds later slabs."""
    first = [s.index for s in windows[0].slabs]
    return ON_DISK if first == list(range(len(first))) else ON_DISK + 1


def _window_room(cache: int, windows: int) -> int:
    return cache // windows * 16 // 17  # the rest is for the bytes between the tensors


def _beside_sample(plan: Plan, room: int) -> set[int]:
    """Return the sample's slabs and those to be read with them, within ``room`` bytes; empty if that gains nothing."""
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
    """Ranges of files, and the place of each in a window's own file."""

    stretches: tuple[MergedRange, ...]
    places: tuple[int, ...]
    size: int

    def requests(self) -> list[tuple[str, int, int, int]]:
        """Return (file, lo, hi, where in the window's file) of every request."""
        return [
            (s.file, lo, hi, at + lo - s.lo)
            for s, at in zip(self.stretches, self.places, strict=True)
            for lo, hi in s.requests()
        ]


def slab_ranges(rows: Sequence[Row], slab: Slab) -> list[ByteRange]:
    """Return all byte ranges that a slab reads of some checkpoints."""
    return [
        ByteRange(p.file, p.lo, p.hi)
        for segment in slab.segments
        for row in rows
        for p in places(row.entries[segment.column], segment.lo, segment.hi)
    ]


def lay_out(rows: Sequence[Row], slabs: Sequence[Slab], gap: Gap) -> Layout:
    """Lay out the byte ranges that slabs read of some checkpoints, file by file."""
    found = coalesce((span for slab in slabs for span in slab_ranges(rows, slab)), gap)
    ends = np.cumsum([0, *(s.size for s in found)])
    bare = tuple(MergedRange(s.file, s.lo, s.hi, ()) for s in found)
    return Layout(bare, tuple(int(e) for e in ends[:-1]), int(ends[-1]))


@dataclass(frozen=True)
class Cost:
    """The cost of reading a run over the network: requests for ranges, and their bytes."""

    requests: int
    bytes: int


def reading_cost(trajectory: Trajectory, plan: Plan, cache: int, *, sample: bool = False) -> Cost:
    """Compute exactly what reading the plan's slabs (the sample's alone, if asked) will request, without retries.

    Checkpoints whose files are laid out alike cost the same, so one of them is computed for all.
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
