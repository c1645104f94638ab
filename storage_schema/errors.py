"""The error tree: its base, and the errors of a store.

::

    TrajsvcError
      UsageError (ValueError)            the request is wrong: an option, a step, a group's spelling
        BadRunName                       a name that is no plain file name
      NotFound (LookupError)             no such source, run, group, step, measure
        RunMissing                       no committed run of that name
      Refused                            recognised and not done: an unsupported format, a limit, an unsafe file
        StoreVersion                     a run or journal of a format this program does not know
        StoreUnwritable (OSError)        the store's folder cannot be written
        UnsafeFile                       a pickle that would run code, a path out of its root, a device
        JournalMismatch                  a resume journal of another job
        ThetaTypes                       stored types that one theta cannot hold
        ThetaLost                        a commit that would silently drop or misplace the stored checkpoints
      Damaged (ValueError)               bytes that are not what they say: headers, layouts, checksums
        DamagedStore
          StoreDamaged                   bytes that differ from what was committed, or are gone
      TryAgain (OSError)                 may pass: a file changed under the reader, a store in use, a full disk
        StoreBusy                        another process is writing the run
        StoreChanged                     the run was committed anew, or removed, while it was being read
        DiskFull                         no space, no quota, or a file-size limit
        ThetaIncomplete                  columns of a checkpoint that were never written

``trajsvc.errors`` has the rest of the tree. Every error has a ``kind``: a short stable word (append-only) that machines may match;
``storage_schema.error_kinds`` is the one table from a kind to the process's exit code and the HTTP status. An error names the file,
tensor and step it is about, and ``hint`` says what to do next.
"""

from __future__ import annotations

from os import PathLike
from typing import ClassVar, Final

from storage_schema.error_kinds import KINDS, Outcome

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_PARTLY: Final = 3
EXIT_REFUSED: Final = 4
EXIT_TRY_AGAIN: Final = 75
EXIT_INTERRUPTED: Final = 130


class TrajsvcError(Exception):
    """Base of every error that trajsvc raises on purpose; ``str()`` is the message for the user."""

    otherwise: ClassVar[Outcome] = Outcome(EXIT_FAILED, 500)
    """the outcome of a kind that is not in the table, as a server of a later version may send"""

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        hint: str = "",
        file: str | PathLike[str] | None = None,
        tensor: str | None = None,
        step: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.file = None if file is None else str(file)
        self.tensor = tensor
        self.step = step

    @property
    def outcome(self) -> Outcome:
        """The exit code and HTTP status of this error's kind."""
        return KINDS.get(self.kind, self.otherwise)

    @property
    def problem_type(self) -> str:
        """The stable RFC 9457 ``type`` of this error."""
        return f"urn:trajsvc:problem:{self.kind}"

    def __str__(self) -> str:
        where = [
            f"step {self.step}" if self.step is not None else "",
            f"file {printable(self.file)}" if self.file and self.file not in self.message else "",
            f"tensor {printable(self.tensor)}" if self.tensor and self.tensor not in self.message else "",
        ]
        text = printable(self.message)
        place = ", ".join(w for w in where if w)
        return (f"{text} ({place})" if place else text) + (f"\n{self.hint}" if self.hint else "")

    def about(self, *, file: str | None = None, tensor: str | None = None, step: int | None = None) -> TrajsvcError:
        """Add the file, tensor and step that the caller knows and the raiser did not; return this error.

        What is set already stays.
        """
        self.file = self.file if self.file is not None else file
        self.tensor = self.tensor if self.tensor is not None else tensor
        self.step = self.step if self.step is not None else step
        return self


class UsageError(TrajsvcError, ValueError):
    otherwise = Outcome(EXIT_USAGE, 422)


class NotFound(TrajsvcError, LookupError):
    otherwise = Outcome(EXIT_REFUSED, 404)


class Refused(TrajsvcError):
    otherwise = Outcome(EXIT_REFUSED, 422)


class UnsafeFile(Refused):
    pass


class Damaged(TrajsvcError, ValueError):
    otherwise = Outcome(EXIT_FAILED, 422)


class DamagedStore(Damaged):
    otherwise = Outcome(EXIT_FAILED, 500)


class TryAgain(TrajsvcError, OSError):
    otherwise = Outcome(EXIT_TRY_AGAIN, 503)


class StoreError(TrajsvcError):
    """An error of a store: its class determines its kind, and it names a path."""

    of_class: ClassVar[str]

    def __init__(self, path: str | PathLike[str], message: str, hint: str = "") -> None:
        super().__init__(self.of_class, message, hint=hint, file=path)

    @property
    def path(self) -> str:
        """The path that the error is about."""
        return self.file or ""


class RunMissing(StoreError, NotFound):
    of_class = "run-not-found"


class BadRunName(StoreError, UsageError):
    of_class = "run-name"


class StoreDamaged(StoreError, DamagedStore):
    of_class = "store-damaged"


class StoreVersion(StoreError, Refused):
    of_class = "store-version"


class StoreBusy(StoreError, TryAgain):
    of_class = "store-busy"


class StoreChanged(StoreError, TryAgain):
    of_class = "store-changed"


class DiskFull(StoreError, TryAgain):
    of_class = "disk-full"


class StoreUnwritable(StoreError, Refused, OSError):
    of_class = "store-unwritable"


class JournalMismatch(StoreError, Refused):
    of_class = "journal-mismatch"


class ThetaIncomplete(StoreError, TryAgain):
    of_class = "theta-incomplete"


class ThetaTypes(StoreError, Refused):
    of_class = "theta-types"


class ThetaLost(StoreError, Refused):
    of_class = "theta-lost"


def printable(text: str | None) -> str:
    """Escape the control characters of ``text``, so that a tensor's name cannot write to a terminal or a log.

    >>> print(printable("layer\\x1b[31m.weight"))
    layer\\x1b[31m.weight
    """
    if text is None:
        return ""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
