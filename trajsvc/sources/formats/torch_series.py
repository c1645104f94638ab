"""Read a whole run from one torch file: a list of state dicts, or a dictionary of them by step."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from trajsvc.sources.formats.torch_counts import companion, counts_of, first_epoch, first_step
from trajsvc.sources.formats.torch_zip import mapping
from trajsvc.sources.steps import Kind, parse_step

Place = tuple[str | int, ...]
"""Keys and indices from the top of a file to an entry of it."""

MOST: Final = 100_000
_SERIES: Final = re.compile(
    r"check_?points?|ckpts?|snap_?shots?|histor|traject|(?:state_dicts?|weights?|models?|params?)_(?:list|over|by|per|hist|at|for|during)"
    r"|saved_|over_time|(?:^|_)(?:steps|epochs|iterations|iters)$|state_dicts$|all_(?:models|weights|params|states)",
    re.IGNORECASE,
)
"""Keys under which scripts keep the checkpoints of a run; under others (``models``) a list may be an ensemble."""


@dataclass(frozen=True, slots=True)
class Member:
    """One checkpoint of a file that holds a run: where it is in it, and its place on the axis."""

    key: str
    """what the checkpoints are kept under, for people"""
    place: Place
    number: int
    kind: Kind
    sure: bool = True
    """False where nothing says that the list is one over time: it may be an ensemble"""


def members_of(root: Any, names: Callable[[Mapping[Any, Any]], frozenset[str]]) -> tuple[Member, ...]:
    """Return the checkpoints that a file holds, in the order of their numbers; those of a list that may be an ensemble
    are not ``sure``.

    ``names`` returns the tensors of a checkpoint: those of a run have the same. Members are numbered by a list of
    numbers beside them (``checkpoint_epochs``), by their own keys or counts, else by their order.
    """
    top = mapping(root)
    if top is None:
        return _of(root, (), "the file", {}, names) if isinstance(root, list | tuple) else ()
    found = _of(top, (), "the file", {}, names)
    if found:
        return found
    unsure: tuple[Member, ...] = ()
    for key, value in top.items():
        if isinstance(key, str):
            found = _of(value, (key,), key, top, names)
            if found and (_SERIES.search(key) or found[0].kind != "index"):
                return found
            unsure = unsure or tuple(replace(m, sure=False) for m in found)
    return unsure


def _of(
    value: Any,
    place: Place,
    key: str,
    top: Mapping[Any, Any],
    names: Callable[[Mapping[Any, Any]], frozenset[str]],
) -> tuple[Member, ...]:
    entries = _entries(value)
    if not 2 <= len(entries) <= MOST:
        return ()
    states = [mapping(state) for state, _ in entries.values()]
    if any(s is None for s in states):
        return ()
    kept = [s for s in states if s is not None]
    first = names(kept[0])
    if not first or any(names(s) != first for s in kept[1:]):
        return ()
    numbers, kind = _numbered(kept, [n for _, n in entries.values()], key, top)
    members = [Member(key, (*place, part), n, kind) for part, n in zip(entries, numbers, strict=True)]
    return tuple(sorted(members, key=lambda m: m.number))


def _entries(value: Any) -> dict[str | int, tuple[Any, tuple[int, Kind] | None]]:
    """Return the entries of a list, or of a dictionary whose keys are all numbers or name steps, with the number in the
    key.
    """
    if isinstance(value, list | tuple):
        return {i: (state, None) for i, state in enumerate(value)}
    inner = mapping(value)
    if not inner:
        return {}
    found: dict[str | int, tuple[Any, tuple[int, Kind] | None]] = {}
    for part, state in inner.items():
        if type(part) is int and part >= 0:
            found[part] = state, (part, "step")
        elif isinstance(part, str) and (name := parse_step(part)) is not None:
            found[part] = state, (name.step, name.kind)
        else:
            return {}
    return found


def _numbered(
    states: Sequence[Mapping[Any, Any]], keyed: list[tuple[int, Kind] | None], key: str, top: Mapping[Any, Any]
) -> tuple[list[int], Kind]:
    named = [k for k in keyed if k is not None]
    if len(named) == len(states) and len({number for number, _ in named}) == len(states):
        numbers = [number for number, _ in named]
        kind = _kind(key) or named[0][1]
        return numbers, "index" if kind == "step" and numbers == list(range(len(numbers))) else kind
    if beside := companion(top, key, len(states)):
        return list(beside[1]), _kind(beside[0]) or "step"
    counts = [counts_of(s) for s in states]
    ways: tuple[tuple[Callable[[Mapping[str, int]], int | None], Kind], ...] = (
        (first_step, "step"),
        (first_epoch, "epoch"),
    )
    for way, kind in ways:
        own = [n for c in counts if (n := way(c)) is not None]
        if len(own) == len(states) and all(a < b for a, b in pairwise(own)):
            return own, kind
    return list(range(len(states))), "index"


def _kind(name: str) -> Kind | None:
    words: tuple[tuple[str, Kind], ...] = (
        ("epoch", "epoch"), ("token", "tokens"), ("step", "step"), ("iter", "step"), ("update", "step"),
    )  # fmt: skip
    return next((kind for word, kind in words if word in name.lower()), None)
