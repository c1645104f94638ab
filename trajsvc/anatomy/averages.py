"""Find copies of tensors that a trainer keeps beside the model as moving averages: momentum encoders, teachers,
targets, shadow weights.

They are found by their names in pairs: ``encoder_k.fc.weight`` beside ``encoder_q.fc.weight``, ``teacher.…`` beside
``student.…``, ``ema.…`` or ``…_target`` beside the same name without that word. Values are not read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from storage_schema.format.arrays import FLOAT_TYPES
from trajsvc.anatomy.buffers import Tensors

_MARKS: Final = frozenset(
    ("ema", "momentum", "mom", "m", "teacher", "target", "targ", "tgt", "avg", "average", "averaged", "swa", "shadow", "slow",
     "polyak", "smoothed", "delayed", "lagged", "k", "key", "mean")
)  # fmt: skip
_ONLINE: Final = (
    "student",
    "online",
    "base",
    "fast",
    "main",
    "model",
    "net",
    "network",
    "policy",
    "current",
    "live",
    "encoder",
    "q",
    "context",
)
_QUERY: Final = {"k": "q", "key": "query"}
_TOWERS: Final = frozenset(
    ("encoder", "net", "network", "model", "backbone", "branch", "tower", "projector", "head", "mlp", "f")
)
_DROPPED_ONLY: Final = frozenset(("m", "mom", "mean", "avg", "tgt"))
_ALONE: Final = frozenset(("ema", "teacher", "target", "targ", "swa", "shadow", "slow", "polyak", "averaged"))
"""Words that mark an average where they are the whole part of a name."""
_WORDS: Final = re.compile(r"[_-]")
SHARE: Final = 0.8
"""Share of a tower's tensors that must have a counterpart of the same shape."""


@dataclass(frozen=True, slots=True)
class Average:
    """One tower that is named like an average: ``prefix`` is what the names of its tensors begin with, ``of`` what they are averages of."""

    prefix: str
    of: str
    pairs: Mapping[str, str]
    """tensor of the average → tensor of the model"""


def averages(tensors: Tensors) -> list[Average]:
    """Return the towers of a checkpoint that are named like averages of others in it; each tensor is in at most one
    tower.
    """
    floats = {n for n, (shape, kind) in tensors.items() if kind in FLOAT_TYPES and 0 not in shape}
    towers: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {}
    for name in floats:
        for prefix, rest, stems in _marked(name):
            towers.setdefault(prefix, []).append((name, rest, stems))
    found: list[Average] = []
    taken: set[str] = set()
    for prefix in sorted(towers, key=lambda p: (p.count("."), p)):
        members = [(n, r, s) for n, r, s in towers[prefix] if n not in taken]
        best = _best(prefix, members, tensors, floats, taken)
        if best is not None:
            found.append(best)
            taken |= best.pairs.keys()
    found += _without_dots(tensors, floats, taken)
    return found + _in_one_word(tensors, floats, taken.union(*(f.pairs for f in found)))


def _best(
    prefix: str,
    members: list[tuple[str, str, tuple[str, ...]]],
    tensors: Tensors,
    floats: set[str],
    taken: set[str],
) -> Average | None:
    """Return the average whose counterpart agrees with most of the tower's tensors; None if too few agree."""
    best: Average | None = None
    for stem in members[0][2] if members else ():
        ours = {name: _counterpart(stem, rest, floats) for name, rest, _ in members}
        pairs = {
            name: other
            for name, other in ours.items()
            if other in floats and other != name and other not in taken and tensors[other][0] == tensors[name][0]
        }
        if len(pairs) >= max(1, SHARE * _tensors(ours, tensors)) and (best is None or len(pairs) > len(best.pairs)):
            best = Average(prefix, stem or "the model", pairs)
    return best


def _counterpart(stem: str, rest: str, floats: set[str]) -> str:
    """Return the model's tensor for an average: the same ``rest`` after ``stem``, also where a wrapper holds the
    average (``ema.module.…``).
    """
    plain = (stem + rest).removeprefix(".")
    bare = (stem + rest.removeprefix(".module")).removeprefix(".")
    return bare if plain not in floats and bare in floats else plain


