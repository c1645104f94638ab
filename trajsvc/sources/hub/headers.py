"""Read the heads and tails of files on the Hub, each once, and learn from one file where the headers of similar files
lie.

A safetensors header is at the beginning of its file; a torch archive has its pickle there and its directory at the end.
The first file of a name is read step by step; the length that it took is requested at once of the next ones, whose
headers have the same length. What came is kept on disk under the digest of the file, so that neither a plan followed by
its analysis nor a resumed one requests it again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from xxhash import xxh3_64_hexdigest

from storage_schema.files.inside import read_inside, write_inside
from trajsvc.sources.files import Region

FIRST: Final = 2**13
"""Bytes of the first request of a file whose siblings are unknown."""
WHOLE: Final = 2**14
"""Files up to this size (configurations, indexes) are read whole."""

LARGEST: Final = 2**26
"""Bytes of a kept file that is read."""
_NUMBER: Final = re.compile(r"\d+")

ReadRange = Callable[[str, int, int], bytes]
"""``read(path, lo, hi)``: bytes of a file over the network."""


@dataclass
class _Learnt:
    """How far the headers of files of one name (ignoring its numbers) reach from the beginning, and from the end."""

    head: int = 0
    tail: int = 0


@dataclass
class _Held:
    """The bytes of one file that are in memory: disjoint ranges by offset."""

    pieces: dict[int, bytes] = field(default_factory=dict)
    changed: bool = False

    def get(self, lo: int, hi: int) -> bytes | None:
        for at, data in self.pieces.items():
            if at <= lo and hi <= at + len(data):
                return data[lo - at : hi - at]
        return None

    def missing(self, lo: int, hi: int) -> tuple[int, int]:
        """Return [lo, hi) without what is held at its ends."""
        for at, data in self.pieces.items():
            if at <= lo < at + len(data):
                lo = at + len(data)
            if at < hi <= at + len(data):
                hi = at
        return lo, hi

    def add(self, lo: int, data: bytes) -> None:
        """Add bytes that came, joining them with those they touch."""
        for at in sorted(self.pieces):
            if at + len(self.pieces[at]) == lo:
                lo, data = at, self.pieces.pop(at) + data
                break
        after = self.pieces.pop(lo + len(data), None)
        self.pieces[lo] = data if after is None else data + after
        self.changed = True


class Headers:
    """Regions of remote files for the readers of headers. ``folder``: where they are kept (None: in memory only). Thread-safe."""

    def __init__(self, read: ReadRange, folder: Path | None) -> None:
        self._read, self._folder = read, folder
        self._lock = threading.Lock()
        self._learnt: dict[str, _Learnt] = {}
        self._held: dict[str, _Held] = {}
        self._busy: dict[str, threading.Lock] = {}

    def region(self, path: str, size: int, digest: str) -> Region:
        """Return ``path`` as a region.

        ``digest`` (SHA-256, or the blob's id) names its contents: copies of a file are read once.
        """
        with self._lock:
            if digest not in self._held:
                self._held[digest] = self._load(digest)
            held, busy = self._held[digest], self._busy.setdefault(digest, threading.Lock())
            learnt = self._learnt.setdefault(_NUMBER.sub("#", PurePosixPath(path).name), _Learnt())

        def read(offset: int, count: int) -> bytes:
            with busy:
                return self._get(path, size, held, learnt, offset, offset + count)

        return Region(path, 0, size, read, distant=True)

    def keep(self, digest: str) -> None:
        """Write what came of a file to disk; its header was read successfully."""
        held = self._held.get(digest)
        if held is None or self._folder is None:
            return
        with self._busy[digest]:  # copies of a file are read by several threads
            if held.changed:
                self._write(digest, held)

    def forget(self) -> None:
        """Drop what is in memory; what was kept on disk stays."""
        with self._lock:
            self._held.clear()
            self._busy.clear()

    def _get(self, path: str, size: int, held: _Held, learnt: _Learnt, lo: int, hi: int) -> bytes:
        while (found := held.get(lo, hi)) is None:
            begin, end = held.missing(*self._asked(size, learnt, lo, hi))
            held.add(begin, self._read(path, begin, end))
        if lo < size // 2 or hi <= FIRST:
            learnt.head = max(learnt.head, hi)
        else:
            learnt.tail = max(learnt.tail, size - lo)
        return found

    def _asked(self, size: int, learnt: _Learnt, lo: int, hi: int) -> tuple[int, int]:
        """Return the range to request when [lo, hi) is needed."""
        if size <= WHOLE:
            return 0, size
        if lo < (learnt.head or FIRST):
            return 0, max(hi, min(learnt.head or FIRST, size))
        if learnt.tail and size - learnt.tail <= lo:
            return size - learnt.tail, size
        return lo, hi

    def _write(self, digest: str, held: _Held) -> None:
        assert self._folder is not None
        parts = [f"{at} {len(data)}\n".encode() for at, data in sorted(held.pieces.items())]
        data = b"".join(d for _, d in sorted(held.pieces.items()))
        whole = b"".join([xxh3_64_hexdigest(data).encode(), b"\n", *parts, b"\n", data])
        write_inside(self._folder, *_place(digest), data=whole)
        held.changed = False

    def _load(self, digest: str) -> _Held:
        held = _Held()
        if self._folder is None:
            return held
        try:
            words, data = (read_inside(self._folder, *_place(digest), most=LARGEST) or b"").split(b"\n\n", 1)
            proof, *lines = words.decode("ascii").split("\n")
            stretches = [(int(offset), int(count)) for offset, count in (line.split(" ") for line in lines)]
        except ValueError:  # what cannot be read is asked for again
            return held
        if proof != xxh3_64_hexdigest(data) or sum(count for _, count in stretches) != len(data):
            return held
        at = 0
        for offset, count in stretches:
            held.pieces[offset] = data[at : at + count]
            at += count
        return held


def _place(digest: str) -> tuple[str, ...]:
    return "headers", digest[:2], digest
