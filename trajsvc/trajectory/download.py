"""Copy a run into theta before its Grams are computed.

From the network whole files are fetched, each distinct content once, and verified by their SHA-256 before a value of
them is kept.

Ranges cannot be verified: a SHA-256 covers a whole file in order. So a copy is made file by file, row by row, and the
Grams are computed from the copy, slab by slab with the same plan, so that the results have the same bits.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from storage_schema.files.durable import feed
from storage_schema.files.inside import folder_inside, path_inside
from storage_schema.format.arrays import ITEMSIZE
from storage_schema.runs.writer import RunWriter
from trajsvc.errors import DamagedCheckpoint
from trajsvc.sources.base import Cache, RemoteReading, TensorEntry
from trajsvc.sources.ranges import MergedRange
from trajsvc.trajectory.copy import ThetaSink
from trajsvc.trajectory.elements import (
    Place,
    delivered,
    element_places,
    raw_bytes,
    scale_place,
    stored_itemsize,
    whole_record,
)
from trajsvc.trajectory.matrix import Trajectory, checksum_mismatch
from trajsvc.trajectory.spool import Kept, Spool, SpoolRequest, fetch_into

STEP: Final = 2**22
"""Elements of a tensor that are copied at once."""
BATCH_FILES: Final = 64

Told = Callable[[int, int], None]
"""``told(done, total)``: bytes of files that are copied."""


def import_files(trajectory: Trajectory, sink: ThetaSink, told: Told, stop: Callable[[], bool]) -> None:
    """Copy rows of files on this machine, tensor by tensor, before anything is computed.

    This is for a job whose slabs other processes read from the copy. What was copied survives a crash; archives'
    checksums are compared. Returns early when ``stop`` returns True.

    Raises DamagedCheckpoint (``checksum-mismatch``) and what the source raises.
    """
    total = done = 0
    for row in trajectory.rows[sink.first :]:
        total += sum(e.size * ITEMSIZE[e.dtype] for e in row.entries)
    told(0, total)
    for r in range(sink.first, len(trajectory.rows)):
        row = trajectory.rows[r]
        for c, entry in enumerate(row.entries):
            item = ITEMSIZE[entry.dtype]
            if not sink.has(r, c, 0, entry.size):
                if stop():
                    return
                _copy_tensor(trajectory, sink, r, c, stop)
            done += entry.size * item
        if stop():
            return
        sink.writer.sync_theta()
        told(done, total)


def _copy_tensor(trajectory: Trajectory, sink: ThetaSink, row: int, column: int, stop: Callable[[], bool]) -> None:
    entry = trajectory.rows[row].entries[column]
    item = ITEMSIZE[entry.dtype]
    crc = 0
    for lo in range(0, entry.size, STEP):
        if stop():
            return
        hi = min(entry.size, lo + STEP)
        values: NDArray[np.uint8] = np.empty((hi - lo) * item, np.uint8)
        codes = trajectory.read(column, row, lo, hi, values.data)
        one = isal_zlib.crc32(values) if codes is None else codes
        crc = isal_zlib.crc32_combine(crc, one, (hi - lo) * stored_itemsize(entry))
        sink(column, row, lo, values)
    if whole_record(entry) and crc != entry.crc32:
        raise checksum_mismatch(entry, trajectory.rows[row].step)


@dataclass(frozen=True)
class Held:
    """A part of a tensor in a file: its row and column, its place, and the elements [lo, hi) that it holds."""

    row: int
    column: int
    entry: TensorEntry
    place: Place
    lo: int
    hi: int


@dataclass(frozen=True)
class Content:
    """A file's contents: where it can be fetched (one of its copies), and every tensor of the run that lies in it or in
    a copy.
    """

    file: str
    size: int
    digest: str
    held: tuple[Held, ...]
    files: tuple[str, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(h.row for h in self.held))


def contents(trajectory: Trajectory, source: RemoteReading, first: int = 0) -> list[Content]:
    """Return the distinct file contents that rows ``first`` and later are made of, in the order of the rows."""
    sizes = {f.path: f.size for row in trajectory.rows[first:] for f in row.checkpoint.files}
    held: dict[str, list[Held]] = {}
    files: dict[str, list[str]] = {}
    for r, row in enumerate(trajectory.rows[first:], start=first):
        for c, entry in enumerate(row.entries):
            item = stored_itemsize(entry)
            for place in element_places(entry, 0, entry.size):
                digest = source.digest(place.file)
                lo = place.at // item
                hi = entry.size if entry.strides is not None else lo + (place.hi - place.lo) // item
                held.setdefault(digest, []).append(Held(r, c, entry, place, lo, hi))
                names = files.setdefault(digest, [])
                if place.file not in names:
                    names.append(place.file)
    return [Content(files[d][0], sizes[files[d][0]], d, tuple(h), tuple(files[d])) for d, h in held.items()]


class Importer:
    """Fetch contents and copy them into the rows of a theta.

    Files lie in ``place`` until they are copied, half of its room at a time.
    """

    def __init__(
        self, trajectory: Trajectory, source: RemoteReading, writer: RunWriter, sink: ThetaSink, place: Cache
    ) -> None:
        self.trajectory, self.source, self.writer, self.sink = trajectory, source, writer, sink
        self.folder, self.room = folder_inside(place.folder, "files", writer.name), place.room // 2
        self.windows = path_inside(place.folder, "windows", writer.name)
        self.kept = Kept(self.windows)
        self._stop = threading.Event()
        self._spares: list[Path] = []
        """files of contents that are copied, for those to come"""

    def run(self, told: Told | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Bring everything that is not there yet; what was brought survives a crash. Raises what the source raises, DamagedCheckpoint
        (``wrong-bytes``) for contents that are not what their digest says, twice; returns early when ``stop`` says so."""
        every = contents(self.trajectory, self.source, self.sink.first)
        todo = [c for c in every if not all(self.sink.has(h.row, h.column, h.lo, h.hi) for h in c.held)]
        total = sum(c.size for c in every)
        done = total - sum(c.size for c in todo)
        halted = lambda: stop() or self._stop.is_set()  # noqa: E731
        for stale in self.folder.glob("*.spare"):
            stale.unlink(missing_ok=True)
        if told is not None:
            told(done, total)
        with ThreadPoolExecutor(1, thread_name_prefix="trajsvc-fetch") as pool:
            coming: Future[list[Spool]] | None = None
            batches = list(self._batches(todo))
            try:
                for i, batch in enumerate(batches):
                    spools = (coming or pool.submit(self._fetch, batch, (), halted)).result()
                    # The next files come while these are proved and copied.
                    spares, self._spares = self._spares, []
                    coming = pool.submit(self._fetch, batches[i + 1], spares, halted) if i + 1 < len(batches) else None
                    if stop():
                        return
                    for content, spool in zip(batch, spools, strict=True):
                        self._prove(content, spool, halted)
                        self._copy(content, spool)
                        self._retire(spool)
                        done += content.size
                        if told is not None:
                            told(done, total)
                    self.writer.sync_theta()
            finally:
                self._stop.set()
        for folder in (self.folder, self.windows):
            with suppress(OSError):
                shutil.rmtree(folder)

    def _batches(self, todo: Sequence[Content]) -> Iterator[list[Content]]:
        """Yield contents that are fetched together; one that is larger than the room comes alone."""
        batch: list[Content] = []
        for content in todo:
            if batch and (sum(c.size for c in batch) + content.size > self.room or len(batch) >= BATCH_FILES):
                yield batch
                batch = []
            batch.append(content)
        if batch:
            yield batch

    def _retire(self, spool: Spool) -> None:
        self._spares.append(spool.path.with_name(f"{spool.path.name}.spare"))
        spool.retire(self._spares[-1])

    def _fetch(self, batch: Sequence[Content], spares: Sequence[Path], stop: Callable[[], bool]) -> list[Spool]:
        pairs = zip_longest(batch, spares[: len(batch)])
        spools = [Spool(path_inside(self.folder, content.digest), content.size, spare) for content, spare in pairs]
        for spare in spares:  # there is room for two batches
            spare.unlink(missing_ok=True)
        there = [self.kept.fill(s, c.files) for s, c in zip(spools, batch, strict=True)]
        # Every file's ranges at once, so that small files do not wait for each other.
        fetch_into(self.source, [(s, _requests(c, t)) for s, c, t in zip(spools, batch, there, strict=True)], stop)
        return spools

    def _prove(self, content: Content, spool: Spool, stop: Callable[[], bool]) -> None:
        for attempt in (1, 2):
            if stop() or file_digest(spool, content) == content.digest:
                return
            if attempt == 1:
                spool.forget()
                fetch_into(self.source, [(spool, _requests(content, ()))], stop)
        spool.remove()
        raise DamagedCheckpoint(
            "wrong-bytes",
            f"{content.file} came twice with bytes that do not have the SHA-256 that the Hub lists for it",
            hint="A proxy alters files, or the Hub's own copy is damaged: leave the checkpoint out with --steps.",
            file=content.file, step=self.trajectory.rows[content.held[0].row].step,
        )  # fmt: skip

    def _copy(self, content: Content, spool: Spool) -> None:
        for held in content.held:
            entry = held.entry
            step = entry.size if entry.strides is not None else STEP
            for lo in range(held.lo, held.hi, step):
                hi = min(held.hi, lo + step)
                values: NDArray[np.uint8] = np.empty(raw_bytes(entry, lo, hi), np.uint8)
                self._read(held, lo, hi, values, spool)
                if not entry.plain:
                    values = np.frombuffer(delivered(entry, values, lo, hi), np.uint8)
                self.sink(held.column, held.row, lo, values)

    def _read(self, held: Held, lo: int, hi: int, out: NDArray[np.uint8], spool: Spool) -> None:
        """Read the bytes of elements [lo, hi) from the file, and their scales, which may lie in another file, from the
        source.
        """
        entry, place = held.entry, held.place
        scale = None if entry.encoding is None else entry.encoding.scale
        elements = len(out)
        if scale is not None:
            beside = scale_place(entry, scale, lo, hi)
            elements = beside.at
            self.trajectory.source.read(beside.file, beside.lo, out[elements:].data)
        begin = place.lo if entry.strides is not None else place.lo + (lo - held.lo) * stored_itemsize(entry)
        spool.read(out[:elements].data, begin)


def _requests(content: Content, there: Sequence[tuple[int, int]]) -> list[SpoolRequest]:
    """Return requests for a file, without the ranges that are there."""
    return [
        SpoolRequest(content.file, lo, hi, lo)
        for begin, end in _without(content.size, there)
        for lo, hi in MergedRange(content.file, begin, end, ()).requests()
    ]


def _without(size: int, there: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return [0, size) without the ranges that are there."""
    rest, at = [], 0
    for lo, hi in (*there, (size, size)):
        if lo > at:
            rest.append((at, lo))
        at = max(at, hi)
    return rest


def file_digest(spool: Spool, content: Content) -> str:
    """Compute the digest of a spool's bytes, of the kind that its content is listed with."""
    if content.digest.startswith("git-"):
        git = hashlib.sha1(b"blob %d\0" % content.size, usedforsecurity=False)
        feed(spool.descriptor, 0, content.size, git)
        return f"git-{git.hexdigest()}"
    hasher = hashlib.sha256()
    feed(spool.descriptor, 0, content.size, hasher)
    return hasher.hexdigest()
