"""What can go wrong, as one tree: what ``storage_schema.errors`` has, and the errors of reading checkpoints.

::

    Refused
      UnsupportedFormat
      UnsafeFile                       a pickle that would run code, a path out of its root, a device
      LimitExceeded                    too many tensors, too large a header, more memory than the budget
    Damaged
      DamagedCheckpoint
"""

from __future__ import annotations

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
    UsageError,
    printable,
)

__all__ = [
    "EXIT_FAILED", "EXIT_INTERRUPTED", "EXIT_OK", "EXIT_PARTLY", "EXIT_REFUSED", "EXIT_TRY_AGAIN", "EXIT_USAGE", "KINDS",
    "Cancelled", "Damaged", "DamagedCheckpoint", "DamagedStore", "LimitExceeded", "NotFound", "Outcome", "Refused",
    "TrajsvcError", "TryAgain", "UnsafeFile", "UnsupportedFormat", "UsageError", "printable",
]  # fmt: skip


class UnsupportedFormat(Refused):
    pass


class UnsafeFile(Refused):
    pass


class LimitExceeded(Refused):
    pass


class DamagedCheckpoint(Damaged):
    pass


class Cancelled(Exception):
    """The work was asked to stop; what is finished is kept."""
