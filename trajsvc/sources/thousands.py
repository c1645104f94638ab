"""Read numbers written in groups of three: ``step_1_000`` is step 1000 if the names beside it leave no other reading.

Commas and apostrophes only ever separate thousands (``step_1,000``). An underscore separates other things too: a rank
after a step (``step_500_001``), an epoch before one (``model_3_500``). One name does not tell which it is; the names of
a run together mostly do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from trajsvc.errors import Refused

_JOINED: Final = re.compile(r"(?<![\d.,'’])\d{1,3}(?:[,'’]\d{3})+(?![\d.,'’])")
_SPACED: Final = re.compile(r"(?<!\d)(?<!\d_)(\d{1,3})((?:_\d{3})+)(?!_?\d)")


@dataclass(frozen=True, slots=True)
class Grouped:
    """The other reading of a name whose number may be written in groups: ``number``, of which the first group is ``head``."""

    number: int
    head: int
    after_word: bool
    """whether a word for steps stands right before the first group, which else may count something of its own"""
    apart: bool = False
    """whether names of this form are known to say an epoch and a step"""


def without_separators(text: str) -> str:
    """Remove commas and apostrophes between groups of three digits from ``text``.

    >>> without_separators("step_1,000,000")
    'step_1000000'
    """
    return _JOINED.sub(lambda match: re.sub(r"\D", "", match[0]), text)


def spaced(text: str) -> tuple[str, str, int, int] | None:
    """Find the first number in groups that underscores separate; None if there is none.

    Returns what precedes it, ``text`` with that number as one, the number, and its first group.
    """
    match = _SPACED.search(text)
    if match is None:
        return None
    digits = match[0].replace("_", "")
    return text[: match.start()], text[: match.start()] + digits + text[match.end() :], int(digits), int(match[1])


@dataclass(frozen=True, slots=True)
class Reading:
    """A name's number as it is read, and the other reading if there is one."""

    label: str
    step: int
    grouped: Grouped | None


def decided(names: Sequence[Reading], where: str) -> list[int] | None:
    """Return the numbers of a run's names if these are in groups; None if each name is to be read as it is.

    In groups: no number of four digits stands undivided beside them, all are different, and they are not the same few
    last groups from 000 on after every first one, as files of ranks are. Raises Refused (``step-conflict``) if both
    readings hold.
    """
    groups = [n.grouped for n in names if n.grouped is not None]
    if not groups:
        return None
    together = [n.step if n.grouped is None else n.grouped.number for n in names]
    undivided = [n for n in names if n.grouped is None and n.step >= 1000]
    holds = not undivided and _different(together) and not _ranks(groups)
    apart_holds = _different([n.step for n in names])
    if all(g.after_word for g in groups):
        if holds:
            return together
        if undivided and apart_holds and not all(re.search(r"\d{4,}_\d{3}(?!\d)", n.label) for n in undivided):
            raise _two_readings(names, where)
        return None
    if not holds or (apart_holds and all(g.apart for g in groups)):
        return None
    if not apart_holds or len(groups) < len(names):
        return together
    if len({g.head for g in groups}) == 1:
        return None
    raise _two_readings(names, where)


def _different(numbers: Iterable[int]) -> bool:
    listed = list(numbers)
    return len(set(listed)) == len(listed)


def _ranks(groups: Sequence[Grouped]) -> bool:
    """Return whether the last groups count from 000 on, the same after every first group."""
    tails: dict[int, set[int]] = {}
    for group in groups:
        tails.setdefault(group.number // 1000, set()).add(group.number % 1000)
    counts = {frozenset(t) for t in tails.values()}
    return len(counts) == 1 and len(few := next(iter(counts))) > 1 and few == set(range(len(few)))


def _two_readings(names: Sequence[Reading], where: str) -> Refused:
    one, group = next((n, n.grouped) for n in names if n.grouped is not None)
    parts = spaced(one.label)
    before = re.search(r"[A-Za-z]*[-_=]?$", parts[0] if parts else "")
    word = before[0] if before else ""
    other = rf"{word}(?P<step>\d+)" if group.after_word else rf"{word}\d+_(?P<step>\d+)"
    return Refused(
        "step-conflict",
        f"{where}: {one.label} may be step {one.step}, or step {group.number} with its thousands apart; the names beside it leave both",
        hint=rf"Say which: --step-pattern '{word}(?P<step>[\d_]*\d)' for {group.number}, --step-pattern '{other}' for {one.step}.",
        file=where,
    )
