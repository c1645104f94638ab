"""Determine the axis of a run (steps, epochs, tokens or a count), and what the numbers of names mean, by the keys
within files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from trajsvc.sources.formats.layout import Found
from trajsvc.sources.formats.torch_counts import first_epoch, first_step, is_epoch
from trajsvc.sources.listing.entries import How, Listing, first_file, some
from trajsvc.sources.order import WORDS
from trajsvc.sources.steps import Kind

_ORDER: Final[tuple[Kind, ...]] = ("step", "epoch", "tokens", "index")
_ASKED: Final = 2
"""checkpoints whose keys are read to learn what the numbers of all are"""
_EPOCH_AND_STEP: Final = re.compile(r"checkpoint_\d+_\d+", re.IGNORECASE)
_EPOCH_ONLY: Final = re.compile(r"checkpoint\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Axis:
    """The numbering of a run's checkpoints, and the key of their files that has the same numbers: its path and an
    offset.
    """

    kind: Kind
    path: str | None = None
    added: int = 0
    knows: bool = False
    """whether the files say anything that counts"""

    def of(self, counts: Mapping[str, int]) -> int | None:
        """Return the place of a file with these counts; None if they do not say."""
        if self.path is not None:
            number = counts.get(self.path)
            return None if number is None else number + self.added
        if self.knows:
            return None
        if self.kind == "step":
            return first_step(counts)
        return first_epoch(counts) if self.kind == "epoch" else None


def one_axis(found: Sequence[Found], where: str, how: How, listing: Listing) -> tuple[list[Found], Kind]:
    """Return the checkpoints that lie on one axis, and what the axis counts.

    Numbers that a name does not explain are explained by the files' keys. If names count different things, those whose
    files say the step are placed at that step; else what most of them count is the axis, and the others are left out
    with a warning.
    """
    known = _counted_apart(_explained(list(found), how), where, how, listing)
    kinds = Counter(f.name.kind for f in known)
    if len(kinds) < 2:
        kind: Kind = next(iter(kinds), "step")
        return known, kind
    if "step" in kinds:
        axis = learnt([f for f in known if f.name.kind == "step"], "step", how)
        placed = [f if f.name.kind == "step" else _moved(f, axis, how) for f in known]
        missing = [f for f, p in zip(known, placed, strict=True) if p is None]
        if not missing or kinds["step"] >= max(n for k, n in kinds.items() if k != "step"):
            return _kept([p for p in placed if p is not None], missing, "step", where, listing), "step"
    most = max(_ORDER, key=lambda k: (kinds.get(k, 0), -_ORDER.index(k)))
    kept, missing = [f for f in known if f.name.kind == most], [f for f in known if f.name.kind != most]
    return _kept(kept, missing, most, where, listing), most


def _kept(kept: list[Found], missing: Sequence[Found], kind: Kind, where: str, listing: Listing) -> list[Found]:
    """Return the checkpoints on the axis; of two at one place the one whose name says it."""
    if missing:
        names, only = some((f.name.label for f in missing), 6), "names" if len(missing) == 1 else "name"
        listing.note(
            "other-axis",
            f"{where}: the checkpoints are ordered by {WORDS[kind]}; {names} only {only} {WORDS[missing[0].name.kind]} and "
            f"{'is' if len(missing) == 1 else 'are'} left out (choose with a quoted pattern or --step-pattern)",
            labels=[f.name.label for f in missing][:20],
        )
    own = {(f.name.extra.get("stage", 0), f.name.step): f for f in kept if "placed" not in f.name.extra}
    result = []
    for found in kept:
        twin = own.get((found.name.extra.get("stage", 0), found.name.step))
        if twin is not None and twin is not found and "placed" in found.name.extra:
            message = f"{found.name.label} holds step {found.name.step}, as {twin.name.label} does; it is left out"
            listing.note("ignored-file", message, [found.name.step])
            continue
        extra = {k: v for k, v in found.name.extra.items() if k != "placed"}
        result.append(replace(found, name=replace(found.name, extra=extra)))
    return result


def _moved(found: Found, axis: Axis, how: How) -> Found | None:
    """Return a checkpoint that is named by an epoch at the step that its keys say."""
    held = how.torch(first_file(found))
    step = None if held is None else axis.of(held.counts)
    if step is None:
        return None
    extra = {**found.name.extra, "placed": 1} | ({"epoch": found.name.step} if found.name.kind == "epoch" else {})
    return replace(found, name=replace(found.name, step=step, kind=axis.kind, extra=extra))


def _explained(found: list[Found], how: How) -> list[Found]:
    """Complete checkpoints whose names do not say what their number is by what the keys of some of their files say."""
    unsure = sorted((f for f in found if not f.name.sure), key=lambda f: f.name.step)
    if not unsure:
        return found
    kind = _kind_by_keys(_ends(unsure), how)
    by_updates = any(_EPOCH_AND_STEP.fullmatch(f.name.label) for f in found)
    result = []
    for one in found:
        own = kind
        if own is None and by_updates and _EPOCH_ONLY.fullmatch(one.name.label):
            own = "epoch"  # checkpoint_3_2000 is update 2000, checkpoint3 the end of epoch 3
        result.append(
            one if one.name.sure or own is None else replace(one, name=replace(one.name, kind=own, sure=True))
        )
    return result


def _counted_apart(found: list[Found], where: str, how: How, listing: Listing) -> list[Found]:
    """Place checkpoints at their files' steps if the numbers of their names only count the checkpoints.

    This is so if no name says what its number is, and every file has a step of its own that rises with the numbers and
    differs from them.
    """
    ordered = sorted(found, key=lambda f: f.name.step)
    if len(found) < _ASKED or any(f.name.sure or f.name.kind in ("epoch", "tokens") for f in found):
        return found
    last, first = (_own_step(f, how) for f in _ends(found))
    if last is None or first is None or last <= ordered[-1].name.step + 1 or first < ordered[0].name.step:
        return found
    steps = [_own_step(f, how) for f in ordered]
    known = [s for s in steps if s is not None]
    if len(known) < len(steps) or any(a >= b for a, b in pairwise(known)):
        return found
    listing.note(
        "counted",
        f"{where}: the numbers in the names ({ordered[0].name.label} … {ordered[-1].name.label}) count checkpoints; they stand at the "
        f"steps that their files say ({known[0]} … {known[-1]})",
        severity="info",
    )
    return [replace(f, name=replace(f.name, step=s, kind="step")) for f, s in zip(ordered, known, strict=True)]


def _own_step(found: Found, how: How) -> int | None:
    held = how.torch(first_file(found))
    return None if held is None else first_step(held.counts)


def _kind_by_keys(found: Sequence[Found], how: How) -> Kind | None:
    """Return what the numbers of names count, if keys in the files agree with them."""
    held = [(f.name.step, t.counts) for f in found if (t := how.torch(first_file(f))) is not None]
    if not held:
        return None
    agreed = [{p for p, n in counts.items() if n == number} for number, counts in held]
    both = set.intersection(*agreed)
    if any(not is_epoch(p) for p in both):
        return "step"
    if both:
        return "epoch"
    # Names that begin with 1 where keys begin with 0, or the other way: the same distance in all that were asked.
    if len(held) > 1:
        apart = [{(p, number - n) for p, n in counts.items() if abs(number - n) == 1} for number, counts in held]
        near = set.intersection(*apart)
        if near:
            return "epoch" if all(is_epoch(p) for p, _ in near) else None
    return None


def learnt(found: Sequence[Found], kind: Kind, how: How) -> Axis:
    """Return the axis of checkpoints that are named by ``kind``: the key of their files that has the same numbers."""
    held = [(f.name.step, t.counts) for f in _ends(found) if (t := how.torch(first_file(f))) is not None]
    if not held:
        return Axis(kind)
    epochs = kind == "epoch"
    apart = [
        {(p, number - n) for p, n in counts.items() if is_epoch(p) == epochs and abs(number - n) <= 1}
        for number, counts in held
    ]
    both = sorted(set.intersection(*apart), key=lambda item: (abs(item[1]), item[0].count("."), item[0]))
    if not both:
        return Axis(kind, knows=any(counts for _, counts in held))
    path, added = both[0]
    return Axis(kind, path, added, knows=True)


def _ends(found: Sequence[Found]) -> list[Found]:
    """Return the last checkpoint and the first."""
    ordered = sorted(found, key=lambda f: f.name.step)
    return ordered[-1:] if len(ordered) < _ASKED else [ordered[-1], ordered[0]]
