"""What can go wrong in a store, as one small tree.

::

    StoreProblem
      RunMissing (LookupError)      no committed run of that name
      BadRunName (ValueError)       a name that is no plain file name
      StoreDamaged (ValueError)     bytes that differ from what was committed, or are gone
      StoreVersion                  a run or journal of a format this program does not know
      StoreBusy (OSError)           another process is writing the run
      StoreChanged (OSError)        the run was committed anew, or removed, while it was being read
      DiskFull (OSError)            no space, no quota, or a file-size limit
      StoreUnwritable (OSError)     the store's folder cannot be written
      JournalMismatch               a resume journal of another job
      ThetaIncomplete               columns of a checkpoint that were never written
      ThetaTypes                    stored types that one theta cannot hold
      ThetaLost                     a commit that would silently drop or misplace the stored checkpoints

Each carries ``path`` (what it is about), ``message`` (what happened) and ``hint`` (what to do next).
"""

from __future__ import annotations

from os import PathLike, fspath


class StoreProblem(Exception):
    """Base of every problem of a store; ``str()`` is one sentence and, on a second line, the hint."""

    def __init__(self, path: str | PathLike[str], message: str, hint: str = "") -> None:
        super().__init__(message)
        self.path = fspath(path)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.path})" + (f"\n{self.hint}" if self.hint else "")


class RunMissing(StoreProblem, LookupError):
    pass


class BadRunName(StoreProblem, ValueError):
    pass


class StoreDamaged(StoreProblem, ValueError):
    pass


class StoreVersion(StoreProblem):
    pass


class StoreBusy(StoreProblem, OSError):
    pass


class StoreChanged(StoreProblem, OSError):
    pass


class DiskFull(StoreProblem, OSError):
    pass


class StoreUnwritable(StoreProblem, OSError):
    pass


class JournalMismatch(StoreProblem):
    pass


class ThetaIncomplete(StoreProblem):
    pass


class ThetaTypes(StoreProblem):
    pass


class ThetaLost(StoreProblem):
    pass
