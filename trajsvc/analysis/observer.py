"""Observers of an analysis, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trajsvc.gram.engine import ProgressCallback
from trajsvc.gram.plan import Plan
from trajsvc.trajectory.matrix import Trajectory


class Observer(Protocol):
    """Callbacks of an analysis, in the order in which they are called."""

    def opened(self, trajectory: Trajectory) -> None: ...
    def planned(self, trajectory: Trajectory, plan: Plan, *, appended: int) -> None: ...
    def sized(self, plan: Plan) -> None:
        """Receive the plan of a comparison of two runs, before it is begun."""
        ...

    def note(self, message: str) -> None:
        """Receive a message before the work begins: why a stored run is computed anew, that the kernel is compiled."""
        ...

    def progress(self) -> ProgressCallback | None: ...
    def copied(self, done: int, total: int) -> None:
        """Receive the progress of a download: ``done`` of ``total`` bytes of files were downloaded and their digests
        compared.
        """
        ...

    def committing(self) -> None:
        """Act right before the commit; an exception cancels the commit and leaves the stored run unchanged."""
        ...


@dataclass
class NullObserver:
    """An observer that ignores every call."""

    def opened(self, trajectory: Trajectory) -> None:
        return None

    def planned(self, trajectory: Trajectory, plan: Plan, *, appended: int) -> None:
        return None

    def sized(self, plan: Plan) -> None:
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
    """Result of an analysis: ``action`` is ``computed``, ``appended``, ``estimated`` or ``unchanged``."""

    name: str
    store: Path
    action: str
    new_steps: tuple[int, ...] = ()
    left_out: tuple[int, ...] = field(default=())
