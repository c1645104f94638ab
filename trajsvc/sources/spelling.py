"""Find one spelling for a run whose tensor names changed during training: a library was upgraded, a wrapper was added
or removed.

``spelt_alike`` brings every checkpoint to the names that most have (of the later ones when two are as frequent). What
is known to be the same is renamed: prefixes that moved (``model.layers`` → ``model.language_model.layers``), the two
forms of weight and spectral normalisation, ``gamma`` and ``beta``, an adapter with its name or without; projections and
experts that were stored apart and are stored as one are regrouped; ``blocks_0`` and ``blocks.0`` are two spellings of
one name. A change is made only if it leaves no second reading, and shapes agree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trajsvc.sources.base import TensorEntry
from trajsvc.sources.regroup import regrouped
from trajsvc.sources.tensor_names import harmonise

Tensors = Mapping[str, TensorEntry]

_LEAVES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"(.+\.)gamma\Z", r"\1weight"),
        (r"(.+\.)beta\Z", r"\1bias"),
        (r"(.+\.)weight\Z", r"\1gamma"),
        (r"(.+\.)bias\Z", r"\1beta"),
        (r"(.+\.)(\w+)_g\Z", r"\1parametrizations.\2.original0"),
        (r"(.+\.)(\w+)_v\Z", r"\1parametrizations.\2.original1"),
        (r"(.+\.)(\w+)_orig\Z", r"\1parametrizations.\2.original"),
        (r"(.+\.)(\w+)_u\Z", r"\1parametrizations.\2.0._u"),
        (r"(.+\.)(\w+)_v\Z", r"\1parametrizations.\2.0._v"),
        (r"(.+\.)parametrizations\.(\w+)\.original0\Z", r"\1\2_g"),
        (r"(.+\.)parametrizations\.(\w+)\.original1\Z", r"\1\2_v"),
        (r"(.+\.)parametrizations\.(\w+)\.original\Z", r"\1\2_orig"),
        (r"(.+\.)parametrizations\.(\w+)\.[0-9]+\._([uv])\Z", r"\1\2_\3"),
        (r"(.+\.lora_(?:A|B|magnitude_vector))\.\w+\.weight\Z", r"\1.weight"),
        (r"(.+\.lora_(?:A|B|magnitude_vector))\.weight\Z", r"\1.default.weight"),
        (r"(.+\.lora_(?:embedding_A|embedding_B|magnitude_vector))\.\w+\Z", r"\1"),
        (r"(.+\.lora_(?:embedding_A|embedding_B|magnitude_vector))\Z", r"\1.default"),
        (r"(.+)\.base_layer\.(\w+)\Z", r"\1.\2"),
        (r"(.+)\.(\w+)\Z", r"\1.base_layer.\2"),
        (r"(.+)\.modules_to_save\.\w+\.(\w+)\Z", r"\1.\2"),
        (r"(.+)\.(\w+)\Z", r"\1.modules_to_save.default.\2"),
    )
)
"""(a name's form, the other form of the same tensor)."""


@dataclass(frozen=True)
class Spelt:
    """A checkpoint under the run's names: ``renamed`` says what moved, as ``from → to`` with the numbers of layers left out."""

    tensors: dict[str, TensorEntry]
    renamed: tuple[str, ...] = field(default=())


def spelt_alike(checkpoints: Sequence[Tensors], config: Mapping[str, Any] | None = None) -> list[Spelt]:
    """Return the checkpoints of one run under one spelling.

    Entries stay as they are: their ``name`` is the one in the file.
    """
    first = harmonise(checkpoints, config)
    changed = [_moved(a, b) for a, b in zip(checkpoints, first, strict=True)]
    sets: dict[frozenset[tuple[str, tuple[int, ...]]], int] = {}
    for i, tensors in enumerate(first):
        sets.setdefault(_signature(tensors), i)
    if len(sets) == 1:
        return [Spelt(t, c) for t, c in zip(first, changed, strict=True)]
    counts = Counter(_signature(t) for t in first)
    most = max(counts.values())
    target = next(t for t in reversed(first) if counts[_signature(t)] == most)
    plans = {key: _plan(first[i], target) for key, i in sets.items()}
    found = []
    for tensors, already in zip(first, changed, strict=True):
        renames = plans[_signature(tensors)]
        named = {renames.get(n, n): e for n, e in tensors.items()}
        whole, regroups = regrouped(named, target)
        found.append(Spelt(whole, (*already, *said(renames), *regroups)))
    return found


def _signature(tensors: Tensors) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((n, e.shape) for n, e in tensors.items())


def _moved(before: Tensors, after: Tensors) -> tuple[str, ...]:
    return said({a: b for a, b in zip(before, after, strict=True) if a != b})


def said(renames: Mapping[str, str]) -> tuple[str, ...]:
    """Describe renames in few lines: what differs at the beginning or the end, numbers as ``#``."""
    said = Counter(_difference(old, new) for old, new in renames.items())
    return tuple(text for text, _ in said.most_common())


def _difference(old: str, new: str) -> str:
    a, b = old.split("."), new.split(".")
    same = 0
    while same < min(len(a), len(b)) and a[-1 - same] == b[-1 - same]:
        same += 1
    if same and same == min(len(a), len(b)):
        same -= 1  # one is the other's end: a shared part says which
    if same or len(a) != len(b):
        return f"{_stem(a[: len(a) - same])} → {_stem(b[: len(b) - same])}"
    begun = 0
    while begun < min(len(a), len(b)) and a[begun] == b[begun]:
        begun += 1
    return f"*.{'.'.join(a[begun:])} → *.{'.'.join(b[begun:])}"


def _stem(parts: list[str]) -> str:
    return ".".join([*parts, "*"])


def _plan(mine: Tensors, target: Tensors) -> dict[str, str]:
    """Return renames of ``mine`` to names of ``target``; empty if they are the same, or cannot be matched."""
    left = {n: e.shape for n, e in mine.items() if n not in target}
    free = {n: e.shape for n, e in target.items() if n not in mine}
    if not left or not free:
        return {}
    renames: dict[str, str] = {}
    for find in (_leaf_renames, _respelt):
        found = find(left, free)
        for old, new in found.items():
            left.pop(old)
            free.pop(new)
        renames |= found
    while left and free:
        step = _prefix_renames(left, free)
        if step is None:
            return {}
        if not step:
            break
        for old, new in step.items():
            left.pop(old)
            free.pop(new)
        renames |= step
    return renames


Shapes = dict[str, tuple[int, ...]]


def _leaf_renames(left: Shapes, free: Shapes) -> dict[str, str]:
    """Return renames of tensors whose own name has two forms."""
    found: dict[str, str] = {}
    for name, shape in left.items():
        for other in other_forms(name):
            if free.get(other) == shape and other not in found.values():
                found[name] = other
                break
    return found


def _respelt(left: Shapes, free: Shapes) -> dict[str, str]:
    """Return renames between names of the same words and numbers in one order: ``blocks_0.w``, ``blocks.0.w``, ``blocks/0/w``."""
    words: dict[tuple[str, ...], list[str]] = {}
    for name in free:
        words.setdefault(_words(name), []).append(name)
    found: dict[str, str] = {}
    for name, shape in left.items():
        there = words.get(_words(name), [])
        if len(there) == 1 and free[there[0]] == shape:
            found[name] = there[0]
    return found if len(set(found.values())) == len(found) else {}


def _words(name: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(name.lower()))


_WORD: Final = re.compile(r"[^\W\d_]+|\d+")


def other_forms(name: str) -> Iterator[str]:
    """Yield other names that the same tensor has in other versions of a library."""
    for pattern, to in _LEAVES:
        if pattern.match(name):
            yield pattern.sub(to, name)


def _prefix_renames(left: Shapes, free: Shapes) -> dict[str, str] | None:
    """Return the renames by one pair of prefixes, the one by which most names find their counterpart.

    Empty if there is no pair, None if two pairs are as good for the same names.

    Numbers in the two prefixes must be the same: a layer never becomes another.
    """
    ends: dict[str, list[str]] = {}
    for name in free:
        parts = name.split(".")
        for k in range(len(parts)):
            ends.setdefault(".".join(parts[k:]), []).append(name)
    votes: Counter[tuple[str, str]] = Counter()
    for name, shape in left.items():
        votes.update(_pairs(name, shape, ends, free))
    best: dict[str, str] = {}
    chosen: tuple[str, str] | None = None
    rivals: list[dict[str, str]] = []
    for (old, new), _ in votes.most_common(16):
        moved = {n: new + n[len(old) :] for n in left if n.startswith(old)}
        moved = {a: b for a, b in moved.items() if b in free and _fits(left[a], free[b])}
        if len(moved) > len(best):
            best, chosen, rivals = moved, (old, new), []
        elif best and len(moved) == len(best) and chosen is not None:
            rivals.append(moved)
    if any(set(r) == set(best) and r != best for r in rivals) or any(
        set(r.values()) == set(best.values()) and r != best for r in rivals
    ):
        return None
    return best


def _fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether two shapes are equal, or those of matrices of which one has more rows: a vocabulary may have grown
    at the same time.
    """
    return shape == other or (len(shape) == len(other) > 1 and shape[1:] == other[1:])


def _pairs(name: str, shape: tuple[int, ...], ends: Mapping[str, list[str]], free: Shapes) -> Iterator[tuple[str, str]]:
    """Yield pairs of prefixes that would make ``name`` a free name of its shape, by the longest end that they share in
    whole parts.
    """
    parts = name.split(".")
    for k in range(len(parts)):
        end = ".".join(parts[k:])
        there = [n for n in ends.get(end, ()) if free[n] == shape]
        pairs = [(name[: len(name) - len(end)], n[: len(n) - len(end)]) for n in there]
        pairs = [(a, b) for a, b in pairs if _numbers(a) == _numbers(b)]
        if pairs and len(end.split(".")) >= min(2, len(parts)):
            yield from pairs
            return


def _numbers(prefix: str) -> list[str]:
    return [part for part in prefix.split(".") if part.isdigit()]


_FACTORS: Final = (
    ("weight normalisation", ("{stem}{leaf}_g", "{stem}{leaf}_v"), "torch.nn.utils.remove_weight_norm"),
    (
        "weight normalisation",
        ("{stem}parametrizations.{leaf}.original0", "{stem}parametrizations.{leaf}.original1"),
        "torch.nn.utils.parametrize.remove_parametrizations",
    ),
    ("spectral normalisation", ("{stem}{leaf}_orig",), "torch.nn.utils.remove_spectral_norm"),
    (
        "spectral normalisation",
        ("{stem}parametrizations.{leaf}.original",),
        "torch.nn.utils.parametrize.remove_parametrizations",
    ),
)


def factored(mine: Collection[str], others: Collection[str]) -> str | None:
    """Say, with the remedy, that ``others`` store a tensor of ``mine`` as what it is computed from; None where they do not.

    No rename makes one of the other: weight = g · v / ‖v‖.
    """
    for name in mine:
        stem, dot, leaf = name.rpartition(".")
        for what, forms, remedy in _FACTORS:
            parts = [form.format(stem=stem + dot, leaf=leaf) for form in forms]
            if name not in others and all(p in others for p in parts):
                return f"{name} is stored as {' and '.join(parts)} where there is {what}: save all checkpoints after `{remedy}`"
    return None
