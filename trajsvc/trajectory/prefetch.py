"""Windows on disk: several slabs' bytes of all checkpoints, fetched in large requests while earlier slabs are multiplied.

A window is one file, in which the stretches of the source's files lie one after the other. Finished requests are noted beside it with
a digest of what they brought, so that a resumed job asks only for the rest.
"""

from __future__ import annotations

import shutil
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from storage_schema.files.durable import read_all
from trajsvc.gram.plan import Plan, Slab
from trajsvc.gram.slab_worker import Part
from trajsvc.sources.base import Cache, RemoteReading
from trajsvc.trajectory.elements import codes_crc, delivered, places, raw_bytes
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.remote import RemoteTheta
from trajsvc.trajectory.spool import Spool, SpoolRequest, fetch_into
from trajsvc.trajectory.windows import Layout, Window, cut_windows, lay_out, windows_on_disk

SPARE: Final = "spare"
"""file of a used window, which becomes the next one"""


class _Open:
    """A window that is being filled, or is full."""

    def __init__(self, window: Window, layout: Layout, spool: Spool) -> None:
        self.window, self.layout, self.spool = window, layout, spool
        self.full = threading.Event()
        self.left = {s.index for s in window.slabs}
        self._by_file: dict[str, tuple[list[int], list[int]]] = {}
        for stretch, at in zip(layout.stretches, layout.places, strict=True):
            starts, where = self._by_file.setdefault(stretch.file, ([], []))
            starts.append(stretch.lo)
            where.append(at)

    def read(self, file: str, lo: int, out: memoryview) -> None:
        starts, where = self._by_file[file]
        i = bisect_right(starts, lo) - 1
        read_all(self.spool.descriptor, out, where[i] + lo - starts[i])


class ReadAhead(RemoteTheta):
    """A ``RemoteTheta`` whose slabs come from windows, which lie in ``cache``'s folder: the job's own, beside those of
    earlier jobs on the same run."""

    def __init__(self, trajectory: Trajectory, source: RemoteReading, plan: Plan, cache: Cache, *, apart: bool) -> None:
        super().__init__(trajectory)
        self.source = source
        self.folder = cache.folder
        self._windows = cut_windows(plan, cache.room, apart=apart)
        self._of_slab = {s.index: w.number for w in self._windows for s in w.slabs}
        self._open: dict[int, _Open] = {}
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._spare = cache.room // 4 if apart else 0
        """bytes of used windows that stay, for a copy that follows an estimate"""
        self._thread: threading.Thread | None = None

    @property
    def useful(self) -> bool:
        """Whether there are windows at all."""
        return bool(self._windows)

    def portable(self) -> None:
        """Return None: only one process reads from the network."""

    def prepare(self, slabs: Sequence[Slab]) -> None:
        """Begin to fill the windows of ``slabs``."""
        wanted = {s.index for s in slabs}
        windows = [w for w in self._windows if any(s.index in wanted for s in w.slabs)]
        for other in self.folder.parent.glob("*") if self.folder.parent.exists() else ():
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
        for stale in self.folder.glob("window-*") if self.folder.exists() else ():
            if stale.stem not in {f"window-{w.number}" for w in windows}:
                stale.unlink(missing_ok=True)
        (self.folder / SPARE).unlink(missing_ok=True)
        self._thread = threading.Thread(
            target=self._fill, args=(windows, wanted), name="trajsvc-read-ahead", daemon=True
        )
        self._thread.start()

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        """Copy a slab's bytes out of its window, and drop the window with its last slab."""
        number = self._of_slab[slab.index]
        opened = self._wait(number, stop)
        if opened is None:
            return
        for part in parts:
            entry = self.trajectory.rows[part.row].entries[part.column]
            raw = part.out if entry.plain else np.empty(raw_bytes(entry, part.lo, part.hi), np.uint8).data
            for place in places(entry, part.lo, part.hi):
                opened.read(place.file, place.lo, raw[place.at : place.at + place.hi - place.lo])
            if not entry.plain:
                stored = np.frombuffer(raw, np.uint8)
                part.out[:] = delivered(entry, stored, part.lo, part.hi)
                part.crc = codes_crc(entry, stored, part.lo, part.hi)
        with self._changed:
            opened.left.discard(slab.index)
            if not opened.left:
                self._drop(opened)
                del self._open[number]
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading ahead. What was fetched stays for a resumed job; ``clear`` drops it."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        for opened in self._open.values():
            opened.spool.close()
        self._open.clear()

    def clear(self) -> None:
        """Drop everything: the job is done."""
        self.close()
        with suppress(OSError):
            shutil.rmtree(self.folder.parent)

    def _drop(self, opened: _Open) -> None:
        if opened.layout.size <= self._spare:
            self._spare -= opened.layout.size
            opened.spool.close()
        else:
            opened.spool.retire(self.folder / SPARE)

    def _wait(self, number: int, stop: Callable[[], bool]) -> _Open | None:
        with self._changed:
            while number not in self._open or not self._open[number].full.is_set():
                if self._error is not None:
                    raise self._error
                if stop():
                    return None
                self._changed.wait(0.1)
            return self._open[number]

    def _fill(self, windows: Sequence[Window], wanted: set[int]) -> None:
        try:
            most = windows_on_disk(self._windows)
            for window in windows:
                with self._changed:
                    while len(self._open) >= most and not self._stop.is_set():
                        self._changed.wait(0.1)
                if self._stop.is_set():
                    return
                self._fill_one(window, wanted)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _fill_one(self, window: Window, wanted: set[int]) -> None:
        path = self.folder / f"window-{window.number}"
        layout = lay_out(self.trajectory.rows, window.slabs, self.gap)
        left = [s for s in window.slabs if s.index in wanted]
        needed = layout if len(left) == len(window.slabs) else lay_out(self.trajectory.rows, left, self.gap)
        if needed is not layout and not (path.exists() and path.stat().st_size == layout.size):
            layout = needed  # merging covers the whole window, so requests that are done are left out here
        opened = _Open(window, layout, Spool(path, layout.size, self.folder / SPARE))
        opened.left &= wanted
        with self._changed:
            self._open[window.number] = opened
        requests = [SpoolRequest(*r) for r in layout.requests()]
        if needed is not layout:
            requests = [r for r in requests if _touches(needed, r)]
        fetch_into(self.source, [(opened.spool, requests)], self._stop.is_set)
        with self._changed:
            opened.full.set()
            self._changed.notify_all()


def _touches(layout: Layout, request: SpoolRequest) -> bool:
    return any(s.file == request.file and s.lo < request.hi and request.lo < s.hi for s in layout.stretches)
