"""One committed generation of a run, as it was when it was opened, every byte proved against the manifest.

Small files are read and proved at once, larger ones are held open and proved before their first use, so a snapshot keeps
answering from its own generation while a writer commits the next. Only theta is found by name when asked for: its
files are never rewritten, and where a later commit replaced them the answer is StoreChanged, never other bytes.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage_schema.errors import StoreChanged, StoreDamaged
from storage_schema.files.durable import feed
from storage_schema.files.regular import NotRegular, open_regular, read_file
from storage_schema.format.arrays import THETA, THETA_ARCHIVE
from storage_schema.format.manifest import MANIFEST, FileEntry, parse, read_manifest

SMALL: Final = 2**20
"""Files up to this size are kept in memory, proved."""
_ATTEMPTS: Final = 20
_LAZY: Final = (f"{THETA}/c/", f"{THETA_ARCHIVE}/c/")


class Snapshot:
    """The files of one generation; safe to use from several threads."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._proved: dict[str, tuple[int, int, int]] = {}
        for _ in range(_ATTEMPTS):
            self.manifest = read_manifest(run)
            self._small: dict[str, bytes] = {}
            self._held: dict[str, int] = {}
            # what the finalizer closes must not be self, or self would never go
            self._close = weakref.finalize(self, _close_all, self._held)
            try:
                self._pin()
            except (StoreDamaged, StoreChanged):
                self._close()
                if not self.outdated():
                    raise
                continue
            # A writer touches this generation's files only after it has renamed the next manifest into place: if ours
            # still stands, every file held is ours.
            if not self.outdated():
                return
            self._close()
        raise StoreChanged(run, "the run is being committed faster than it can be read", "Try again in a moment.")

    def _pin(self) -> None:
        for key, entry in self.manifest.files.items():
            if key.startswith(_LAZY):
                continue
            fd = self._open(key)
            if entry.size > SMALL:
                self._held[key] = fd
                continue
            try:
                self._small[key] = self._whole(key, fd)
            finally:
                os.close(fd)

    def outdated(self) -> bool:
        """Return whether a writer has committed a later generation."""
        try:
            raw = read_file(self.run / MANIFEST)
        except FileNotFoundError:
            return True
        # the seal is enough, so that a run of many files is not parsed again
        return not raw.startswith(b'{"sha256": "' + self.manifest.digest.encode())

    def read(self, key: str) -> bytes:
        """Read a whole file. Raises StoreDamaged if it is not what was committed."""
        if key in self._small:
            return self._small[key]
        with self._opened(key) as fd:
            return self._whole(key, fd)

    def read_into(self, key: str, at: int, out: memoryview) -> None:
        """Fill ``out`` from byte ``at`` of a file, which is verified as a whole before its first use."""
        with self._opened(key) as fd:
            if at == 0 and len(out) == self.entry(key).size:
                out[:] = self._whole(key, fd)
                return
            self._prove(key, fd)
            done = 0
            while done < len(out):
                count = os.preadv(fd, [out[done:]], at + done)
                if count == 0:
                    raise self._damaged(key, "is cut short")
                done += count

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes [start, stop) of a file, stopping at its end."""
        if key in self._small:
            return self._small[key][start:stop]
        out = bytearray(max(0, min(stop, self.entry(key).size) - start))
        self.read_into(key, start, memoryview(out))
        return bytes(out)

    def entry(self, key: str) -> FileEntry:
        try:
            return self.manifest.files[key]
        except KeyError:
            raise self._damaged(key, "was never committed") from None

    def damaged(self) -> tuple[str, ...]:
        """Hash every file again, as it lies on disk now; return the keys of those that differ or are gone."""
        found = tuple(key for key in self.manifest.files if not self._is_whole(key))
        parse(read_file(self.run / MANIFEST), self.run / MANIFEST)
        if found and self.outdated():
            raise self._changed()
        return found

    def _is_whole(self, key: str) -> bool:
        try:
            fd = self._open(key)
        except (StoreDamaged, StoreChanged):
            return False
        try:
            return _hash(fd) == self.manifest.files[key]
        finally:
            os.close(fd)

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        self.entry(key)
        held = self._held.get(key)
        fd = self._open(key) if held is None else held
        try:
            yield fd
        finally:
            if held is None:
                os.close(fd)

    def _open(self, key: str) -> int:
        """Open a file where it lies now: in its generation's folder, or in its final place."""
        for path in (self.run / self.manifest.pending() / key, self.run / key):
            try:
                return open_regular(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except NotRegular:
                raise self._damaged(key, "is not a regular file") from None
        raise self._damaged(key, "is missing")

    def _whole(self, key: str, fd: int) -> bytes:
        entry = self.entry(key)
        mark = _mark(fd)
        data = os.pread(fd, entry.size + 1, 0)
        while 0 < len(data) < entry.size and (more := os.pread(fd, entry.size - len(data), len(data))):
            data += more
        self._compare(key, FileEntry(len(data), "" if self._proved.get(key) == mark else _digest(data)))
        self._proved[key] = mark
        return data

    def _prove(self, key: str, fd: int) -> None:
        mark = _mark(fd)
        if self._proved.get(key) != mark:
            self._compare(key, _hash(fd))
            self._proved[key] = mark

    def _compare(self, key: str, found: FileEntry) -> None:
        entry = self.entry(key)
        if found.size != entry.size or (found.sha256 and found.sha256 != entry.sha256):
            raise self._damaged(key, "is not what was committed")

    def _damaged(self, key: str, what: str) -> StoreDamaged | StoreChanged:
        if self.outdated():
            return self._changed()
        return StoreDamaged(
            self.run / key,
            f"the stored file {key} {what}",
            "Restore it from a copy, or remove the run and analyze the source again.",
        )

    def _changed(self) -> StoreChanged:
        if not (self.run / MANIFEST).exists():
            return StoreChanged(self.run, "the run was removed while it was being read", "Analyze the source again.")
        return StoreChanged(self.run, "the run was committed anew while it was being read", "Open it again.")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _mark(fd: int) -> tuple[int, int, int]:
    """Return (inode, size, modification time), which change when a file is replaced or written in place."""
    status = os.fstat(fd)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _hash(fd: int) -> FileEntry:
    hasher = hashlib.sha256()
    size = feed(fd, 0, os.fstat(fd).st_size, hasher)
    return FileEntry(size, hasher.hexdigest())


def hash_file(path: Path) -> FileEntry:
    """Return size and SHA-256 of a file as it lies on disk."""
    fd = open_regular(path)
    try:
        return _hash(fd)
    finally:
        os.close(fd)


def hash_pieces(pieces: Iterable[bytes | memoryview]) -> FileEntry:
    """Return size and SHA-256 of a file of these pieces."""
    hasher, size = hashlib.sha256(), 0
    for piece in pieces:
        hasher.update(piece)
        size += len(piece)
    return FileEntry(size, hasher.hexdigest())


def _close_all(held: dict[str, int]) -> None:
    while held:
        os.close(held.popitem()[1])
