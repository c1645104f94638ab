"""Select the checkpoints of a run among what a repository has: names become steps, one checkpoint a place.

Makes no request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Literal

from storage_schema.models.results import Finding
from trajsvc.anatomy.linear_patterns import Glob
from trajsvc.errors import NotFound, Refused, UsageError
from trajsvc.sources.hub.apart import ask_about_names, without_copies
from trajsvc.sources.hub.apart import step_pattern as pattern_for
from trajsvc.sources.hub.known_families import Family, number
from trajsvc.sources.order import in_order, place, with_whole_numbers
from trajsvc.sources.patterns import StepPattern
from trajsvc.sources.steps import STAGES, Kind, StepName, parse_step

CHOOSE: Final = "choose with --revisions, for example --revisions 'stage2-ingredient2-*'"
_GROUPS: Final = ("stage", "ingredient", "tokens", "epoch")
_COUNTS: Final[tuple[Kind, ...]] = ("step", "index", "epoch", "tokens")
"""Groups of a regular expression that may be the place on the axis, in this order."""
_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class RefInfo:
    """A branch or a tag, and the commit that it names now."""

    name: str
    kind: Literal["branch", "tag"]
    commit: str


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """A commit of a branch's history."""

    id: str
    title: str
    date: str


@dataclass(frozen=True, slots=True)
class ChosenRevision:
    """A checkpoint: its place on the axis of steps, the name it had, and its commit (empty where a repository is the checkpoint)."""

    step: int
    label: str
    kind: Kind
    commit: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selected:
    """The run's checkpoints in order, what was noticed, and what is not of the run."""

    chosen: tuple[ChosenRevision, ...]
    findings: tuple[Finding, ...] = ()
    missing: tuple[int, ...] = ()
    others: tuple[str, ...] = ()


def select(
    refs: Sequence[RefInfo],
    family: Family | None,
    *,
    revisions: Sequence[str] = (),
    pin: str | None = None,
    step_pattern: StepPattern | None = None,
) -> Selected:
    """Select the branches that name a step, else the tags that do; with ``revisions``, the branches and tags that a
    pattern matches.

    In a repository of a known ``family`` only the names that are spelt as the family spells them count, if there are
    any. A pattern is a glob (``stage1-step*``) or, where it has a named group, a regular expression whose groups
    ``step``, ``stage``, ``ingredient``, ``tokens``, ``epoch``, ``index`` say what a number is. ``pin`` is one revision;
    it is chosen if its name has a step. ``step_pattern`` says where the step is in names, in the place of what is known
    of them. Nothing is chosen if nothing names a step. Raises NotFound (``no-revisions``), UsageError
    (``bad-pattern``), Refused (``step-conflict``; ``several-runs`` where the repository holds more than one run, which
    the error names).
    """
    if pin is not None:
        return _pinned(refs, family, pin, step_pattern)
    named = _by_patterns(refs, family, revisions, step_pattern) if revisions else _by_words(refs, family, step_pattern)
    named = dict(zip(named, with_whole_numbers(list(named.values()), "the repository"), strict=True))
    named, noted = _staged(named, family)
    taken = _branches_or_tags(refs, named, both=bool(revisions))
    apart = runs_of({r.name: named[r.name] for r in taken})
    if len(apart) > 1:
        raise several_runs(apart)
    once, copied = without_copies({r.name: named[r.name] for r in taken}, {r.name: r.commit for r in taken})
    noted += copied
    if family is None and not revisions and step_pattern is None:
        ask_about_names(once, _without_numbers)
    run = in_order(
        [(named[r.name], r) for r in taken if r.name in once],
        "the repository",
        choose=_choose(once),
        chosen=bool(revisions),
    )
    chosen = tuple(_chosen(name, ref.commit, family) for name, ref in run.items)
    findings = [*noted, *run.findings]
    missing = () if family is None or revisions else _not_there(family, chosen)
    if family is not None and missing:  # a gap is one of these
        findings = [*(f for f in findings if f.kind != "gap"), _missing(family, missing)]
    others = tuple(r.name for r in refs if r.name not in named)
    return Selected(chosen, tuple(findings), missing, others)


