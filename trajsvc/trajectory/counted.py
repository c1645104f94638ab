"""Bring the checkpoints of a run whose layers are counted from 0 in some and from 1 in others to one count.

Every layer but one has a name on either side, so no rename of names tells the two apart; values do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.sources.base import CheckpointRef, CheckpointSource, TensorEntry
from trajsvc.sources.spelling import said
from trajsvc.trajectory.values import Values

Tensors = Mapping[str, TensorEntry]

NEARER: Final = 0.25
"""Largest squared distance of layers from those they are taken for, relative to that from those of their own numbers."""
LOOKED_AT: Final = 16
"""Tensors whose values are compared."""


def counted_alike(
    source: CheckpointSource, checkpoints: Sequence[CheckpointRef], tensors: Sequence[dict[str, TensorEntry]]
) -> tuple[list[dict[str, TensorEntry]], list[tuple[str, ...]]]:
    """Return the checkpoints' tensors with layers counted as in most checkpoints, and for each what was renamed.

    Done for files on this machine, where values at the step of the change are nearer to those of the layers meant. Raises what the
    source raises.
    """
    out = list(tensors)
    done: list[tuple[str, ...]] = [()] * len(tensors)
    kinds: dict[frozenset[tuple[str, tuple[int, ...]]], list[int]] = {}
    for i, held in enumerate(tensors):
        kinds.setdefault(frozenset((n, e.shape) for n, e in held.items()), []).append(i)
    if len(kinds) == 1 or source.remote is not None:
        return out, done
    target = max(kinds, key=lambda key: (len(kinds[key]), kinds[key][-1]))
    for key, members in kinds.items():
        renames = renumbered(tensors[members[0]], tensors[kinds[target][0]]) if key != target else {}
        if not renames:
            continue
        one, other = min(((i, j) for i in members for j in kinds[target]), key=lambda pair: abs(pair[0] - pair[1]))
        values = Values(source, [(checkpoints[i], tensors[i]) for i in (one, other)])
        if _nearer(values, renames):
            for i in members:
                out[i] = {renames.get(n, n): e for n, e in tensors[i].items()}
                done[i] = said(renames)
    return out, done


def _nearer(values: Values, renames: Mapping[str, str]) -> bool:
    """Return whether tensors of the first checkpoint are nearer to those of the second under their new names than under their own."""
    meant, own = 0.0, 0.0
    both = ((old, new) for old, new in renames.items() if _comparable(values, old, new))
    for old, new in islice(both, LOOKED_AT):
        mine, there, same = (
            np.concatenate(values.read(values.windows(t, n))) for t, n in ((0, old), (1, new), (1, old))
        )
        meant += float(np.sum((mine - there) ** 2))
        own += float(np.sum((mine - same) ** 2))
    return bool(np.isfinite(own)) and own > 0.0 and meant <= NEARER * own


def renumbered(mine: Tensors, target: Tensors) -> dict[str, str]:
    """Return the renames of all layers where one side counts them from 0 and the other from 1, and all else is the same; else none.

    Names alone do not prove it: where layers are alike, the first may have been removed and one added at the end.
    """
    one, other = _layers(mine), _layers(target)
    shifts = {
        stem: min(other[stem]) - min(numbers)
        for stem, numbers in one.items()
        if len(numbers) > 1 and {min(numbers), min(other.get(stem, {2}))} == {0, 1}
    }
    renames = {}
    for name in mine if shifts else ():
        if (match := _LAYER.search(name)) and (stem := name[: match.start()]) in shifts:
            renames[name] = f"{stem}.{int(match[1]) + shifts[stem]}{name[match.end() :]}"
    named = {renames.get(n, n): e.shape for n, e in mine.items()}
    return renames if len(named) == len(mine) and named == {n: e.shape for n, e in target.items()} else {}


_LAYER: Final = re.compile(r"\.([0-9]{1,6})(?=\.)")


def _layers(names: Iterable[str]) -> dict[str, set[int]]:
    """Return what stands before the first number of names → the numbers there."""
    found: dict[str, set[int]] = {}
    for name in names:
        if match := _LAYER.search(name):
            found.setdefault(name[: match.start()], set()).add(int(match[1]))
    return found


def _comparable(values: Values, old: str, new: str) -> bool:
    """Return whether a tensor is a matrix of floating type, and has one of its shape under either name at the other checkpoint."""
    entries = [values.entry(0, old), values.entry(1, new), values.entry(1, old)]
    shapes = {e.shape if e is not None and e.dtype in ITEMSIZE else () for e in entries}
    return len(shapes) == 1 and len(shapes.pop()) > 1
