"""Stored types that change in the course of a run: the update there is rounding as well as training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from storage_schema.models.results import Finding
from trajsvc.trajectory.matrix import Row

SHOWN: Final = 12


def type_change(rows: Sequence[Row]) -> Finding | None:
    """Warn if tensors are stored in other types at some checkpoints than at most of them."""
    kinds = [tuple(e.stored_type for e in row.entries) for row in rows]
    counts = Counter(kinds)
    if len(counts) < 2:
        return None
    usual = counts.most_common(1)[0][0]
    odd: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, kind in zip(rows, kinds, strict=True):
        if kind != usual:
            odd[kind].append(row.step)
    changed = [c for c in range(len(usual)) if any(kind[c] != usual[c] for kind in odd)]
    names = [rows[0].entries[c].name for c in changed]
    said = "; ".join(f"{_type(kind, changed)} at {_steps(steps)}" for kind, steps in odd.items())
    which = (
        "" if len(changed) == len(usual) else f" of {len(changed)} tensors ({names[0]}{' …' if len(names) > 1 else ''})"
    )
    return Finding(
        kind="type-change",
        message=f"the stored type{which} changes: most checkpoints are {_type(usual, changed)}, but {said}; updates to and from these are "
        "partly rounding",
        steps=tuple(sorted(step for steps in odd.values() for step in steps)),
        tensors=tuple(names[:20]),
        details=dict(Counter(_type(kind, changed) for kind in kinds)),
    )


def _type(kind: Sequence[str], columns: Sequence[int]) -> str:
    found = {kind[c] for c in columns}
    return found.pop() if len(found) == 1 else "mixed"


def _steps(steps: Sequence[int]) -> str:
    shown = ", ".join(map(str, steps[:SHOWN])) + (" …" if len(steps) > SHOWN else "")
    return f"step {shown}" if len(steps) == 1 else f"steps {shown} ({len(steps)} checkpoints)"
