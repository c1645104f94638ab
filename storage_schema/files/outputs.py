"""Files and folders that a user names for results: written beside their place, put there whole, and named in errors.

A link in the place of a result stays, and what it leads to is replaced, as by most programs; a pipe, a device or a socket is not replaced.
What is written lies under another name first (``beside``), which no message tells: an error is about the file that was asked for.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from errno import EACCES, EDQUOT, EFBIG, EISDIR, EMFILE, ENAMETOOLONG, ENFILE, ENOSPC, ENXIO
from pathlib import Path
from typing import BinaryIO, Final

from storage_schema.errors import DiskFull, TrajsvcError
from storage_schema.files.regular import NotRegular
from storage_schema.files.system_errors import of_system

KEPT: Final = 48
"""characters of a name that the one beside it repeats: at most 192 bytes, so that a name of 255 bytes has one beside it too"""


def beside(target: Path) -> Path:
    """Return a hidden name in the folder of ``target`` for what is to become it, short enough for any file system."""
    return target.with_name(f".{target.name[:KEPT]}.{os.getpid()}{secrets.token_hex(2)}.partial")


def cannot_write(target: Path, error: OSError) -> TrajsvcError:
    """Return the error for a result that could not be written to ``target``, whatever name was being written."""
    if error.errno in (EMFILE, ENFILE):
        return of_system(error, target, writing=True)
    if error.errno in (ENOSPC, EDQUOT, EFBIG):
        hint = "Free some space, raise the limit, or name a place with room; then run the same command again."
        return DiskFull(target, f"cannot write {target}: {_said(error)}", hint)
    hint = "Name a file in a folder that exists and that you may write to."
    if error.errno == ENAMETOOLONG:
        hint = "Shorten the name: most file systems allow 255 bytes."
    return TrajsvcError("cannot-write", f"cannot write {target}: {_said(error)}", hint=hint)


@contextmanager
def writing_result(target: Path, place: Path | None = None) -> Iterator[None]:
    """Map an OSError about ``target``, its parents, or what lies below ``place`` to ``cannot_write``; others are not about the result.

    An error without a file's name is of a descriptor that is written: what is read raises errors that name theirs.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, TrajsvcError):
            raise
        named = error.filename
        if named is None or _is_about(os.fsdecode(named), target, place):
            raise cannot_write(target, error) from error
        raise


@contextmanager
def whole_file(
    target: Path, registered: Callable[[Path], AbstractContextManager[object]] = nullcontext
) -> Iterator[BinaryIO]:
    """Give a file beside the place of ``target`` that takes its place when the block ends, and goes if the block fails.

    ``registered`` is entered with its name while it lies there. Raises TrajsvcError (``cannot-write``), DiskFull.
    """
    with writing_result(target):
        place, mode = _place(target)
    partial = beside(place)
    with writing_result(target, partial), registered(partial):
        try:
            with partial.open("wb") as out:
                if mode is not None:
                    os.fchmod(out.fileno(), mode)
                yield out
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside the place of ``target`` that takes its place when the block ends, and goes if the block fails."""
    place = Path(os.path.realpath(target)) if target.is_symlink() else target
    partial = beside(place)
    with writing_result(target, partial):
        try:
            partial.mkdir(parents=True)
            yield partial
            partial.replace(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _place(target: Path) -> tuple[Path, int | None]:
    """Return where a result is to be put, and the mode of the file that it replaces there. Raises OSError."""
    place = Path(os.path.realpath(target)) if target.is_symlink() else target
    try:
        status = target.stat()
    except FileNotFoundError:
        return place, None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(target))
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular(ENXIO, "not a regular file", str(target))
    if not os.access(place, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(target))
    return place, stat.S_IMODE(status.st_mode)


def _is_about(named: str, target: Path, place: Path | None) -> bool:
    file = Path(named)
    return file == target or file in target.parents or (place is not None and (file == place or place in file.parents))


def _said(error: OSError) -> str:
    if isinstance(error, NotRegular):
        return str(error.strerror)
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
