"""Number files by the only number in which their names differ, where nothing in them says what it is: ``model_e3.pt``,
``agent_200_frames.pt``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from trajsvc.sources.listing.entries import label_of
from trajsvc.sources.steps import STEP_LIMIT, Kind, StepName, no_step_after, scaled, without_settings

_NUMBER: Final = re.compile(r"(\d+(?:\.\d+(?=[kmbt](?![a-z])))?(?:[kmbt](?![a-z]))?)")
_UNITS: Final[Mapping[str, Kind]] = {"b": "tokens", "t": "tokens"}
_STEPS: Final = re.compile(r"(?:time_?steps?|frames?|batch(?:es)?|s|b|t)[-_=]?\Z")
_EPOCHS: Final = re.compile(r"(?:^|[-_.])e[-_=]?\Z")


def numbers_alone(names: Sequence[str]) -> dict[str, StepName]:
    """Return the place of each file by the one number in which the names differ; empty if they differ otherwise.

    Scores, seeds, ranks, folds and sizes are no places. What the number counts is unknown unless a word or a unit says.
    """
    if len(names) < 2:
        return {}
    parts = {name: _NUMBER.split(without_settings(label_of(name).lower())) for name in names}
    first = next(iter(parts.values()))
    if any(len(p) != len(first) or p[::2] != first[::2] for p in parts.values()):
        return {}
    varying = [i for i in range(1, len(first), 2) if len({p[i] for p in parts.values()}) > 1]
    if len(varying) != 1 or no_step_after("".join(first[: varying[0]])):
        return {}
    (at,) = varying
    places = {name: scaled(p[at]) for name, p in parts.items()}
    if len(set(places.values())) < len(names) or any(n is None or n > STEP_LIMIT for n in places.values()):
        return {}
    kind = _kind(first, at, [p[at] for p in parts.values()])
    return {name: StepName(n, label_of(name), kind, sure=False) for name, n in places.items() if n is not None}


def _kind(parts: Sequence[str], at: int, numbers: Sequence[str]) -> Kind:
    units = {_UNITS.get(number[-1]) for number in numbers}
    if units == {"tokens"}:
        return "tokens"
    before, after = "".join(parts[:at]), re.match(r"[-_]?([a-z]*)", "".join(parts[at + 1 :]))
    if _EPOCHS.search(before):
        return "epoch"
    return "step" if _STEPS.search(before) or (after and after[1] and _STEPS.fullmatch(after[1])) else "index"
