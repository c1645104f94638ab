"""New rows of theta, written as slabs bring them: any column range, in any order, from any thread.

Each range goes straight to its place in a file of the next generation's folder, which no reader looks at. What was
written is remembered durably at each ``sync``, so that a resumed job continues and a row with a hole is never committed.
SHA-256 is kept up as the bytes pass wherever they arrive in order; only what came out of order is read again at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from storage_schema.errors import ThetaIncomplete
from storage_schema.files.durable import feed, make_dir, replace_file, sync_many, write_all, writing
from storage_schema.files.regular import open_regular, read_file
from storage_schema.format.manifest import FileEntry
from storage_schema.format.theta import ThetaLayout
from storage_schema.runs.theta_rows import read_columns

if TYPE_CHECKING:
    from typing_extensions import Buffer

_HASH_THREADS: Final = 2


class Spans:
    """A set of integers as disjoint, sorted half-open ranges."""

    def __init__(self, ranges: Iterable[Iterable[int]] = ()) -> None:
        self.starts: list[int] = []
        self.stops: list[int] = []
        for lo, hi in ranges:
            self.add(lo, hi)

    def add(self, lo: int, hi: int) -> None:
        """Add [lo, hi), joining the ranges it touches."""
        if lo >= hi:
            return
        first, last = bisect_left(self.stops, lo), bisect_right(self.starts, hi)
        if first < last:
            lo, hi = min(lo, self.starts[first]), max(hi, self.stops[last - 1])
        self.starts[first:last], self.stops[first:last] = [lo], [hi]

    def covers(self, lo: int, hi: int) -> bool:
        at = bisect_right(self.starts, lo) - 1
        return lo >= hi or (at >= 0 and self.stops[at] >= hi)

    def gap(self, size: int) -> tuple[int, int] | None:
        """Return the first range of [0, size) that is not in the set; None if all of it is."""
        if self.covers(0, size):
            return None
        lo = self.stops[0] if self.starts and self.starts[0] == 0 else 0
        later = [s for s in self.starts if s > lo]
        return lo, min(size, later[0]) if later else size

    def pairs(self) -> list[list[int]]:
        return [list(pair) for pair in zip(self.starts, self.stops, strict=True)]


@dataclass
class _File:
    """One file being written: its bytes [0, hashed) are in the hasher."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    hasher: Any = field(default_factory=hashlib.sha256)
    hashed: int = 0
    written: Spans = field(default_factory=Spans)
    """bytes of this process's own writes"""
    made: bool = False

    def open(self, size: int) -> int:
        if not self.made:
            make_dir(self.path.parent)
        fd = open_regular(self.path, os.O_RDWR | os.O_CREAT)
        if not self.made and os.fstat(fd).st_size != size:
            os.ftruncate(fd, size)
        self.made = True
        return fd

    def follow(self, fd: int, at: int, data: memoryview) -> None:
        """Update the hash after a write of ``data`` at ``at``."""
        end = at + len(data)
        if at < self.hashed:  # written again: what the hasher holds may be old
            self.hasher, self.hashed = hashlib.sha256(), 0
        self.written.add(at, end)
        if at > self.hashed and self.written.covers(self.hashed, at):  # the hole before it was filled earlier
            self.hashed += feed(fd, self.hashed, at, self.hasher)
        if at == self.hashed:
            self.hasher.update(data)
            self.hashed = end


