"""Find tensors whose values show that they are not parameters: tables that never change, copies, moving averages.

Names alone do not tell a table of positions from a learned one, a teacher from a second model, or a tied head from a
head of its own that was saved beside the embedding. A few values of a few checkpoints do; they are read before anything
is planned. Over a network only tensors whose names give a reason are read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import FLOAT_TYPES
from trajsvc.anatomy.averages import Average, averages
from trajsvc.anatomy.buffers import buffer_reason, table_of
from trajsvc.trajectory.equal_copies import Copies, equal_copies, tied_heads
from trajsvc.trajectory.likeness import explained_by_average
from trajsvc.trajectory.values import Values

PAIRS: Final = 4
"""Tensors of a tower that are looked at, the largest first."""
UPDATES: Final = 5
"""Updates of an average that are looked at."""
LIKE_AVERAGE: Final = 0.3
"""Share of an average's updates that its model must explain for what is named like one."""
STRIDED: Final = 2**22
"""Elements up to which a tensor with strides, which is read whole for any part of it, is looked at."""


@dataclass(frozen=True)
class Aside:
    """Results of the values: ``reasons`` tensor → why it is not a parameter, ``copies`` what was saved twice, ``independent`` towers that
    are named like averages and move on their own.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    copies: Copies = field(default_factory=Copies)
    independent: tuple[Average, ...] = ()


def set_aside(values: Values, config: Mapping[str, Any] | None = None, *, done: Collection[str] = ()) -> Aside:
    """Look at the checkpoints of ``values``; the tensors in ``done`` are left out already. Raises what the source raises."""
    kinds: dict[str, tuple[tuple[int, ...], str]] = {}
    for _, tensors in values.headers:
        kinds |= {n: (e.shape, e.dtype) for n, e in tensors.items() if n not in done}
    known = {n for n, (shape, _) in kinds.items() if buffer_reason(None, n, shape, kinds)}
    floats = [n for n, (shape, kind) in kinds.items() if kind in FLOAT_TYPES and 0 not in shape and n not in known]
    reasons: dict[str, str] = {}
    for name in floats:
        what = table_of(name, kinds[name][0])
        if what is not None and _constant(values, name):
            reasons[name] = f"buffer: {what}, never changes"
    independent = []
    for tower in averages({n: kinds[n] for n in floats if n not in reasons}):
        verdict = _verdict(values, tower)
        if verdict is None:
            independent.append(tower)
        else:
            reasons |= {n: f"{verdict} {other}" for n, other in tower.pairs.items()}
    rest = [n for n in floats if n not in reasons]
    if values.source.remote:
        return Aside(
            reasons, tied_heads(values, rest, (config or {}).get("tie_word_embeddings") is False), tuple(independent)
        )
    samples = _samples(values, rest)
    reasons |= dict.fromkeys(_infinite(values, samples), "buffer: constant with infinite values")
    copies = equal_copies(values, {n: s for n, s in samples.items() if n not in reasons})
    return Aside(reasons, copies, tuple(independent))


def _constant(values: Values, name: str) -> bool:
    """Return whether the first and the last of several checkpoints hold the same values."""
    having = values.having(name)
    return (
        len(having) > 1 and _readable(values, having[-1], name) and values.equal((having[0], name), (having[-1], name))
    )


def _readable(values: Values, checkpoint: int, name: str) -> bool:
    entry = values.entry(checkpoint, name)
    return entry is not None and (entry.strides is None or entry.size <= STRIDED)


def _verdict(values: Values, tower: Average) -> str | None:
    """Return why a tower that is named like an average is left out, or None if it moves on its own."""
    chosen = sorted(tower.pairs, key=lambda n: -_size(values, n))[:PAIRS]
    explained = total = 0.0
    seen = False
    for name in chosen:
        having = values.having(name, tower.pairs[name])
        starts = having[:-1] if len(having) <= UPDATES + 1 else having[:: max(1, len(having) // UPDATES)]
        for first in starts[:UPDATES]:
            second = having[having.index(first) + 1] if first != having[-1] else None
            if second is None or not _readable(values, second, name):
                continue
            old, new, old_model, new_model = _quarter(values, first, second, name, tower.pairs[name])
            update = new - old
            if not np.isfinite(update).all():
                continue
            seen = True
            total += float(update @ update)
            explained += explained_by_average(old, new, [old_model, new_model])
    if not seen:
        return "moving average of"
    if total == 0.0:
        return "copy that never changes of"
    return "moving average of" if explained >= LIKE_AVERAGE * total else None


def _quarter(values: Values, first: int, second: int, name: str, other: str) -> list[NDArray[np.float64]]:
    """Read samples of a tensor and its counterpart at two checkpoints."""
    places = [(first, name), (second, name), (first, other), (second, other)]
    windows = [values.windows(t, n) for t, n in places]
    found = iter(values.read([w for ws in windows for w in ws]))
    return [np.concatenate([next(found) for _ in ws]) for ws in windows]


def _size(values: Values, name: str) -> int:
    return next((e.size for t in range(len(values)) if (e := values.entry(t, name)) is not None), 0)


def _samples(values: Values, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read windows of every tensor at the last checkpoint that has it."""
    found = {}
    for name in names:
        at = values.having(name)[-1]
        if _readable(values, at, name):
            found[name] = np.concatenate(values.read(values.windows(at, name)))
    return found


def _infinite(values: Values, samples: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Return the tensors that hold infinities, no NaN, and the same values at the first and the last checkpoint: masks
    and sentinels.
    """
    return [
        name
        for name, sample in samples.items()
        if np.isinf(sample).any() and not np.isnan(sample).any() and _constant(values, name)
    ]
