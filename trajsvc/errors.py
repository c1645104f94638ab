"""What can go wrong, as one tree.

::

    TrajsvcError
      UsageError (ValueError)            the request is wrong: an option, a step, a group's spelling
      NotFound (LookupError)             no such source, run, group, step, measure
      Refused                            recognised and not done: an unsupported format, a limit, an unsafe file
        UnsupportedFormat
        UnsafeFile                       a pickle that would run code, a path out of its root, a device
        LimitExceeded                    too many tensors, too large a header, more memory than the budget
      Damaged (ValueError)               bytes that are not what they say: headers, layouts, checksums
        DamagedCheckpoint
        DamagedStore
      TryAgain (OSError)                 may pass: a file changed under the reader, a store in use, a full disk

Every error has a ``kind``: a short stable word (append-only) that machines may match. ``KINDS`` maps each to
its class's exit code and HTTP status; ``problem_type`` gives the RFC 9457 type. An error names the file, tensor
and step it is about, and ``hint`` says what to do next.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_PARTLY: Final = 3
EXIT_REFUSED: Final = 4
EXIT_TRY_AGAIN: Final = 75
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True)
class Outcome:
    """What a kind of error means at the doors: the process's exit code and the HTTP status."""

    exit_code: int
    status: int


class TrajsvcError(Exception):
    """Base of every error that trajsvc raises on purpose; ``str()`` is the sentence for a person."""

    outcome = Outcome(EXIT_FAILED, 500)

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
        """This error with the places a caller knows and the raiser did not."""
        self.file = self.file if self.file is not None else file
        self.tensor = self.tensor if self.tensor is not None else tensor
        self.step = self.step if self.step is not None else step
        return self


class UsageError(TrajsvcError, ValueError):
    outcome = Outcome(EXIT_USAGE, 422)


class NotFound(TrajsvcError, LookupError):
    outcome = Outcome(EXIT_REFUSED, 404)


class Refused(TrajsvcError):
    outcome = Outcome(EXIT_REFUSED, 422)


class UnsupportedFormat(Refused):
    pass


class UnsafeFile(Refused):
    pass


class LimitExceeded(Refused):
    pass


class Damaged(TrajsvcError, ValueError):
    outcome = Outcome(EXIT_FAILED, 422)


class DamagedCheckpoint(Damaged):
    pass


class DamagedStore(Damaged):
    outcome = Outcome(EXIT_FAILED, 500)


class TryAgain(TrajsvcError, OSError):
    outcome = Outcome(EXIT_TRY_AGAIN, 503)


class Cancelled(Exception):
    """The work was asked to stop; what is finished is kept."""


def printable(text: str | None) -> str:
    """``text`` with control characters escaped, so that a tensor's name cannot write to a terminal or a log."""
    if text is None:
        return ""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