class ThetaStage:
    """Rows [first, layout.rows) of a theta, in the making. ``resumed`` says whether an earlier attempt's bytes are in it."""

    def __init__(self, folder: Path, layout: ThetaLayout, first: int, key: str, progress: Path) -> None:
        self.layout, self.first = layout, first
        self._folder = folder
        self._progress = progress
        self._identity = {"key": key, "first": first, "folder": folder.name, "layout": layout.to_json()}
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}
        self._dirty: set[str] = set()
        self._rows = {row: Spans(kept) for row, kept in self._resume().items()}
        self.resumed = bool(self._rows)

    def _resume(self) -> dict[int, list[list[int]]]:
        kept = _read(self._progress)
        if kept.get("identity") != self._identity:
            return {}
        return {row: spans for rows, spans in kept["written"] for row in rows}

    def write(self, row: int, lo: int, data: Buffer) -> None:
        """Write columns [lo, lo + n) of a row from n stored values. Raises DiskFull."""
        view = memoryview(data).cast("B")
        count, rest = divmod(len(view), self.layout.itemsize)
        if rest or not (self.first <= row < self.layout.rows and lo >= 0 and lo + count <= self.layout.columns):
            raise ValueError(f"{len(view)} bytes at row {row}, column {lo} do not fit {self.layout}")
        with writing(self._folder):
            for number, at, start, length in self.layout.pieces(lo, lo + count):
                self._put(self.layout.key(row, number), number, at, view[start : start + length])
        with self._lock:
            self._rows.setdefault(row, Spans()).add(lo, lo + count)

    def _put(self, key: str, number: int, at: int, data: memoryview) -> None:
        with self._lock:
            file = self._files.setdefault(key, _File(self._folder / key))
        with file.lock:
            fd = file.open(self.layout.data_bytes(number))
            try:
                write_all(fd, data, at)
                file.follow(fd, at, data)
            finally:
                os.close(fd)
        with self._lock:
            self._dirty.add(key)

    def covers(self, row: int, lo: int, hi: int) -> bool:
        """Return whether columns [lo, hi) of a row have been written."""
        with self._lock:
            return self._rows.get(row, Spans()).covers(lo, hi)

    def read(self, row: int, lo: int, out: memoryview) -> None:
        """Fill ``out`` with what was written at a row from column ``lo`` on.

        Raises ValueError if any of it was not written.
        """
        view = memoryview(out).cast("B")
        hi = lo + len(view) // self.layout.itemsize
        if not self.covers(row, lo, hi):
            raise ValueError(f"columns {lo} to {hi} of row {row} of theta are not written yet")
        read_columns(self._folder, self.layout, row, lo, view)

    def sync(self) -> None:
        """Make everything written so far durable, so that it survives a crash when this returns."""
        with self._lock:
            dirty, self._dirty = self._dirty, set()
            rows: dict[str, list[int]] = {}
            for row, spans in sorted(self._rows.items()):  # slabs cover all rows: one list serves them all
                rows.setdefault(json.dumps(spans.pairs()), []).append(row)
        paths = [self._folder / key for key in dirty]
        words = {"identity": self._identity, "written": [[r, json.loads(s)] for s, r in rows.items()]}
        try:
            with writing(self._folder):
                sync_many(paths, {path.parent for path in paths})
                make_dir(self._progress.parent)
                replace_file(self._progress, json.dumps(words).encode())
        except BaseException:
            with self._lock:
                self._dirty |= dirty
            raise

    def finish(self) -> dict[str, FileEntry]:
        """Close the rows, make them durable and return every file's size and SHA-256.

        Raises ThetaIncomplete if a row has a hole.
        """
        for row in range(self.first, self.layout.rows):
            gap = self._rows.get(row, Spans()).gap(self.layout.columns)
            if gap is not None:
                raise ThetaIncomplete(
                    self._folder,
                    f"columns {gap[0]} to {gap[1]} of row {row} of theta were never written",
                    "Start the analysis anew: the earlier attempt's copy is gone.",
                )
        places = [(row, n) for row in range(self.first, self.layout.rows) for n in range(self.layout.files_in_row)]
        with writing(self._folder), ThreadPoolExecutor(_HASH_THREADS, thread_name_prefix="trajsvc-hash") as pool:
            return dict(pool.map(lambda place: self._close(*place), places))

    def _close(self, row: int, number: int) -> tuple[str, FileEntry]:
        key = self.layout.key(row, number)
        file = self._files.get(key) or _File(self._folder / key)
        size = self.layout.data_bytes(number)
        tail = self.layout.tail(number)
        fd = file.open(size)
        try:
            hasher = file.hasher.copy()  # a commit that fails after this may be tried again
            feed(fd, file.hashed, size, hasher)
            write_all(fd, tail, size)
            hasher.update(tail)
            os.fsync(fd)
        finally:
            os.close(fd)
        return key, FileEntry(size + len(tail), hasher.hexdigest())


def resumable(progress: Path) -> str:
    """Return the name of the stage whose rows the file ``progress`` records; empty if there is none."""
    return str(_read(progress).get("identity", {}).get("folder", ""))


def _read(progress: Path) -> dict[str, Any]:
    try:
        kept = json.loads(read_file(progress))
    except (FileNotFoundError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