def _choose(named: Mapping[str, StepName]) -> str:
    """Say how to choose; where two names have one place, by a pattern that meets the shorter of them alone."""
    ordered = sorted(named, key=lambda n: (place(named[n]), len(n)))
    same = next((a for a, b in pairwise(ordered) if place(named[a]) == place(named[b])), None)
    return (
        CHOOSE
        if same is None
        else f"choose with --revisions, for example --revisions '{pattern_for(same, named[same])}'"
    )


def _branches_or_tags(refs: Sequence[RefInfo], named: Mapping[str, StepName], *, both: bool) -> list[RefInfo]:
    """Return the branches that have a step, and with ``both`` the tags too; without branches the tags.

    A tag that names a branch's step and commit is the same checkpoint and is dropped.
    """
    branches = [r for r in refs if r.kind == "branch" and r.name in named]
    if branches and not both:
        return branches
    have = {(place(named[r.name]), r.commit) for r in branches}
    tags = [r for r in refs if r.kind == "tag" and r.name in named]
    return branches + [t for t in tags if (place(named[t.name]), t.commit) not in have]


def _not_there(family: Family, chosen: Sequence[ChosenRevision]) -> tuple[int, ...]:
    """Return the steps that the family published and the repository lacks."""
    have = {c.step for c in chosen}
    return tuple(s for s in family.expected if s not in have) if chosen else ()


class SeveralRuns(Refused):
    """A repository that holds several runs beside each other; ``runs`` has each one's pattern and its names in order of their steps."""

    def __init__(self, runs: Mapping[str, Sequence[str]]) -> None:
        self.runs = {pattern: tuple(names) for pattern, names in runs.items()}
        first = next(iter(self.runs))
        told = ", ".join(f"{pattern} ({len(names)} checkpoints)" for pattern, names in self.runs.items())
        super().__init__(
            "several-runs", f"the repository holds {len(self.runs)} runs beside each other: {told}",
            hint=f"Choose one with --revisions '{first}', or take all with `trajsvc batch`: name the repository in a family's file.",
        )  # fmt: skip


def several_runs(runs: Mapping[str, Sequence[str]]) -> SeveralRuns:
    """Return the error for a repository that holds several runs."""
    return SeveralRuns(runs)


