"""Map an OSError to a TrajsvcError: the one place that says what an errno means, names the path, and says what to do
next.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from storage_schema.errors import (
    DiskFull,
    NotFound,
    Refused,
    StoreUnwritable,
    TrajsvcError,
    TryAgain,
    UnsafeFile,
)
from storage_schema.files.regular import NotRegular

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_NO_FILE: Final = frozenset({errno.ENXIO, errno.EISDIR, errno.ENODEV})
_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


def of_system(error: OSError, path: str | os.PathLike[str] | None = None, *, writing: bool = False) -> TrajsvcError:
    """Map an OSError to a TrajsvcError; return one that is a TrajsvcError already as it is.

    Args:
        error: What the operating system raised.
        path: What was opened, as the message is to name it; by default the path that the system names.
        writing: Whether something was to be written there.
    """
    if isinstance(error, TrajsvcError):
        return error
    if error.errno in _DESCRIPTORS:
        return _few_descriptors(path, writing)
    named = path if path is not None else error.filename
    place = os.fsdecode(named) if isinstance(named, str | bytes | os.PathLike) else ""
    if error.errno in _GONE and not os.path.isabs(place) and (gone := _no_current_folder()) is not None:  # noqa: PTH117
        return gone
    return _written(error, place) if writing else _read(error, place)


def of_any(error: BaseException) -> TrajsvcError | None:
    """Map an exception caused by an OSError, whatever library passed it on, to a TrajsvcError; return None for any
    other exception.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError):
            return of_system(found)
        if isinstance(found, ImportError) and os.strerror(errno.EMFILE) in str(found):
            return of_system(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        found = found.__cause__ or found.__context__
    return None


def _said(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower()


def _few_descriptors(path: str | os.PathLike[str] | None, writing: bool) -> TryAgain:
    kind, done = ("write-failed", "written") if writing else ("read-failed", "read")
    file = None if path is None else os.fspath(path)
    what = file or "a file"
    hint = "Raise the limit on open files (ulimit -n 256)."
    return TryAgain(kind, f"{what} could not be {done}: too many open files", hint=hint, file=file)


def _no_current_folder() -> NotFound | None:
    try:
        Path.cwd().stat()
    except OSError:
        hint = "Change to a folder that exists, and run the same command again."
        return NotFound("no-current-folder", "the current folder was deleted", hint=hint)
    return None


def _written(error: OSError, place: str) -> TrajsvcError:
    if error.errno in _FULL:
        return DiskFull(
            place,
            f"could not write: {_said(error)}",
            "Nothing that was committed is lost. Free some space or raise the limit, then run the same command again.",
        )
    if isinstance(error, NotRegular):
        return not_a_file(place)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        hint = "Name a folder with --store or TRAJSVC_STORE."
        return Refused("store-not-folder", f"could not write: {place} is no folder", hint=hint, file=place)
    if error.errno in _DENIED or error.errno == errno.ENOENT:
        hint = "Choose a store that you may write, with --store or TRAJSVC_STORE."
        return StoreUnwritable(place, f"could not write: {_said(error)}", hint)
    return TryAgain("write-failed", f"could not write: {_said(error)}", hint=_DISK, file=place or None)


_DISK: Final = "Look at the disk and its log, then run the same command again; nothing that was committed is lost."


def _read(error: OSError, place: str) -> TrajsvcError:
    file, what = place or None, place or "a file"
    if error.errno in _FULL:
        return _written(error, place)
    if error.errno == errno.ELOOP:
        return UnsafeFile(
            "link-loop", f"{what} is a link that leads back to itself", hint="Remove the link.", file=file
        )
    if error.errno in _GONE:
        hint = "A file is missing or a link is broken."
        return NotFound("file-missing", f"{what} does not exist", hint=hint, file=file)
    if error.errno in _NO_FILE:
        return not_a_file(what)
    if error.errno in _DENIED:
        return Refused(
            "permission-denied", f"{what} may not be read by this user", hint="Change its permissions.", file=file
        )
    if error.errno == errno.ENAMETOOLONG:
        return Refused("permission-denied", f"the name of {what[:100]} is too long", hint="Shorten it.", file=file)
    return TryAgain(
        "read-failed", f"{what} could not be read: {_said(error)}", hint="Run the same command again.", file=file
    )


def not_a_file(path: str) -> UnsafeFile:
    """Return the error for a pipe, device, socket or folder in the place of a file."""
    return UnsafeFile(
        "not-a-file",
        f"{path} is not a regular file",
        hint="Pipes, devices, sockets and folders in the place of a file are refused: put the file itself there.",
        file=path,
    )
