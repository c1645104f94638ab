"""Cut tensors to the rows that all checkpoints have, where a vocabulary grows or shrinks during training.

Tokens or classes that are added in the course of a training make an embedding, its head and their biases longer, and
nothing else. Their leading rows are still the same parameters, so that cutting the longer ones keeps every checkpoint
and every other block whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from typing import Final

from storage_schema.models.results import Finding
from trajsvc.anatomy.blocks import TIED, Anatomy, Block
from trajsvc.sources.base import TensorEntry

Tensors = Mapping[str, TensorEntry]
Shape = tuple[int, ...]
SHOWN: Final = 4


@dataclass(frozen=True)
class Cut:
    """The checkpoints' tensors with the longer ones cut: ``rows`` tensor → the rows that are kept, ``had`` tensor → the rows that it had at
    every checkpoint, in order (0 where it is not there)."""

    tensors: list[Tensors]
    rows: Mapping[str, int] = field(default_factory=dict)
    had: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def cut_to_common_rows(checkpoints: Sequence[Tensors], anatomy_of: Callable[[Tensors], Anatomy]) -> Cut:
    """Cut the tensors that differ between ``checkpoints``, which are in order, in their leading dimension alone.

    A tensor is cut only if it is outside the numbered layers of a known architecture and not a projection of several
    parts, if its rows were added or removed for good (a checkpoint that differs from both its neighbours, which agree,
    is an exception), and if cutting loses fewer values than leaving out the checkpoints that differ from most.
    """
    uncut = Cut(list(checkpoints))
    varying = _varying(checkpoints)
    if not varying:
        return uncut
    anatomies = [anatomy_of(tensors) for tensors in checkpoints]
    varying -= {b.tensor for a in anatomies for b in a.blocks if b.tensor in varying and not _may_be_cut(a, b)}
    shapes = [{b.tensor: t[b.tensor].shape for b in a.blocks} for t, a in zip(checkpoints, anatomies, strict=True)]
    members = _steady(_members(shapes, varying), shapes, varying)
    rows = {
        name: min(found)
        for name in varying
        if len(found := {shapes[t][name][0] for t in members if name in shapes[t]}) > 1
    }
    if not rows or not _fewer_lost(shapes, members, rows):
        return uncut
    cut = [
        _cut(tensors, anatomy, rows) if t in members else tensors
        for t, (tensors, anatomy) in enumerate(zip(checkpoints, anatomies, strict=True))
    ]
    had = {n: tuple(tensors[n].shape[0] if n in tensors else 0 for tensors in checkpoints) for n in rows}
    return Cut(cut, rows, had)


def _varying(checkpoints: Sequence[Tensors]) -> set[str]:
    """Return the tensors whose shapes differ in the leading dimension alone."""
    shapes: dict[str, set[Shape]] = {}
    for tensors in checkpoints:
        for name, entry in tensors.items():
            shapes.setdefault(name, set()).add(entry.shape)
    return {
        name
        for name, found in shapes.items()
        if len(found) > 1 and all(s and s[0] for s in found) and len({s[1:] for s in found}) == 1
    }


def _may_be_cut(anatomy: Anatomy, block: Block) -> bool:
    numbered = anatomy.architecture != "generic" and block.layer.rpartition(".")[2].isdigit()
    return not block.part and not numbered


def _members(shapes: Sequence[Mapping[str, Shape]], varying: Collection[str]) -> list[int]:
    """Return the checkpoints that are like most of them but for rows of ``varying``.

    They share at least half of the tensors that most checkpoints have, and all shared tensors have the same shape.
    """
    loose = [{n: s[1:] if n in varying else s for n, s in of.items()} for of in shapes]
    counts = Counter(frozenset(of.items()) for of in loose)
    usual = dict(counts.most_common(1)[0][0])
    return [
        t
        for t, of in enumerate(loose)
        if 2 * len(of.keys() & usual.keys()) >= len(usual) and all(of[n] == usual[n] for n in of.keys() & usual.keys())
    ]


def _steady(members: Sequence[int], shapes: Sequence[Mapping[str, Shape]], varying: Collection[str]) -> list[int]:
    """Return ``members`` without those whose rows differ from both neighbours', which agree; none if rows are both
    added and removed.
    """
    names = sorted(varying)
    rows = {t: [shapes[t].get(n, (0,))[0] for n in names] for t in members}
    odd = {b for a, b, c in zip(members, members[1:], members[2:], strict=False) if rows[a] == rows[c] != rows[b]}
    kept = [t for t in members if t not in odd]
    for i in range(len(names)):
        course = [rows[t][i] for t in kept if rows[t][i]]
        if not (all(a <= b for a, b in pairwise(course)) or all(a >= b for a, b in pairwise(course))):
            return []
    return kept


def _fewer_lost(shapes: Sequence[Mapping[str, Shape]], members: Sequence[int], rows: Mapping[str, int]) -> bool:
    """Return whether cutting loses fewer values than leaving out the checkpoints that do not have the rows that most
    have.
    """
    lost = sum((of[n][0] - rows[n]) * prod(of[n][1:]) for t in members for of in [shapes[t]] for n in rows if n in of)
    kinds: Counter[tuple[int, ...]] = Counter()
    for t in members:
        kinds[tuple(shapes[t].get(n, (0,))[0] for n in rows)] += sum(map(prod, shapes[t].values()))
    return lost < kinds.total() - max(kinds.values())


def _cut(tensors: Tensors, anatomy: Anatomy, rows: Mapping[str, int]) -> dict[str, TensorEntry]:
    """Return the tensors with those of ``rows`` cut, and those that share their bytes."""
    wanted = {n: rows.get(n, rows.get(anatomy.left_out.get(n, "").removeprefix(TIED))) for n in tensors}
    return {n: e if (count := wanted[n]) is None else _leading(e, count) for n, e in tensors.items()}


def _leading(entry: TensorEntry, rows: int) -> TensorEntry:
    """Return the first ``rows`` rows of a tensor, at their place in the file."""
    if entry.shape[0] == rows:
        return entry
    shape = (rows, *entry.shape[1:])
    size = prod(shape)
    pieces = entry.pieces and tuple(replace(p, hi=min(p.hi, size)) for p in entry.pieces if p.lo < size)
    return replace(entry, shape=shape, pieces=pieces, crc32=None)


def cut_finding(cut: Cut, kept: Collection[str], steps: Sequence[int]) -> Finding | None:
    """Report what was cut of the tensors ``kept`` in the run; ``steps`` are those of all checkpoints, in order."""
    names = [n for n in cut.rows if n in kept]
    if not names:
        return None
    longer = [t for t in range(len(steps)) if any(cut.had[n][t] > cut.rows[n] for n in names)]
    said = [f"{n} ({cut.rows[n]} of {max(cut.had[n])})" for n in names]
    more = f" and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    at = [str(steps[t]) for t in longer]
    shown = f"step {at[0]}" if len(at) == 1 else f"{len(at)} checkpoints, steps {at[0]} … {at[-1]},"
    return Finding(
        kind="common-rows",
        message=f"{', '.join(said[:SHOWN])}{more}: only the first rows, which all checkpoints have, are compared; the rows that {shown} "
        "have beyond them are left out, and equal rows are taken to stand for the same tokens or classes",
        steps=tuple(steps[t] for t in longer),
        tensors=tuple(names[:20]),
        details={"rows": {n: cut.rows[n] for n in names[:20]}, "most": {n: max(cut.had[n]) for n in names[:20]}},
    )