def _tensors(names: Iterable[str], tensors: Tensors) -> int:
    """Count those of ``names`` that hold more than one number, unlike a counter or a decay rate."""
    return sum(1 for n in names if any(d != 1 for d in tensors[n][0]))


def _marked(name: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (prefix through a marked part, the rest of the name, the possible replacements of the prefix)."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        options = _instead(part, last=i == len(parts) - 1)
        if options:
            before, after = ".".join(parts[:i]), ".".join(parts[i + 1 :])
            lead = f"{before}." if before else ""
            tail = f".{after}" if after else ""
            stems = tuple(_joined(lead, option) if tail else lead + option for option in options if tail or option)
            yield lead + part, tail, stems


def _joined(lead: str, option: str) -> str:
    """Join ``lead`` and ``option`` before a rest that begins with a dot; an empty option drops the trailing dot of
    ``lead``.
    """
    return lead + option if option else lead[:-1]


def _instead(part: str, *, last: bool) -> list[str]:
    """Return what a part of a name may be without the mark of an average; empty if it has no mark."""
    words = _WORDS.split(part)
    lowered = [w.lower() for w in words]
    found: list[str] = []
    for i, word in enumerate(lowered):
        if word not in _MARKS:
            continue
        rest = words[:i] + words[i + 1 :]
        if word in _QUERY:
            if not _TOWERS.isdisjoint(lowered) and len(words) > 1:
                found.append("_".join([*words[:i], _QUERY[word], *words[i + 1 :]]))
            continue
        if not rest:
            if word in _ALONE and not last:
                found += ["", *_ONLINE]
            continue
        found.append("_".join(rest))
        if word not in _DROPPED_ONLY:
            found += ["_".join([*words[:i], online, *words[i + 1 :]]) for online in _ONLINE]
            if not last:
                found += ["", *(o for o in _ONLINE if o not in rest)]
    return list(dict.fromkeys(f for f in found if f != part))


def _in_one_word(tensors: Tensors, floats: set[str], taken: set[str]) -> list[Average]:
    """Return averages that are buffers of the model, with dots as underscores (``ema_blocks_0_weight`` beside
    ``blocks.0.weight``).
    """
    pairs: dict[str, str] = {}
    for other in floats - taken:
        lead, dot, _ = other.partition(".")
        for prefix, name in (("", other), (f"{lead}{dot}", other[len(lead) + len(dot) :])):
            average = f"{prefix}ema_{name.replace('.', '_')}"
            if average in floats - taken and average != other and tensors[average][0] == tensors[other][0]:
                pairs.setdefault(average, other)
    others = [n for n in floats - taken if n.startswith("ema_") and n not in pairs]
    enough = len(pairs) >= max(1, SHARE * (len(pairs) + len(others)))
    return [Average("ema_", "the model", pairs)] if enough else []


def _without_dots(tensors: Tensors, floats: set[str], taken: set[str]) -> list[Average]:
    """Return averages whose names lost their dots (``model_ema.blocks0fc1weight`` beside
    ``model.blocks.0.fc1.weight``).
    """
    towers: dict[str, list[str]] = {}
    for name in floats - taken:
        head, _, rest = name.partition(".")
        if rest and "." not in rest and not {"ema", "averaged", "shadow", "swa"}.isdisjoint(_WORDS.split(head.lower())):
            towers.setdefault(head, []).append(name)
    found = []
    for head, names in sorted(towers.items()):
        plain: dict[str, str] = {}
        for other in floats - set(names):
            plain.setdefault(other.replace(".", ""), other)
            plain.setdefault(other.partition(".")[2].replace(".", ""), other)
        pairs = {n: plain[n[len(head) + 1 :]] for n in names if n[len(head) + 1 :] in plain}
        pairs = {a: b for a, b in pairs.items() if tensors[a][0] == tensors[b][0]}
        if len(pairs) >= max(1, SHARE * _tensors(names, tensors)):
            found.append(Average(head, "the model", pairs))
    return found
