"""Read and write files below a folder under names from an untrusted source: no name leads out of it, and no link is
followed below it.

Names from a network or a file (commits, digests, repositories) become paths only here. The folder itself is chosen by
the operator and may be a link.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage_schema.errors import StoreUnwritable
from storage_schema.files.durable import Buffer, write_pieces, writing

LONGEST: Final = 128
"""Characters of an escaped name; what is longer ends with a digest of the whole."""
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_LINKS: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def file_name(name: str) -> str:
    """Make a file name from any text, a different one for each text.

    Letters, digits, ``-_`` and all dots but a leading one stay; every other byte of the UTF-8 text becomes ``%XX``. A
    name that would be too long ends in a hash of the whole text.

    >>> file_name("model-1.safetensors"), file_name("../../etc"), file_name("")
    ('model-1.safetensors', '%2E.%2F..%2Fetc', '%')
    """
    kept = [c if c in _PLAIN else "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogatepass")) for c in name]
    if name.startswith("."):
        kept[0] = "%2E"
    escaped = "".join(kept) or "%"
    if len(escaped) <= LONGEST:
        return escaped
    return f"{escaped[: LONGEST - 34]}%~{hashlib.sha256(escaped.encode()).hexdigest()[:32]}"


def path_inside(folder: Path, *names: str) -> Path:
    """Return the path of ``names`` below ``folder``, each mapped by ``file_name``.

    Raises StoreUnwritable if any part of it is a link.
    """
    path = folder
    for name in names:
        path = path / file_name(name)
        with writing(path):
            if path.is_symlink():
                raise _a_link(path)
    return path


def folder_inside(folder: Path, *names: str) -> Path:
    """Return the path of a folder below ``folder``, creating it if needed.

    Raises StoreUnwritable if any part of it is a link.
    """
    with writing(folder), _opened(folder, names, make=True):
        return path_inside(folder, *names)


def read_inside(folder: Path, *names: str, most: int) -> bytes | None:
    """Read a file below ``folder``. Return None if it is missing, cannot be read, or has more than ``most`` bytes."""
    try:
        with _opened(folder, names[:-1]) as above:
            descriptor = os.open(
                file_name(names[-1]), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above
            )
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            return file.read(most) if stat.S_ISREG(status.st_mode) and status.st_size <= most else None
    except (OSError, StoreUnwritable):
        return None


def write_inside(folder: Path, *names: str, data: Buffer) -> None:
    """Replace a file below ``folder`` by ``data`` atomically: at every instant it holds the old contents or the new
    ones.

    Raises DiskFull and StoreUnwritable.
    """
    name, beside = file_name(names[-1]), f".{secrets.token_hex(12)}.new"
    with writing(folder), _opened(folder, names[:-1], make=True) as above:
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=above
        )
        try:
            try:
                write_pieces(descriptor, [data])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(beside, name, src_dir_fd=above, dst_dir_fd=above)
        except BaseException:
            os.unlink(beside, dir_fd=above)
            raise
        os.fsync(above)


@contextmanager
def _opened(folder: Path, names: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the folder that ``names`` lead to; each is opened relative to the one before, without
    following links.
    """
    if make:
        folder.mkdir(parents=True, exist_ok=True)
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = folder
        for name in map(file_name, names):
            path = path / name
            below = _step(at, path, make=make)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def _step(at: int, path: Path, *, make: bool) -> int:
    if make:
        try:
            os.mkdir(path.name, dir_fd=at)
            os.fsync(at)
        except FileExistsError:
            pass
    try:
        return os.open(path.name, _FOLDER, dir_fd=at)
    except OSError as error:
        if error.errno in _LINKS:
            raise _a_link(path) from None
        raise


def _a_link(path: Path) -> StoreUnwritable:
    return StoreUnwritable(
        path, "a link or a file stands where a folder of the store is to be", "Remove it, or choose another store."
    )
