"""Open files that must be regular ones: a pipe without a writer would be waited for without end, and a device has none.

Whatever is read or changed under a known name in a store, a cache or a work folder, or was named by a user, is opened here.
Those who follow no links besides, ``inside`` and ``trajsvc.sources.files``, ask for the same.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

PIPED: Final = 2**24
"""Bytes that are read of a pipe."""


class NotRegular(OSError):
    """A folder, a pipe, a device or a socket in the place of a file."""


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """Return a descriptor of a regular file. Raises NotRegular, and what opening raises."""
    return _open(path, flags, mode)[0]


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file to be read. Raises NotRegular, and what opening raises."""
    return os.fdopen(open_regular(path), "rb")


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a regular file. Raises NotRegular, and what reading raises."""
    with open_file(path) as file:
        return file.read()


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a regular file of UTF-8, its line ends as ``\\n``. Raises NotRegular, UnicodeDecodeError, and what reading raises."""
    with open(open_regular(path), encoding="utf-8") as file:
        return file.read()


def read_given(path: str | os.PathLike[str]) -> str:
    """Read the text of a file that a command's user names, or of a pipe that a program writes to, as ``<(…)`` and ``/dev/stdin`` are.

    Raises NotRegular, also of a pipe that nothing is written to or that brings more than ``PIPED`` bytes, UnicodeDecodeError, and what
    reading raises.
    """
    descriptor, kind = _open(path, pipe=True)
    piped = stat.S_ISFIFO(kind)
    os.set_blocking(descriptor, True)  # without a writer a pipe ends at once: it is opening it that would wait
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(PIPED + 1 if piped else -1)
    if piped and not 0 < len(data) <= PIPED:
        raise _not_regular(path, errno.ENXIO)
    return io.TextIOWrapper(io.BytesIO(data), "utf-8").read()


def _open(
    path: str | os.PathLike[str], flags: int = os.O_RDONLY, mode: int = 0o644, *, pipe: bool = False
) -> tuple[int, int]:
    """Return a descriptor and the mode of a regular file, or of a pipe where that may be one."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, mode)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EISDIR, errno.ENODEV):  # a pipe or a folder to be written, a socket
            raise _not_regular(path, error.errno) from None
        raise
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind) or (pipe and stat.S_ISFIFO(kind)):
        return descriptor, kind
    os.close(descriptor)
    raise _not_regular(path, errno.EISDIR if stat.S_ISDIR(kind) else errno.ENXIO)


def _not_regular(path: str | os.PathLike[str], number: int) -> NotRegular:
    return NotRegular(number, "not a regular file", str(Path(path)))
