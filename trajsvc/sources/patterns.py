"""Regular expressions that users give for the step in a name.

Matched in time linear in the name; see ``linear_patterns``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trajsvc.anatomy.linear_patterns import LONGEST, compiled
from trajsvc.errors import UsageError
from trajsvc.sources.steps import STAGES, STEP_LIMIT, Kind, StepName, scaled

__all__ = ["COUNTS", "GROUPS", "LONGEST", "StepPattern"]

COUNTS: Final[tuple[Kind, ...]] = ("step", "index", "epoch", "tokens")
"""Groups that may be the place on the axis, the first that a name has"""
GROUPS: Final = ("stage", "phase", "ingredient", *COUNTS)
_EXAMPLE: Final = r"For example 'phase(?P<phase>\d+)_checkpoint_(?P<step>\d+)'."


@dataclass(frozen=True)
class StepPattern:
    """A regular expression whose named groups say what the numbers of a name are.

    ``step``, ``epoch``, ``tokens`` or ``index`` is the place on the axis (the first of them that the name has), ``stage`` (or ``phase``)
    and ``ingredient`` what comes before it. Numbers may end in k, M, B or T; a stage may be a known word (``pretrain``, ``anneal`` …).
    """

    text: str
    _compiled: Any

    @classmethod
    def of(cls, text: str) -> StepPattern:
        """Compile a pattern.

        Raises UsageError (``bad-pattern``) if it is invalid, too long, or cannot be matched in linear time.
        """
        regex = compiled(text, hint=_EXAMPLE)
        if not {*COUNTS} & {*regex.groupindex}:
            raise UsageError("bad-pattern", f"{text!r} has no group that is called {', '.join(COUNTS)}", hint=_EXAMPLE)
        unknown = sorted({*regex.groupindex} - {*GROUPS})
        if unknown:
            hint = f"Groups may be called {', '.join(GROUPS)}."
            raise UsageError("bad-pattern", f"{text!r} has a group that is called {unknown[0]}", hint=hint)
        return cls(text, regex)

    def meets(self, name: str) -> bool:
        """Return whether the pattern matches all of ``name``."""
        try:
            return self._compiled.fullmatch(name) is not None
        except UnicodeEncodeError:
            return False

    def stage_word(self, name: str) -> str:
        """Return the stage of a name that the pattern matches if it is a word that is not known; empty otherwise."""
        match = self._compiled.fullmatch(name)
        groups = {} if match is None else match.groupdict()
        word = groups.get("stage") or groups.get("phase") or ""
        return word if word and _stage(word) is None else ""

    def read(self, name: str, label: str | None = None, *, whole: bool = False) -> StepName | None:
        """Parse ``name`` by a match anywhere in it or (``whole``) of all of it.

        None if there is none, or a group is not a valid number.

        ``label`` is what the checkpoint is called.
        """
        try:
            match = self._compiled.fullmatch(name) if whole else self._compiled.search(name)
        except UnicodeEncodeError:  # a file's name that is not UTF-8
            return None
        return None if match is None else _step_name(match.groupdict(), name if label is None else label)


def _step_name(groups: Mapping[str, str | None], label: str) -> StepName | None:
    numbers: dict[str, int] = {}
    for group, text in groups.items():
        if not text:
            continue
        number = _stage(text) if group in ("stage", "phase") else scaled(text)
        if number is None or number > STEP_LIMIT:
            return None
        numbers["stage" if group == "phase" else group] = number
    kind = next((k for k in COUNTS if k in numbers), None)
    if kind is None:
        return None
    return StepName(numbers.pop(kind), label, kind, {k: v for k, v in numbers.items() if k != "index"})


def _stage(text: str) -> int | None:
    """Return a stage by its number, or the place of a known word among the stages of a training."""
    return scaled(text) if text[:1].isdigit() else STAGES.get(re.sub(r"[-_ ]", "", text.lower()))