def runs_of(named: Mapping[str, StepName]) -> dict[str, list[str]]:
    """Return glob → names, in order of steps, of each run among ``named``; a single entry if all are of one run.

    Names that differ in more than their numbers (``step100-seed-default``, ``step100-seed-small``) are of several runs
    if two of them have the same place on the axis and none is alone.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(named, key=lambda n: place(named[n])):
        found.setdefault(_without_numbers(name, named[name]), []).append(name)
    places = [{place(named[n]) for n in names} for names in found.values()]
    meet = any(a & b for i, a in enumerate(places) for b in places[i + 1 :])
    return found if meet and min(map(len, found.values())) > 1 else {"*": list(named)}


def _without_numbers(name: str, step: StepName) -> str:
    """Return a glob of a name: ``*`` in the place of what counts (the step, tokens, the stage), the rest as it is."""
    words = ("step", "steps", "iter", "tokens", "stage", "phase", "ckpt", "checkpoint", "epoch")
    counted = f"(?:{'|'.join(f'(?<={word})' for word in words)})" + r"[-_=]?\d+[kKmMbBtT]*"
    text = re.sub(counted, "*", name)
    if text == name:
        text = re.sub(rf"(?<!\d)0*{step.step}(?!\d)", "*", name)
    return text


def _staged(named: Mapping[str, StepName], family: Family | None) -> tuple[dict[str, StepName], list[Finding]]:
    """Put the names that lack a stage, where others have one, into the first stage; return the names and a finding that
    says so.
    """
    stages = [n.extra["stage"] for n in named.values() if "stage" in n.extra]
    bare = sorted((n for n, s in named.items() if "stage" not in s.extra), key=lambda n: named[n].step)
    if not stages or not bare:
        return dict(named), []
    first = min(stages) if family is None or family.first_stage is None else family.first_stage
    told = {n: replace(s, extra={**s.extra, "stage": first}) if n in bare else s for n, s in named.items()}
    message = (
        f"{len(bare)} names have no stage beside {len(stages)} that have one ({_few(bare)}); they are taken to be of stage {first}. "
        "--revisions with a pattern chooses otherwise"
    )
    steps = tuple(named[n].step for n in bare)
    return told, [Finding(kind="stage-missing", message=message, steps=steps, details={"labels": bare[:20]})]


def select_commits(commits: Sequence[CommitInfo], branch: str) -> Selected:
    """Select the commits of a branch, oldest first, as checkpoints; ``commits`` come newest first, as the Hub lists
    them.

    If at least half of their titles name a step (or all of these an epoch), and always a later one, those commits are
    taken under their steps and the rest (a README, a merge) are ``others``; else all are taken and counted. ``extra``
    has ``title`` and ``date``.
    """
    ordered = list(reversed(commits))
    named = [(c, n) for c in ordered if (n := _in_title(c.title)) is not None]
    by_title = (
        len({n.kind for _, n in named}) == 1
        and 2 * len(named) >= len(ordered)
        and all(a.step < b.step for (_, a), (_, b) in pairwise(named))
    )
    if not by_title:
        named = [(c, StepName(i, c.title, "index")) for i, c in enumerate(ordered)]
    chosen = tuple(
        ChosenRevision(n.step, c.id[:12], n.kind, c.id, {"title": c.title, "date": c.date}) for c, n in named
    )
    taken = {c.commit for c in chosen}
    by = "the steps in their titles" if by_title else "their order"
    message = f"{len(chosen)} of the {len(ordered)} commits of {branch} are the checkpoints, by {by}"
    left = tuple(f"{c.id[:12]} {c.title}" for c in ordered if c.id not in taken)
    return Selected(chosen, (Finding(kind="commits", severity="info", message=message),), (), left)


def select_repositories(ids: Sequence[str], pattern: str) -> Selected:
    """Select the repositories that a pattern matches, one checkpoint each; the step is in the text that the wildcard
    matches.

    Raises NotFound (``no-revisions``) if none names a step.
    """
    glob = Glob.of(pattern)
    items: list[tuple[StepName, str]] = []
    others = []
    for repo in sorted(ids):
        stars = glob.stars(repo) if "[" not in pattern else None
        step = _number(stars[-1]) if stars else None
        name = parse_step(repo.split("/")[-1]) if step is None else StepName(step, repo, "step")
        if name is None:
            others.append(repo)
        else:
            items.append((StepName(name.step, repo, name.kind, name.extra), repo))
    if not items:
        raise NotFound(
            "no-revisions", f"no repository that {pattern} meets names a step",
            hint=f"It meets {_few(sorted(ids))}." if ids else "Check the spelling of the pattern.",
        )  # fmt: skip
    run = in_order(items, pattern, choose="choose with a narrower pattern")
    chosen = tuple(ChosenRevision(n.step, n.label, n.kind, "", n.extra) for n, _ in run.items)
    return Selected(chosen, tuple(run.findings), (), tuple(others))


def _pinned(refs: Sequence[RefInfo], family: Family | None, pin: str, step_pattern: StepPattern | None) -> Selected:
    ref = next((r for r in refs if r.name == pin), None)
    name = _spelt(pin, family) or parse_step(pin) if step_pattern is None else step_pattern.read(pin)
    others = tuple(r.name for r in refs if r.name != pin)
    if ref is None or name is None:
        return Selected((), (), (), others)
    return Selected((_chosen(name, ref.commit, family),), (), (), others)


def _chosen(name: StepName, commit: str, family: Family | None) -> ChosenRevision:
    extra: dict[str, Any] = dict(name.extra)
    if family is not None and family.steps_a_label != 1.0 and (true := name.step * family.steps_a_label).is_integer():
        extra["true_step"] = int(true)
    return ChosenRevision(name.step, name.label, name.kind, commit, extra)


def _missing(family: Family, missing: tuple[int, ...]) -> Finding:
    shown = ", ".join(map(str, missing[:_SHOWN])) + (" …" if len(missing) > _SHOWN else "")
    message = f"{len(missing)} of the {len(family.expected)} checkpoints of {family.name} are not there: {shown}"
    return Finding(kind="missing-revisions", message=message, steps=missing)


def _spelt(name: str, family: Family | None) -> StepName | None:
    """Parse a name by the family's own spelling; None if it does not match."""
    if family is None or family.where != "branches":
        return None
    return _by_regex(name, re.compile(family.revisions, re.IGNORECASE), family.stages)


