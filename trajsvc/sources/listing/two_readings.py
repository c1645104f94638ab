"""Ask about names that differ in more than their step: a second number that does not rise with it (``model_1_62``,
``round1_step300`` beside ``round2_step200``), or words of their own (``fold0_epoch12``, ``cifar_epoch90``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

from trajsvc.errors import Refused
from trajsvc.sources.formats.layout import Found
from trajsvc.sources.listing.entries import Listing, some
from trajsvc.sources.states import words_of
from trajsvc.sources.steps import scaled, without_scores

_NUMBER: Final = re.compile(r"(\d+(?:\.\d+(?=[kmbt](?![a-z])))?(?:[kmbt](?![a-z]))?)")
_COUNTED: Final = re.compile(r"(?<![a-z])(?:checkpoint|ckpt|chkpt|index|idx)[-_=]?$")
"""A word right before a number that counts checkpoints."""
SETTING: Final = re.compile(
    r"(?<![a-z])((?:lr|wd|weight[-_]?decay|bs|batch[-_]?size|dropout|temp|temperature|alpha|beta|gamma|lambda|dim|hidden|width|depth|layers?"
    r"|heads?)[-_=]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?![a-z0-9])"
)
"""A setting of a training with its value."""
_TIMES: Final = re.compile("jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun|am|pm")


@dataclass(frozen=True)
class _Numbers:
    """The numbers in one checkpoint's name: where they are, how they are written, and by value."""

    found: Found
    spans: tuple[tuple[int, int], ...]
    masked: str
    """the name in lower case, of which dates and scores are ``~``"""

    @classmethod
    def of(cls, found: Found) -> _Numbers:
        masked = without_scores(found.name.label.lower())
        return cls(found, tuple(m.span() for m in _NUMBER.finditer(masked)), masked)

    @property
    def label(self) -> str:
        return self.found.name.label

    @property
    def step(self) -> int:
        return self.found.name.step

    @property
    def texts(self) -> tuple[str, ...]:
        """What stands before, between and after the numbers."""
        ends = [0, *(end for _, end in self.spans)]
        starts = [*(start for start, _ in self.spans), len(self.masked)]
        return tuple(re.sub("~+", "~", self.masked[a:b]) for a, b in zip(ends, starts, strict=True))

    @property
    def values(self) -> tuple[int | None, ...]:
        return tuple(scaled(self.masked[a:b]) for a, b in self.spans)

    def written(self, place: int) -> str:
        start, end = self.spans[place]
        return self.masked[start:end]

    def pattern(self, groups: Mapping[int, str]) -> str:
        """Return the pattern of such names for ``--step-pattern``, with ``groups`` in the places of numbers."""
        out, at = "", 0
        for i, (start, end) in enumerate(self.spans):
            number = r"\d+" if self.masked[start:end].isdigit() else r"[\d.]+[kmbtKMBT]?"
            out += self._literal(at, start) + (f"(?P<{groups[i]}>{number})" if i in groups else number)
            at = end
        return out + self._literal(at, len(self.masked)) if len(self.masked) == len(self.label) else "…"

    def _literal(self, start: int, end: int) -> str:
        parts = re.split("(~+)", self.masked[start:end])
        out = ""
        for part in parts:
            out += ".*" if part.startswith("~") else re.escape(self.label[start : start + len(part)])
            start += len(part)
        return out


def telling_words(label: str) -> frozenset[str]:
    """Return the words of a name that may say which model it is: whole words, and a seed or a fold with its number.

    Letters of a hash, and names of months and days, are none.

    >>> sorted(telling_words("cifar_a3f9b2_step100")), sorted(telling_words("fold0_epoch12"))
    (['cifar'], ['fold0'])
    """
    parts = {p for p in re.split(r"[^a-z0-9]+", label.lower()) if p.isalpha()}
    whole = {p for p in parts if not re.fullmatch("[a-f]{3,}", p) and not _TIMES.fullmatch(p)}
    return frozenset(w for w in words_of(label) if w in whole or not w.isalpha())


def ask_about_words(found: Sequence[Found], where: str, listing: Listing) -> None:
    """Ask if most names have words that others do not have: one or two checkpoints of each of several models.

    A warning where the steps are not in the names. Raises Refused (``ambiguous-state``).
    """
    words = [telling_words(f.name.label) for f in found]
    own = [w - frozenset.intersection(*words) for w in words]
    if len({w for w in own if w}) < 2 or 2 * sum(map(bool, own)) <= len(found):
        return
    if not any(n.found.name.step in n.values for n in map(_Numbers.of, found)):
        asked = _asked_in_words(found, where, "in words")
        listing.note(
            "words-apart", f"{asked.message}, and are read as one; a quoted pattern meets some", severity="warning"
        )
        return
    raise _asked_in_words(found, where, "in words")


def _asked_in_words(found: Sequence[Found], where: str, how: str) -> Refused:
    return Refused(
        "ambiguous-state",
        f"{where}: the names ({some(f.name.label for f in found)}) differ {how}, not in their numbers alone: they may be of one training "
        "or of several",
        hint="Give a quoted pattern that meets the checkpoints of one training; if all are of one, say where the step is: "
        f"--step-pattern '{_step_alone(found[0])}'.",
        file=where,
    )


def _step_alone(found: Found) -> str:
    """Return a pattern for the step by the word right before it."""
    numbers = _Numbers.of(found)
    at = next((i for i, value in enumerate(numbers.values) if value == found.name.step), 0)
    word = re.search(r"[a-z]*[-_=]?$", numbers.texts[at])
    return rf"{re.escape(word[0] if word else '')}(?P<{_group(numbers)}>\d+)"


