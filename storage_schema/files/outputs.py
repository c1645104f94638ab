"""Files and folders that a user names for results: written beside their place, put there whole, and named in errors.

What is written lies under another name first (``beside``), which no message tells: an error is about the file that was asked for.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, EMFILE, ENAMETOOLONG, ENFILE, ENOSPC
from pathlib import Path
from typing import Final

from storage_schema.errors import DiskFull, TrajsvcError
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
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside ``target`` that takes its place when the block ends, and goes if the block fails."""
    partial = beside(target)
    with writing_result(target, partial):
        try:
            partial.mkdir(parents=True)
            yield partial
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _is_about(named: str, target: Path, place: Path | None) -> bool:
    file = Path(named)
    return file == target or file in target.parents or (place is not None and (file == place or place in file.parents))


def _said(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
