"""Who watches an analysis, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trajsvc.gram.engine import ProgressCallback
from trajsvc.gram.plan import Plan
from trajsvc.trajectory.matrix import Trajectory


class Observer(Protocol):
    """Who watches: called as the parts of an analysis become known."""

    def opened(self, trajectory: Trajectory) -> None: ...
    def planned(self, trajectory: Trajectory, plan: Plan, *, appended: int) -> None: ...
    def note(self, message: str) -> None:
        """What else is worth a line before the work begins: why a stored run is computed anew, that the kernel is compiled."""
        ...

    def progress(self) -> ProgressCallback | None: ...
    def copied(self, done: int, total: int) -> None:
        """Bytes of files that were brought over a network and proved."""
        ...

    def committing(self) -> None:
        """Asked right before the commit: what it raises keeps the run as it was."""
        ...


@dataclass
class Silent:
    """An observer that says nothing."""

    def opened(self, trajectory: Trajectory) -> None:
        return None

    def planned(self, trajectory: Trajectory, plan: Plan, *, appended: int) -> None:
        return None

    def note(self, message: str) -> None:
        return None

    def progress(self) -> ProgressCallback | None:
        return None

    def copied(self, done: int, total: int) -> None:
        return None

    def committing(self) -> None:
        return None


@dataclass(frozen=True)
class Outcome:
    """What an analysis did: ``action`` is ``computed``, ``appended``, ``estimated`` or ``unchanged``."""

    name: str
    store: Path
    action: str
    new_steps: tuple[int, ...] = ()
    left_out: tuple[int, ...] = field(default=())
