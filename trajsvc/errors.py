"""The error tree: what ``storage_schema.errors`` has, and the errors of reading checkpoints.

::

    Refused
      UnsupportedFormat
      RunExists                        a run of that name is another one's
      LimitExceeded                    too many tensors, too large a header, more memory than the budget
    Damaged
      DamagedCheckpoint
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage_schema.error_kinds import KINDS, Outcome
from storage_schema.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PARTLY,
    EXIT_REFUSED,
    EXIT_TRY_AGAIN,
    EXIT_USAGE,
    Damaged,
    DamagedStore,
    NotFound,
    Refused,
    TrajsvcError,
    TryAgain,
    UnsafeFile,
    UsageError,
    printable,
)

__all__ = [
    "EXIT_FAILED", "EXIT_INTERRUPTED", "EXIT_OK", "EXIT_PARTLY", "EXIT_REFUSED", "EXIT_TRY_AGAIN", "EXIT_USAGE", "KINDS",
    "Cancelled", "Damaged", "DamagedCheckpoint", "DamagedStore", "LimitExceeded", "NotFound", "Outcome", "Refused", "RunExists",
    "TrajsvcError", "TryAgain", "UnsafeFile", "UnsupportedFormat", "UsageError", "printable", "validation_text",
]  # fmt: skip


class UnsupportedFormat(Refused):
    pass


class LimitExceeded(Refused):
    pass


class RunExists(Refused):
    """The store has another run of that name: ``run`` is the name, ``why`` the difference between the two."""

    def __init__(self, run: str, message: str, why: str = "") -> None:
        hint = "Give this one another name with --name NAME, or put it in the stored run's place with --replace."
        super().__init__("run-exists", message, hint=hint)
        self.run = run
        self.why = why


class DamagedCheckpoint(Damaged):
    pass


class Cancelled(Exception):
    """The work was asked to stop; what is finished is kept."""


def validation_text(found: Mapping[str, Any]) -> str:
    """Return the text of one of pydantic's errors: only a validator's own message, if it was one of ours."""
    raised = found.get("ctx", {}).get("error")
    return str(raised).replace("\n", " ") if isinstance(raised, ValueError | AssertionError) else str(found["msg"])
