"""Leave out files without a number in their names that are of another training than the numbered checkpoints beside them.

``last.pt`` and ``best.pt`` are placed by a key of theirs, which the file of an earlier training in the same folder has too. Values tell
them apart: in one training a checkpoint lies near those before and after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.results import Finding
from trajsvc.sources.base import CheckpointSource
from trajsvc.sources.steps import PLACED
from trajsvc.trajectory.chosen_alike import Headers, comparable, some_of
from trajsvc.trajectory.matrix import Excluded
from trajsvc.trajectory.values import Values

FARTHER: Final = 2.0
"""Squared distance from the nearer neighbour, relative to what the numbered checkpoints let expect, from which on a checkpoint is of
another training. Between two points of one training it is below 1, whether they drift, walk at random or turn about one place."""
UNLIKE, LIKE = 0.1, 0.5
"""Largest cosine to the neighbour of a checkpoint that is of another training, where neighbours have at least the other cosine."""
LEAST: Final = 256
"""Elements by which a cosine is judged at least."""


def without_strangers(source: CheckpointSource, headers: Headers) -> tuple[Headers, list[Excluded], list[Finding]]:
    """Leave out the checkpoints that a key placed and that do not continue their numbered neighbours. Raises what the source raises."""
    placed = [i for i, (c, _) in enumerate(headers) if c.extra.get(PLACED)]
    numbered = [i for i in range(len(headers)) if i not in placed]
    left = {i: beside for i in placed if (beside := _unlike(source, headers, i, numbered))}
    return (
        [header for i, header in enumerate(headers) if i not in left],
        [Excluded(headers[i][0].step, headers[i][0].label, "is of another training, by its values") for i in left],
        [_finding(headers, i, beside) for i, beside in left.items()],
    )


def _unlike(source: CheckpointSource, headers: Headers, at: int, numbered: Sequence[int]) -> tuple[int, ...]:
    """Return the neighbours of a checkpoint that it does not continue; empty where it continues them, or they do not tell."""
    before, after = [i for i in numbered if i < at][-2:], [i for i in numbered if i > at][:2]
    between = bool(before and after)
    pair = (before[-1], after[0]) if between else tuple(before or after)
    if len(pair) != 2:
        return ()
    own, one, other = _sample(source, headers, (at, *pair)) or (None,) * 3
    if own is None or one is None or other is None or not (moved := _squared(one - other)) > 0.0:
        return ()
    if between:
        return pair if min(_squared(own - one), _squared(own - other)) >= FARTHER * moved else ()
    (near, last), (far, second) = sorted(zip((one, other), pair, strict=True), key=lambda n: abs(n[1] - at))
    steps = [headers[i][0].step for i in (at, last, second)]
    spread = max(1.0, abs(steps[0] - steps[1]) / max(1, abs(steps[1] - steps[2])))
    too_far = _squared(own - near) >= FARTHER * moved * spread**2
    unlike = own.size >= LEAST and _cosine(own, near) <= UNLIKE and _cosine(near, far) >= LIKE
    return (last,) if too_far or unlike else ()


def _sample(source: CheckpointSource, headers: Headers, at: Sequence[int]) -> list[NDArray[np.float64]] | None:
    """Return values of the matrices that some checkpoints have in common; None where there are none, or some are not finite."""
    values = Values(source, [(headers[i][0], headers[i][1].tensors) for i in at])
    first = headers[at[0]][1].tensors
    both = [
        n
        for n, e in first.items()
        if len(e.shape) > 1
        and all((t := headers[i][1].tensors.get(n)) is not None and comparable(t) and t.shape == e.shape for i in at)
    ]
    chosen = some_of(both, first)
    windows = [[w for n in chosen for w in values.windows(t, n)] for t in range(len(at))]
    found = iter(values.read([w for part in windows for w in part]))
    read = [np.concatenate([next(found) for _ in part]) for part in windows] if chosen else []
    return read if read and all(np.isfinite(r).all() for r in read) else None


def _squared(vector: NDArray[np.float64]) -> float:
    return float(vector @ vector)


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    size = np.sqrt(_squared(one) * _squared(other))
    return float(one @ other / size) if size > 0 else 0.0


def _finding(headers: Headers, at: int, beside: Sequence[int]) -> Finding:
    checkpoint = headers[at][0]
    others = " and ".join(headers[i][0].label for i in beside)
    return Finding(
        kind="two-trainings",
        message=f"{checkpoint.label} says in its keys that it is {checkpoint.extra.get('kind', 'step')} {checkpoint.step}, and its values "
        f"do not continue those of {others}: it is left out, as one of another training. A quoted pattern that meets all files reads "
        "it with them",
        steps=(checkpoint.step,),
        details={"label": checkpoint.label},
    )