def check_numbers(found: Sequence[Found], where: str, listing: Listing) -> None:
    """Compare the other numbers of names with their steps.

    One that rises with the step, or stays, says the same order. One that does not leaves two orders if nothing says which of them is
    the step, or if it stands before the step and several checkpoints have it (a round, a task, a version). Else it may be a score or a
    part of the training: a warning where it stands as parts do. Raises Refused (``step-conflict``).
    """
    _ask_about_settings(found, where)
    alike: dict[tuple[object, ...], list[_Numbers]] = {}
    for one in map(_Numbers.of, found):
        alike.setdefault((one.found.name.kind, one.found.name.extra.get("stage"), one.texts), []).append(one)
    for group in alike.values():
        ordered = sorted(group, key=lambda n: n.step)
        at = _place_of_step(ordered)
        if at is None:
            continue
        said = all(n.found.name.sure or _COUNTED.search(n.texts[at]) for n in ordered)
        for other in range(len(ordered[0].values)):
            if other != at and (pair := _falls(ordered, other)) is not None:
                several = len({n.values[other] for n in ordered}) < len(ordered)
                if not said or (several and other < at):
                    raise _asked(ordered, pair, at, other, where)
                if other < at or _interleaved(ordered, other):
                    listing.note(
                        "second-number",
                        f"{where}: the checkpoints are ordered by {pair[0].written(at)}, {pair[1].written(at)} … in {pair[0].label}, "
                        f"{pair[1].label}; if {pair[0].written(other)} and {pair[1].written(other)} are parts of the training, say so: "
                        f"--step-pattern '{pair[0].pattern({at: _group(pair[0]), other: 'stage'})}'",
                        severity="warning",
                    )


def _ask_about_settings(found: Sequence[Found], where: str) -> None:
    """Raise Refused (``ambiguous-state``) if settings before the step differ as those of a sweep do.

    That is, each checkpoint has its own, or those of one stand between those of another; a training that goes on with other settings has
    its steps one after the other.
    """
    groups: dict[tuple[int | None, tuple[str, ...]], list[Found]] = {}
    for one in found:
        numbers = _Numbers.of(one)
        at = next(
            (span for span, value in zip(numbers.spans, numbers.values, strict=True) if value == one.name.step), None
        )
        if at is not None:
            before = tuple(SETTING.findall(numbers.label.lower()[: at[0]]))
            groups.setdefault((one.name.extra.get("stage"), before), []).append(one)
    several = [sorted(f.name.step for f in group) for group in groups.values() if len(group) > 1]
    between = any(a[0] < b[-1] and b[0] < a[-1] for a, b in combinations(several, 2))
    settings = list(dict.fromkeys(s for _, before in groups for s in before))
    if len({before for _, before in groups}) > 1 and (between or not several):
        raise _asked_in_words(found, where, f"in settings ({some(settings)})")


def _place_of_step(names: Sequence[_Numbers]) -> int | None:
    """Return which of the numbers of all names is their step; None if it is none of them."""
    every = range(len(names[0].values))
    places = [i for i in every if all(n.values[i] == n.step for n in names)]
    return next(iter(places), None) if len(names) > 1 else None


def _falls(ordered: Sequence[_Numbers], at: int) -> tuple[_Numbers, _Numbers] | None:
    """Return two neighbours of which the later one has a smaller number at a place; None if it never falls or its meaning is known."""
    known: Sequence[Mapping[str, int]] = [n.found.name.extra for n in ordered]
    keys = set.intersection(*(set(k) for k in known))
    if any(all(n.values[at] == k[key] for n, k in zip(ordered, known, strict=True)) for key in keys):
        return None
    for one, later in pairwise(ordered):
        a, b = one.values[at], later.values[at]
        if a is not None and b is not None and b < a:
            return one, later
    return None


def _interleaved(ordered: Sequence[_Numbers], at: int) -> bool:
    """Return whether checkpoints of one value at a place stand between those of another, as if each value had steps of its own."""
    steps: dict[int | None, list[int]] = {}
    for one in ordered:
        steps.setdefault(one.values[at], []).append(one.step)
    several = [(s[0], s[-1]) for s in steps.values() if len(s) > 1]
    return any(a[0] < b[1] and b[0] < a[1] for a, b in combinations(several, 2))


def _asked(names: Sequence[_Numbers], pair: tuple[_Numbers, _Numbers], at: int, other: int, where: str) -> Refused:
    one, later = pair
    group = _group(one)
    said = {
        f"If {one.written(other)} is a phase, a round or a task that comes before its steps": {
            at: group,
            other: "stage",
        },
        f"if the order is that of {one.written(at)}, {later.written(at)}": {at: group},
    }
    if len({n.values[other] for n in names}) == len(names):
        said[f"if it is that of {later.written(other)}, {one.written(other)}"] = {other: "step"}
    hint = "; ".join(f"{when}: --step-pattern '{one.pattern(groups)}'" for when, groups in said.items())
    return Refused(
        "step-conflict",
        f"{where}: the names differ in two numbers, which leave two orders: {one.label}, {later.label}",
        hint=f"{hint}. If they are several trainings, give a quoted pattern that meets one.",
        file=where,
    )


def _group(numbers: _Numbers) -> str:
    return "epoch" if numbers.found.name.kind == "epoch" else "step"
