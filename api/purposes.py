"""What the server's processes are for: how long one may take, how urgent it is, and how its failures are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trajsvc.errors import TryAgain


@dataclass(frozen=True)
class Purpose:
    """A kind of work. ``key`` is the byte that asks for a process of it."""

    key: bytes
    name: str
    """begins the kinds of its errors: ``NAME-slow``, ``NAME-died``"""
    what: str
    setting: str
    """that bounds its seconds"""
    less: str
    """what a request may do so that it takes less"""
    nice: int
    """how much less urgent than the server's own thread it is"""

    def slow(self, seconds: float) -> TryAgain:
        """Return the error for work that took too long."""
        return TryAgain(
            f"{self.name}-slow", f"{self.what} took more than {seconds:g} s, the bound of the setting {self.setting}",
            hint=f"{self.less}, or ask the operator for more time.",
        )  # fmt: skip

    def died(self) -> TryAgain:
        """Return the error for work whose process died."""
        return TryAgain(
            f"{self.name}-died", f"the process of this work ({self.what}) died",
            hint="Ask again; the server's log may say why.",
        )  # fmt: skip

    def none_started(self) -> TryAgain:
        """Return the error for work that no process could be started for."""
        return TryAgain(f"{self.name}-died", f"no process could be started ({self.what})", hint="Ask again.")


PLAN: Final = Purpose(b"p", "planning", "planning", "plan_seconds", "Choose fewer checkpoints with steps", 10)
ANSWER: Final = Purpose(
    b"a",
    "answer",
    "the answer",
    "answer_seconds",
    "Ask for fewer checkpoints with steps, or for npz instead of JSON",
    5,
)
PURPOSES: Final = {purpose.key: purpose for purpose in (PLAN, ANSWER)}
