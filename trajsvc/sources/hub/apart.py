"""Tell branches that are of several trainings, or twice there, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import combinations

from storage_schema.models.results import Finding
from trajsvc.errors import Refused
from trajsvc.sources.listing.copies import KEPT_APART
from trajsvc.sources.listing.two_readings import SETTING, telling_words
from trajsvc.sources.order import place
from trajsvc.sources.steps import STAGES, StepName


def without_copies(
    named: Mapping[str, StepName], commits: Mapping[str, str]
) -> tuple[dict[str, StepName], list[Finding]]:
    """Return the names without those at the place of another that are its copies: by a word such as ``best``, or as the same commit."""
    places: dict[tuple[int, int, int], list[str]] = {}
    for name, step in named.items():
        places.setdefault(place(step), []).append(name)
    left: dict[str, str] = {}
    for names in places.values():
        first, *others = sorted(names, key=lambda n: (KEPT_APART.search(n) is not None, len(n)))
        plain = KEPT_APART.search(first) is None
        left |= {n: first for n in others if commits[n] == commits[first] or (plain and KEPT_APART.search(n))}
    notes = [
        Finding(
            kind="ignored-file",
            severity="info",
            message=f"the revision {name} is {named[name].kind} {named[name].step}, as {first} is; it is left out",
            steps=(named[name].step,),
        )
        for name, first in left.items()
    ]
    return {n: step for n, step in named.items() if n not in left}, notes


def ask_about_names(named: Mapping[str, StepName], glob: Callable[[str, StepName], str]) -> None:
    """Ask if the names have words or settings of their own: those of one stand between those of another, or each has its own.

    Words for stages of a training are none. Raises Refused (``ambiguous-state``).
    """
    words = {n: frozenset(telling_words(n) - STAGES.keys()) for n in named}
    common = frozenset.intersection(*words.values()) if words else frozenset()
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in sorted(named, key=lambda n: place(named[n])):
        settings = tuple(SETTING.findall(re.split(rf"(?<!\d)0*{named[name].step}(?!\d)", name.lower())[0]))
        groups.setdefault((words[name] - common, settings), []).append(name)
    if len(groups) < 2:
        return
    several = [[place(named[n]) for n in names] for names in groups.values() if len(names) > 1]
    between = any(a[0] < b[-1] and b[0] < a[-1] for a, b in combinations(several, 2))
    if not between and (several or sum(any(key) for key in groups) < len(groups)):
        return
    firsts = [names[0] for names in groups.values()]
    shown = ", ".join(firsts[:4]) + (" …" if len(firsts) > 4 else "")
    raise Refused(
        "ambiguous-state",
        f"the names of the revisions ({shown}) differ in words or settings, not in their numbers alone: they may be of one training or of "
        "several",
        hint=f"Choose those of one with --revisions '{glob(firsts[0], named[firsts[0]])}'; if all are of one, say where the step is: "
        rf"--step-pattern '{step_pattern(firsts[0], named[firsts[0]], whole=False)}'.",
    )


def step_pattern(name: str, step: StepName, *, whole: bool = True) -> str:
    """Return a pattern of a name, or of its word before the step, with the step as a group; a general one where it is not in digits."""
    match = re.search(rf"(?<!\d)0*{step.step}(?!\d)", name)
    if match is None:
        return r"step(?P<step>\d+)"
    before, after = name[: match.start()], name[match.end() :]
    if not whole:
        word = re.search(r"[A-Za-z]*[-_=]?\Z", before)
        return re.escape(word[0] if word else "") + r"(?P<step>\d+)"
    parts = [re.sub(r"\d+", r"\\d+", re.escape(part)) for part in (before, after)]
    return parts[0] + r"(?P<step>\d+)" + parts[1]
