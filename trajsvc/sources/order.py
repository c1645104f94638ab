"""Sort checkpoints in the order of training: by stage, ingredient and step, on one axis of steps that never decreases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any, Final, Generic, Literal, TypeVar

from storage_schema.models.results import Finding
from trajsvc.errors import Refused
from trajsvc.sources.other_numbers import DATE, DIGITS, PART, PARTS
from trajsvc.sources.steps import StepName
from trajsvc.sources.thousands import Reading, decided

T = TypeVar("T")

WORDS: Final = {"step": "steps", "epoch": "epochs", "tokens": "tokens", "index": "a count of checkpoints"}
"""What an axis counts, in words."""


@dataclass
class Ordered(Generic[T]):
    """Checkpoints in order, each with its place on the axis, and what was noticed."""

    items: list[tuple[StepName, T]]
    findings: list[Finding] = field(default_factory=list)

    def note(
        self,
        kind: str,
        message: str,
        steps: Sequence[int] = (),
        severity: Literal["info", "warning"] = "info",
        **details: Any,
    ) -> None:
        self.findings.append(
            Finding(kind=kind, severity=severity, message=message, steps=tuple(steps), details=details)
        )


def in_order(items: Sequence[tuple[StepName, T]], where: str, *, choose: str, chosen: bool = False) -> Ordered[T]:
    """Sort ``items`` by (stage, ingredient, step); those whose names count another thing than most are left out with a
    warning.

    If a later stage does not go on from the steps of the one before but counts anew, its steps are added to the last
    step before it: ``extra`` then keeps ``stage_step``, the count within the stage. Ingredients of a stage are
    alternatives: the first is taken and the others left out with a finding, unless the user has ``chosen`` by name.
    ``choose`` says how to choose. Raises Refused (``step-conflict``) for two checkpoints in one place.
    """
    found: Ordered[T] = Ordered([])
    ordered = sorted(
        _within_epochs(_one_kind(items, found, where, choose), found, where), key=lambda item: place(item[0])
    )
    stages = {key: list(group) for key, group in groupby(ordered, key=lambda item: place(item[0])[:2])}
    taken: dict[int, int] = {}
    for (stage, ingredient), group in stages.items():
        if taken.setdefault(stage, ingredient) != ingredient:
            if chosen:
                raise _conflict(
                    f"ingredients {taken[stage]} and {ingredient} of stage {stage} are alternatives, not one path",
                    where,
                    choose,
                )
            found.note(
                "other-ingredients",
                f"{where}: {len(group)} checkpoints of stage {stage}, ingredient {ingredient} are another path and are left out; {choose}",
                labels=[name.label for name, _ in group][:20],
            )
            continue
        for (one, _), (other, _) in pairwise(group):
            if one.step == other.step:
                raise _conflict(f"{one.label} and {other.label} are both step {one.step}", where, choose)
        _add_stage(found, group, where)
    _note_gaps(found, where)
    _note_numbers(found, where)
    return found


def with_whole_numbers(names: Sequence[StepName], where: str) -> list[StepName]:
    """Return the names of one run, with numbers written in groups of three replaced by the steps that they mean, dates by their order, and
    epochs with a decimal point by whole numbers.

    Raises Refused (``step-conflict``) if the names leave two readings.
    """
    names = _whole_parts(_ranked(names))
    steps = decided([Reading(n.label, n.step, n.grouped) for n in names], where)
    if steps is None:
        return list(names)
    return [
        replace(n, step=step, kind="step", grouped=None) if n.grouped else n
        for n, step in zip(names, steps, strict=True)
    ]


def _ranked(names: Sequence[StepName]) -> Sequence[StepName]:
    """Return the names with their places in the order of dates; one of another kind stays as it is."""
    dates = sorted({n.step for n in names if DATE in n.extra})
    return [replace(n, step=dates.index(n.step)) if DATE in n.extra else n for n in names]


def _whole_parts(names: Sequence[StepName]) -> Sequence[StepName]:
    """Return the names with epochs in the parts that all of them are whole numbers of: 0.5, 1 and 1.25 are 50, 100 and 125 hundredths."""
    most = max((n.extra[DIGITS] for n in names if DIGITS in n.extra), default=0)
    result = []
    for name in names:
        extra = {k: v for k, v in name.extra.items() if k not in (DIGITS, PART)}
        if name.kind == "epoch" and most:
            part = name.extra.get(PART, 0) * 10 ** (most - name.extra.get(DIGITS, 0))
            name = replace(name, step=name.step * 10**most + part, kind="index", extra={**extra, PARTS: 10**most})
        result.append(replace(name, extra=extra) if not most else name)
    return result


def _note_numbers(found: Ordered[Any], where: str) -> None:
    """Say what stands for numbers that are no whole ones."""
    names = [name for name, _ in found.items]
    if any(DATE in n.extra for n in names):
        found.note(
            "counted",
            f"{where}: the names ({names[0].label} … {names[-1].label}) are dates, by which the checkpoints are counted from 0; no step is "
            "known",
        )
    if parts := next((n.extra[PARTS] for n in names if PARTS in n.extra), 0):
        found.note(
            "counted",
            f"{where}: the names ({names[0].label} … {names[-1].label}) say parts of epochs; the steps are {_FRACTIONS[parts]} of an epoch",
        )


_FRACTIONS: Final = {
    10: "tenths", 100: "hundredths", 1000: "thousandths", 10**4: "ten-thousandths", 10**5: "hundred-thousandths", 10**6: "millionths",
}  # fmt: skip


def place(name: StepName) -> tuple[int, int, int]:
    """Return stage, ingredient and step, by which a run is ordered."""
    return name.extra.get("stage", 0), name.extra.get("ingredient", 0), name.step


def _add_stage(found: Ordered[T], group: Sequence[tuple[StepName, T]], where: str) -> None:
    last = found.items[-1][0].step if found.items else -1
    first = group[0][0]
    if first.step > last:
        found.items += group
        return
    for name, item in group:
        found.items.append((replace(name, step=name.step + last, extra={**name.extra, "stage_step": name.step}), item))
    if found.items[-len(group)][0].step == last:  # a stage that begins with its step 0 begins where the last one ended
        ended = found.items[-len(group) - 1][0].label
        found.note(
            "stage-start", f"{where}: {first.label} is the start of a stage that {ended} ends; it is left out", [last]
        )
        del found.items[-len(group)]
    found.note("stage-steps", f"{where}: from {first.label} on steps are counted anew; {last} is added to them", [last])


def _one_kind(
    items: Sequence[tuple[StepName, T]], found: Ordered[T], where: str, choose: str
) -> list[tuple[StepName, T]]:
    """Return the checkpoints whose names count what most of them count; on a tie, steps come first."""
    counts = Counter(name.kind for name, _ in items)
    if len(counts) < 2:
        return list(items)
    order = ("step", "epoch", "tokens", "index")
    most = max(counts, key=lambda kind: (counts[kind], -order.index(kind)))
    left = [name for name, _ in items if name.kind != most]
    shown = ", ".join(name.label for name in left[:6]) + (" …" if len(left) > 6 else "")
    found.note(
        "other-axis",
        f"{where}: the checkpoints are ordered by {WORDS[most]}; {shown} only name {WORDS[left[0].kind]} and are left out; {choose}",
        severity="warning",
        labels=[name.label for name in left][:20],
    )
    return [(name, item) for name, item in items if name.kind == most]


def _within_epochs(items: Sequence[tuple[StepName, T]], found: Ordered[T], where: str) -> Sequence[tuple[StepName, T]]:
    """Add up steps that begin anew in each epoch: ``epoch_0_iter_800``, ``epoch_1_iter_400``.

    That they do is certain where two epochs have one step. Raises Refused (``step-conflict``) where later epochs only
    have earlier steps, which a training that was begun again has too.
    """
    if any(name.kind != "step" or "epoch" not in name.extra for name, _ in items):
        return items
    ordered = sorted(items, key=lambda item: (*place(item[0])[:2], item[0].extra["epoch"], item[0].step))
    groups = [list(g) for _, g in groupby(ordered, key=lambda i: (*place(i[0])[:2], i[0].extra["epoch"]))]
    same = [a[0][0].extra.get("stage") == b[0][0].extra.get("stage") for a, b in pairwise(groups)]
    back = [b[0][0].step <= a[-1][0].step for a, b in pairwise(groups)]
    if not any(b and s for b, s in zip(back, same, strict=True)):
        return items
    before, after = next((a[-1][0], b[0][0]) for a, b in pairwise(groups) if b[0][0].step <= a[-1][0].step)
    apart = [{name.step for name, _ in group} for group in groups]
    if not any(a & b for i, a in enumerate(apart) for b in apart[i + 1 :]):
        raise Refused(
            "step-conflict",
            f"{where}: {after.label} is of a later epoch than {before.label} and of an earlier step: steps may begin anew in each "
            "epoch, or the training was begun again",
            hint=f"If they begin anew in each epoch, say that an epoch is a stage: --step-pattern '{_pattern(after, 'stage')}'. "
            f"If steps count on: --step-pattern '{_pattern(after)}'.",
            file=where,
        )
    result: list[tuple[StepName, T]] = []
    last = 0
    for group in groups:
        result += [(replace(name, step=name.step + last), item) for name, item in group]
        last = result[-1][0].step
    found.note(
        "epoch-steps",
        f"{where}: steps are counted anew in each epoch ({before.label}, {after.label}); those of the epochs before are added, as far as "
        "checkpoints show them",
        severity="warning",
    )
    return result


def _pattern(name: StepName, epoch: str = "") -> str:
    """Return the pattern of a label for ``--step-pattern``, with the group ``epoch`` in the place of its epoch."""
    groups = {name.step: r"(?P<step>\d+)", name.extra["epoch"]: rf"(?P<{epoch}>\d+)" if epoch else r"\d+"}
    parts = re.split(r"(\d+)", name.label)
    return "".join(groups.get(int(p), r"\d+") if i % 2 else re.escape(p) for i, p in enumerate(parts))


def _note_gaps(found: Ordered[Any], where: str) -> None:
    """Report evenly spaced steps with one missing: ``… 1000, 2000, 4000, 5000 …``."""
    steps = [name.step for name, _ in found.items]
    jumps = [b - a for a, b in pairwise(steps)]
    for i in range(1, len(jumps) - 1):
        before, jump, after = jumps[i - 1 : i + 2]
        if before == after and jump > before and jump % before == 0:
            found.note(
                "gap", f"{where}: between steps {steps[i]} and {steps[i + 1]} others may be missing", steps[i : i + 2]
            )


def _conflict(what: str, where: str, choose: str) -> Refused:
    return Refused("step-conflict", f"{where}: {what}", hint=f"{choose[:1].upper()}{choose[1:]}.", file=where)
