"""The store's problems in trajsvc's words: the one table from a problem's class to an error's class and kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from storage_schema import problems
from trajsvc.errors import DamagedStore, NotFound, Refused, TrajsvcError, TryAgain, UsageError

_TABLE: Final[dict[type[problems.StoreProblem], tuple[type[TrajsvcError], str]]] = {
    problems.RunMissing: (NotFound, "run-not-found"),
    problems.BadRunName: (UsageError, "run-name"),
    problems.StoreDamaged: (DamagedStore, "store-damaged"),
    problems.StoreVersion: (Refused, "store-version"),
    problems.StoreBusy: (TryAgain, "store-busy"),
    problems.StoreChanged: (TryAgain, "store-changed"),
    problems.DiskFull: (TryAgain, "disk-full"),
    problems.StoreUnwritable: (Refused, "store-unwritable"),
    problems.JournalMismatch: (Refused, "journal-mismatch"),
    problems.ThetaIncomplete: (TryAgain, "theta-incomplete"),
    problems.ThetaTypes: (Refused, "theta-types"),
    problems.ThetaLost: (Refused, "theta-lost"),
}


def translated(problem: problems.StoreProblem) -> TrajsvcError:
    """The same problem as one of ``trajsvc.errors``: message, hint and file kept."""
    error, kind = _TABLE[type(problem)]
    return error(kind, problem.message, hint=problem.hint, file=problem.path)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns any StoreProblem raised inside into its TrajsvcError; other errors pass."""
    try:
        yield
    except problems.StoreProblem as problem:
        raise translated(problem) from problem
