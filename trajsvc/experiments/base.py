"""What an experiment is: a claim of a paper, a small version of how it was tested, and what was measured.

An experiment of your own is an ``Experiment`` under an entry point of the group ``trajsvc.experiments``; ``recipe`` is called with a
``Setting`` and gives a ``Verdict``. A claim that does not come out is reported as such: nothing is tuned until it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trajsvc.errors import Cancelled
from trajsvc.sources.base import never


@dataclass(frozen=True)
class Setting:
    """Where an experiment works and how much of it: checkpoints and figures go to ``folder``, runs and families to ``store``."""

    folder: Path
    store: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    brief: bool = False
    """a version of seconds, for tests"""
    say: Callable[[str], None] = lambda text: None
    stop: Callable[[], bool] = never
    data: Path | None = None
    """the folder of the paper's data, for a recipe at its scale"""
    epochs: int | None = None
    """epochs of each training instead of its own"""

    def note(self, text: str) -> None:
        """Tell what is done now. Raises Cancelled where the experiment is to stop."""
        if self.stop():
            raise Cancelled
        self.say(text)


@dataclass(frozen=True)
class Verdict:
    """What came out. ``measured`` is JSON; ``reproduced`` says whether the experiment's criterion holds for it."""

    measured: Mapping[str, Any]
    reproduced: bool
    figures: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    """what else the claim says and did not come out, or was not tried"""


@dataclass(frozen=True)
class Experiment:
    """One experiment of a paper."""

    name: str
    title: str
    paper: str
    figure: str
    claim: str
    criterion: str
    """when the claim counts as reproduced"""
    small: str
    """the settings here"""
    scale: str
    """the paper's own settings"""
    recipe: Callable[[Setting], Verdict] = field(repr=False)
    at_scale: Callable[[Setting], Verdict] | None = field(default=None, repr=False)
    """the recipe with the paper's own settings, which raises UsageError (``extra-missing``) or NotFound (``data-not-found``) where what
    it needs is not there; None: only the small one can be run"""
