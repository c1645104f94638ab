"""Open files safely and read them by ranges: no memory maps, no devices, no links out of the root, few descriptors
held.

A file that another process may cut short must not be mapped: touching a lost page kills the process. Bytes are copied
by ``preadv`` into buffers that the caller owns.
"""

from __future__ import annotations

import os
import resource
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage_schema.files.system_errors import not_a_file, of_system
from trajsvc.errors import DamagedCheckpoint, NotFound, TrajsvcError, TryAgain, UnsafeFile
from trajsvc.sources.named import PATHS, Naming

PIECE: Final = 2**20
"""Bytes of a piece of a file that is compared with another."""
PIECES: Final = 1024
"""Pieces of a file that are compared."""


@dataclass(frozen=True, slots=True)
class Region:
    """A range of a file that is read in parts: a whole file, or an archive within one.

    ``read(offset, count)`` returns the bytes at an absolute offset of the file; ``base`` is where the region begins.
    For a ``distant`` region every read may be a request over the network.
    """

    path: str
    base: int
    size: int
    read: Callable[[int, int], bytes]
    distant: bool = False

    def bytes(self, offset: int, count: int) -> bytes:
        """Read ``count`` bytes at ``offset`` from the region's beginning.

        Raises DamagedCheckpoint (``truncated-file``) past its end.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise DamagedCheckpoint(
                "truncated-file",
                f"{self.path} is too short: {count} bytes are expected at {self.base + offset}, it ends at {self.base + self.size}",
                hint="The file was cut short: fetch or copy it again.",
                file=self.path,
            )
        return self.read(self.base + offset, count)

    def part(self, offset: int, size: int) -> Region:
        """Return a region within this one."""
        self.bytes(offset + size, 0)
        return Region(self.path, self.base + offset, size, self.read, self.distant)


class Files:
    """The open files of one source: at most ``limit`` descriptors, the least recently used closed first. Safe to use from threads."""

    def __init__(self, root: str | os.PathLike[str], limit: int | None = None, naming: Naming = PATHS) -> None:
        self.root, self.naming = os.path.realpath(root), naming
        self._limit = limit or _descriptor_limit()
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._expected: dict[str, tuple[int, int]] = {}

    def expect(self, path: str, size: int, mtime_ns: int) -> None:
        """Record the listed size and time of ``path``; if they differ when it is opened, TryAgain (``file-changed``) is
        raised.
        """
        self._expected[path] = (size, mtime_ns)

    def expected(self) -> dict[str, tuple[int, int]]:
        """Return size and time of every file that was listed."""
        return dict(self._expected)

    def region(self, path: str) -> Region:
        opened = self._take(path)
        self._give(opened)
        return Region(path, 0, opened.size, lambda offset, count: self.bytes(path, offset, count))

    def exists(self, path: str) -> bool:
        """Return whether there is anything of that name, a broken link too."""
        return os.path.lexists(self.naming.path(path))

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder below the root, in order; nothing where it is a link or cannot be listed."""
        at = Path(self.naming.path(folder))
        try:
            return [] if at.is_symlink() else sorted(entry.name for entry in at.iterdir())
        except OSError:
            return []

    def bytes(self, path: str, offset: int, count: int) -> bytes:
        out = bytearray(count)
        self.read(path, offset, memoryview(out))
        return bytes(out)

    def read(self, path: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` from ``offset``. Raises TryAgain (``file-changed``) when the file ends first."""
        flat = out.cast("B") if out.format != "B" or out.ndim != 1 else out
        opened = self._take(path)
        try:
            # One call is enough except after a signal and for reads of more than 2 GiB.
            done = os.preadv(opened.descriptor, (flat,), offset)
            while done < len(flat):
                count = os.preadv(opened.descriptor, (flat[done:],), offset + done)
                if count == 0:
                    missing = len(flat) - done
                    raise _changed(
                        path, f"became shorter: it ends at {offset + done}, {missing} bytes before what is read"
                    )
                done += count
        except OSError as error:
            raise error if isinstance(error, TrajsvcError) else failed(path, error) from error
        finally:
            self._give(opened)

    def forget(self) -> None:
        """Close all open files and forget their listed sizes and times."""
        self.close()
        self._expected.clear()

    def close(self) -> None:
        with self._lock:
            for opened in self._open.values():
                opened.stale = True
            idle = [o for o in self._open.values() if o.users == 0]
            self._open.clear()
        for opened in idle:
            os.close(opened.descriptor)

    def _give(self, opened: _Open) -> None:
        with self._lock:
            opened.users -= 1
            dead = opened.stale and opened.users == 0
        if dead:
            os.close(opened.descriptor)

    def same(self, one: str, other: str) -> bool:
        """Return whether two files hold the same bytes: all of them are compared, of large files pieces spread over them.

        At the end of an archive of torch stand the checksums of all that is in it. Raises what reading raises.
        """
        a, b = self.region(one), self.region(other)
        if a.size != b.size:
            return False
        pieces = -(-a.size // PIECE)
        step = max(1, pieces // PIECES)
        return all(
            a.bytes(lo, hi - lo) == b.bytes(lo, hi - lo)
            for i in sorted({*range(0, pieces, step), *range(max(0, pieces - 4), pieces)})
            for lo, hi in [(i * PIECE, min(a.size, (i + 1) * PIECE))]
        )

    def _take(self, path: str) -> _Open:
        with self._lock:
            opened = self._open.get(path)
            if opened is not None:
                self._open.move_to_end(path)
                opened.users += 1
                return opened
        fresh = self._opened(path)
        with self._lock:
            # Two threads may have opened the same file: the later descriptor is used once and closed.
            fresh.users = 1
            fresh.stale = path in self._open
            if not fresh.stale:
                self._open[path] = fresh
            surplus = self._evicted()
        for each in surplus:
            os.close(each.descriptor)
        return fresh

    def _evicted(self) -> list[_Open]:
        idle = [p for p, o in self._open.items() if o.users == 0]
        return [self._open.pop(p) for p in idle[: max(0, len(self._open) - self._limit)]]

    def _opened(self, path: str) -> _Open:
        try:
            descriptor = open_beneath(self.root, path, self.naming)
        except NotFound:
            if path in self._expected:
                raise _changed(path, "is gone since it was listed") from None
            raise
        status = os.fstat(descriptor)
        if self._expected.get(path, (status.st_size, status.st_mtime_ns)) != (status.st_size, status.st_mtime_ns):
            os.close(descriptor)
            raise _changed(path, "changed since it was listed")
        return _Open(descriptor, status.st_size)


@dataclass(slots=True)
class _Open:
    descriptor: int
    size: int
    users: int = 0
    stale: bool = False
    """no longer in the table: the last user closes it"""


def _changed(path: str, how: str) -> TryAgain:
    return TryAgain(
        "file-changed", f"{path} {how}", hint="Wait until the file is written completely and run again.", file=path
    )


def open_beneath(root: str, path: str, naming: Naming = PATHS) -> int:
    """Open the regular file called ``path``, which with all its links resolved must lie within ``root`` (itself
    resolved); return its descriptor.

    The resolved path is walked part by part without following links, so that a link put in its way meanwhile is
    refused. Raises UnsafeFile (``link-outside``, ``link-loop``, ``not-a-file``), TryAgain (``file-changed``) when it is
    gone, Refused.
    """
    try:
        real = os.path.realpath(naming.path(path), strict=True)
        if os.path.commonpath([root, real]) != root:
            raise UnsafeFile(
                "link-outside",
                f"{path} leads to {naming.name(real)}, which lies outside {naming.name(root)}",
                hint="Put the file itself in the folder, or give the folder that holds it.",
                file=path,
            )
        return _open_regular(root, Path(real).relative_to(root).parts, path)
    except OSError as error:
        if isinstance(error, TrajsvcError):
            raise
        raise failed(path, error) from error


def _open_regular(root: str, parts: tuple[str, ...], path: str) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    folder = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = below
        # O_NONBLOCK: opening a FIFO without a writer would wait forever.
        descriptor = os.open(parts[-1] if parts else ".", flags | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_a_file(path)
    return descriptor


def failed(path: str, error: OSError) -> TrajsvcError:
    """Return the error for a file that the operating system does not let us read."""
    return of_system(error, path)


def _descriptor_limit() -> int:
    """Return half of what the process may open, so that the store, the cluster and the interfaces keep the rest."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 512 if soft == resource.RLIM_INFINITY else max(4, min(512, soft // 2))