def _by_words(
    refs: Sequence[RefInfo], family: Family | None, step_pattern: StepPattern | None = None
) -> dict[str, StepName]:
    """Return name → step, for the names that have one."""
    if step_pattern is not None:
        return {r.name: n for r in refs if (n := step_pattern.read(r.name))}
    if spelt := {r.name: n for r in refs if (n := _spelt(r.name, family))}:
        return spelt
    # A tag that is only a number is a version.
    worded = (r for r in refs if r.kind == "branch" or not r.name.isdecimal())
    return {r.name: n for r in worded if (n := parse_step(r.name))}


def _by_patterns(
    refs: Sequence[RefInfo], family: Family | None, patterns: Sequence[str], step_pattern: StepPattern | None = None
) -> dict[str, StepName]:
    """Return name → step, for the names that a pattern matches. Raises NotFound if one of the patterns matches none."""

    def known(name: str) -> StepName | None:
        return _spelt(name, family) or parse_step(name) if step_pattern is None else step_pattern.read(name)

    named: dict[str, StepName] = {}
    for pattern in patterns:
        regex = StepPattern.of(pattern) if "(?P<" in pattern else None
        meets = (regex or Glob.of(pattern)).meets
        met = [r.name for r in refs if meets(r.name)]
        if not met:
            raise _none_met(refs, pattern)
        found = {
            name: step for name in met if (step := regex.read(name, whole=True) if regex else known(name)) is not None
        }
        if not found and regex is None and len(met) == len(patterns) == 1:
            found = {met[0]: StepName(0, met[0], "index")}
        words = [] if found or regex is None else sorted({w for r in met if (w := regex.stage_word(r))})
        if words:
            raise UsageError(
                "bad-pattern", f"{pattern} has stages that are no numbers and no known words: {_few(words)}",
                hint=f"Known are {', '.join(STAGES)}. Choose one stage at a time with a glob, as in --revisions '{words[0]}*'.",
            )  # fmt: skip
        if not found:
            raise NotFound(
                "no-revisions", f"{pattern} meets {_few(met)}, whose names have no step",
                hint=r"Say where it is with a regular expression: --revisions 'run-(?P<step>\d+)'.",
            )  # fmt: skip
        named |= {name: step for name, step in found.items() if name not in named}
    return named


def _by_regex(name: str, regex: re.Pattern[str], stages: Sequence[str] = ()) -> StepName | None:
    match = regex.fullmatch(name)
    if match is None:
        return None
    groups = {k: v for k, v in match.groupdict().items() if v and k in (*_GROUPS, *_COUNTS)}
    word = groups.get("stage", "")
    if word and not word[0].isdigit():
        known = [*stages, *(s for s in STAGES if s not in stages)]
        bare = re.sub(r"[-_ ]", "", word.lower())
        if bare not in known:
            return None
        groups["stage"] = str(known.index(bare) + 1 if bare in stages else STAGES[bare])
    try:
        numbers = {k: number(v) for k, v in groups.items()}
    except ValueError:
        return None
    kind = next((k for k in _COUNTS if k in numbers), None)
    if kind is None:
        return None
    return StepName(numbers[kind], name, kind, {k: numbers[k] for k in _GROUPS if k in numbers and k != kind})


def _number(text: str) -> int | None:
    try:
        return number(text)
    except ValueError:
        return None


def _in_title(title: str) -> StepName | None:
    """Parse the step or epoch in a commit's title: ``Training in progress, step 500``, ``step_1000``, ``epoch 3``."""
    kinds: tuple[tuple[str, Kind], ...] = (("steps?|iterations?|iter|checkpoint", "step"), ("epochs?", "epoch"))
    for words, kind in kinds:
        found = re.search(rf"(?<![a-z])(?:{words})[\s:=_#-]*(\d+(?:\.\d+)?[kmb]?)(?![a-z0-9]|\.\d)", title.lower())
        if found and (step := _number(found[1])) is not None:
            return StepName(step, title, kind)
    return None


def _none_met(refs: Iterable[RefInfo], pattern: str) -> NotFound:
    names = [r.name for r in refs]
    hint = f"It has {_few(names)}." if names else "It has no branches."
    return NotFound("no-revisions", f"no branch or tag is met by {pattern}", hint=hint)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
