"""Durable, atomic writes of files and directories; a full disk is a typed error."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage_schema.errors import StoreBusy, TrajsvcError
from storage_schema.files.regular import open_regular
from storage_schema.files.system_errors import of_system

Buffer = bytes | memoryview

_READ: Final = 2**20
_SYNC_THREADS: Final = 8
"""fsyncs that wait together share one journal write of the file system"""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Map an OSError raised inside the block, which writes under ``path``, to a TrajsvcError (see ``of_system``)."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TrajsvcError):
            raise
        where = error.filename if isinstance(error.filename, str) else path
        raise of_system(error, where, writing=True) from error


def write_all(fd: int, data: Buffer, at: int) -> None:
    """Write all of ``data`` at byte ``at``. A single pwrite may stop short; the next one then raises the reason."""
    view = memoryview(data).cast("B")
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


def write_pieces(fd: int, pieces: Iterable[Buffer], at: int = 0) -> int:
    """Write all of ``pieces``, one after the other, from byte ``at``; return their total size in bytes."""
    end = at
    for piece in pieces:
        write_all(fd, piece, end)
        end += len(piece)
    return end - at


def read_all(fd: int, out: memoryview, at: int) -> None:
    """Fill ``out`` from byte ``at``. Raises EOFError where the file ends first."""
    while out:
        done = os.preadv(fd, [out], at)
        if done == 0:
            raise EOFError(f"the file ends {len(out)} bytes before what is read")
        out, at = out[done:], at + done


def sync_dir(path: Path) -> None:
    """Make the names in a directory durable (fsync)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    fd = open_regular(path)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_many(files: Iterable[Path], directories: Iterable[Path]) -> None:
    """Sync the files first, then the directories that name them."""
    with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="trajsvc-sync") as pool:
        list(pool.map(sync_file, files))
        list(pool.map(sync_dir, directories))


def make_dir(path: Path) -> None:
    """Create a directory and its parents so that they survive a crash."""
    if not path.is_dir():
        make_dir(path.parent)
        path.mkdir(exist_ok=True)
        sync_dir(path.parent)


def replace_file(path: Path, *data: Buffer, writers: bool = False) -> int:
    """Replace the contents of ``path`` by ``data`` (in pieces) atomically and return its size in bytes.

    At every instant the file holds either the old contents or the new ones. With ``writers``, other threads, processes
    or machines may write it at the same time: the last one wins.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8) if writers else 'new'}")
    fd = open_regular(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        size = write_pieces(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    beside.replace(path)
    sync_dir(path.parent)
    return size


def feed(fd: int, start: int, stop: int, hasher: hashlib._Hash) -> int:
    """Add bytes [start, stop) of a file to ``hasher``; return how many there were."""
    at = start
    while at < stop:
        block = os.pread(fd, min(_READ, stop - at), at)
        if not block:
            break
        hasher.update(block)
        at += len(block)
    return at - start


class Lock:
    """A lock on a file, with at most one holder among all processes; the file contains the holder's process id.

    The lock is the kernel's (flock), so it is released when its process ends in any way.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock, without waiting. Raises StoreBusy when another process or thread holds it."""
        while True:
            fd = open_regular(self.path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                    raise
                raise StoreBusy(
                    self.path,
                    f"the run is being written by process {holder or 'unknown'}",
                    "Wait for it to finish, or stop it, then run the same command again.",
                ) from None
            if self._is_current(fd):
                break
            os.close(fd)  # the holder before us removed the file: a newcomer would lock another one
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self, *, remove: bool = False) -> None:
        if self._fd >= 0:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def size_of(folder: Path) -> int:
    """Return the bytes of all files below ``folder``; 0 where there is none."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
