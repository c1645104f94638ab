"""Tell apart several series of checkpoints in one folder: ``model001000.pt`` beside ``ema_0.9999_001000.pt``, seeds,
stages, two networks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from trajsvc.errors import NotFound, Refused
from trajsvc.sources.formats.layout import Found
from trajsvc.sources.listing.entries import Listing, some
from trajsvc.sources.listing.two_readings import ask_about_words
from trajsvc.sources.states import Wish, ambiguous, choose, is_average, matched, series_of
from trajsvc.sources.steps import STAGES


def one_series(found: Sequence[Found], where: str, wish: Wish, listing: Listing) -> tuple[list[Found], Wish]:
    """Return the checkpoints that are of one model, and what is left of the wish.

    Names are compared without their numbers. Series at the same steps are several models, of which one is chosen (see
    ``states``); words for the stages of a training are stages; others at steps of their own are ambiguous. A name that
    is like no other's is left out. Raises Refused (``ambiguous-state``).
    """
    by_key = {str(i): f for i, f in enumerate(found)}
    alike = series_of({key: f.name.label for key, f in by_key.items()})
    groups = {_name(words): [by_key[key] for key in keys] for words, keys in alike.items()}
    if len(groups) < 2:
        return list(found), wish
    name, left = matched(list(groups), wish)
    if name is None and _gone_on(groups):
        return list(found), wish
    single = all(len(g) == 1 for g in groups.values()) and not _overlap(*list(groups.values())[:2])
    if len(groups) > max(2, len(found) // 2) or (name is None and single):
        if all(set(_words(n)) <= STAGES.keys() for n in groups):
            return _staged(groups), wish
        ask_about_words(found, where, listing)
        return list(found), wish  # names that all differ in hashes and dates say nothing
    if name is None:
        name = _main(groups, where, wish)
        if name is None:
            return _staged(groups), wish
    for other, members in groups.items():
        if other == name:
            continue
        listing.note(
            "other-states",
            f"{where}: {name} is read ({len(groups[name])} checkpoints), {other} beside it is not ({some(f.name.label for f in members)}); "
            "--state NAME reads another",
            [],
            "info" if is_average(other) or wish else "warning",
            state=name,
            others=[other],
        )
    return groups[name], left


def _gone_on(groups: dict[str, list[Found]]) -> bool:
    """Return whether the series are one training that was resumed: ``version_1`` begins behind the last step of ``version_0``."""
    numbers = {name: re.fullmatch(r"(?:version|part)(\d+)", name) for name in groups}
    if not all(numbers.values()):
        return False
    rising = [sorted(f.name.step for f in groups[n]) for n in sorted(groups, key=lambda n: int(re.sub(r"\D", "", n)))]
    return all(a[-1] < b[0] for a, b in pairwise(rising))


def _main(groups: dict[str, list[Found]], where: str, wish: Wish) -> str | None:
    """Return the series that is the run; None if all are, one stage after the other."""
    left = {n: g for n, g in groups.items() if not is_average(n)} or dict(groups)
    repeated = {n: g for n, g in left.items() if len(g) > 1} or left
    if len(repeated) == 1:
        return next(iter(repeated))
    if all(set(_words(n)) <= STAGES.keys() for n in repeated):
        return None
    names = list(repeated)
    together = all(_overlap(repeated[a], repeated[b]) for i, a in enumerate(names) for b in names[i + 1 :])

    def refuse(given: Sequence[str]) -> Refused | NotFound:
        return ambiguous(where, "several series of checkpoints:", given, wish)

    if not together:
        raise refuse(names)
    return choose(names, refuse).chosen


def _staged(groups: dict[str, list[Found]]) -> list[Found]:
    """Return all checkpoints, with the stage that their names' words mean."""
    staged = []
    for name, members in groups.items():
        stage = max((STAGES[w] for w in _words(name)), default=0)
        for found in members:
            extra = {"stage": stage, **found.name.extra} if stage else dict(found.name.extra)
            staged.append(replace(found, name=replace(found.name, extra=extra)))
    return staged


def _overlap(one: Sequence[Found], other: Sequence[Found]) -> bool:
    both = _places(one) & _places(other)
    return 2 * len(both) >= min(len(_places(one)), len(_places(other)))


def _places(members: Sequence[Found]) -> set[tuple[str, int, int]]:
    return {(f.name.kind, f.name.extra.get("stage", 0), f.name.step) for f in members}


def _name(words: tuple[str, ...]) -> str:
    return "_".join(words) or "model"


def _words(name: str) -> list[str]:
    return [] if name == "model" else name.split("_")
