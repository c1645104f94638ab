"""Which blocks of two stored runs are the same parameters: equal names, equal sizes and, where both are known, equal shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from storage_schema.runs.contents import BlockTable
from trajsvc.errors import Refused
from trajsvc.sources.rename_hints import suggested_renames
from trajsvc.sources.renames import apply_renames, read_renames

SHOWN: Final = 4
"""tensors that a refusal names of each kind"""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Matched:
    """Numbers of the blocks that two runs have in common, in the first run's order; ``left_out`` tensors of either."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    left_out: tuple[str, ...] = ()


def match_blocks(
    names: tuple[str, str],
    first: BlockTable,
    second: BlockTable,
    *,
    shapes: tuple[Shapes, Shapes] = ({}, {}),
    rename: Sequence[str] = (),
    common: bool = False,
) -> Matched:
    """Match the blocks of the runs called ``names``; ``rename`` is applied to the second's tensors first.

    Raises Refused (``runs-differ``) which names the tensors that only one has, or that differ, unless ``common`` leaves
    them out; always if they have none in common. UsageError (``bad-rename``, ``rename-conflict``).
    """
    called, _ = apply_renames(read_renames(rename), dict.fromkeys(second.tensor))
    renamed = [called[t] + n.removeprefix(t) for t, n in zip(second.tensor, second.name, strict=True)]
    there = {name: number for number, name in enumerate(renamed)}
    other_shapes = {called.get(name, name): shape for name, shape in shapes[1].items()}
    only = (
        [n for n in dict.fromkeys(first.name) if n not in there],
        [n for n in renamed if n not in set(first.name)],
    )
    pairs, unlike = [], []
    for number, name in enumerate(first.name):
        if name not in there:
            continue
        words = _difference(first, number, second, there[name], shapes[0], other_shapes, renamed)
        if words:
            unlike.append(f"{name} ({words})")
        else:
            pairs.append((number, there[name]))
    if (any(only) or unlike) and not (common and pairs):
        raise _differ(names, only, unlike, bool(pairs), _hint(first, second, shapes))
    chosen = tuple(zip(*pairs, strict=True)) if pairs else ((), ())
    return Matched(chosen[0], chosen[1], (*only[0], *only[1], *(w.partition(" (")[0] for w in unlike)))


def _difference(
    first: BlockTable, a: int, second: BlockTable, b: int, mine: Shapes, theirs: Shapes, renamed: Sequence[str]
) -> str:
    one, two = mine.get(first.tensor[a]), theirs.get(first.tensor[a])
    if one is not None and two is not None and one != two:
        return f"{'×'.join(map(str, one))} and {'×'.join(map(str, two))}"
    sizes = int(first.size[a]), int(second.size[b])
    return "" if sizes[0] == sizes[1] else f"{sizes[0]} and {sizes[1]} values"


def _differ(
    names: tuple[str, str], only: tuple[list[str], list[str]], unlike: list[str], some: bool, hint: str
) -> Refused:
    words = [f"only {name} has {_listed(tensors)}" for name, tensors in zip(names, only, strict=True) if tensors]
    if unlike:
        words.append(f"of other shapes are {_listed(unlike)}")
    common = "--common compares the tensors that both have." if some else "They have no tensor in common."
    return Refused(
        "runs-differ",
        f"{names[0]} and {names[1]} are not runs of the same network: {'; '.join(words)}",
        hint=f"{common} {hint}".strip(),
    )


def _hint(first: BlockTable, second: BlockTable, shapes: tuple[Shapes, Shapes]) -> str:
    mine = shapes[1] or {n: (int(s),) for n, s in zip(second.name, second.size, strict=True)}
    target = shapes[0] or {n: (int(s),) for n, s in zip(first.name, first.size, strict=True)}
    found = suggested_renames(mine, target) if bool(shapes[0]) == bool(shapes[1]) else ()
    return (
        " ".join(["If they are the same under other names, add", *(f"--rename '{r}'" for r in found)]) if found else ""
    )


def _listed(tensors: Sequence[str]) -> str:
    shown = ", ".join(tensors[:SHOWN])
    return f"{shown} and {len(tensors) - SHOWN} more" if len(tensors) > SHOWN else shown
