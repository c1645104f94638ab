"""Several runs against each other at one step, and runs that begin with the same parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from storage_schema.models.cross import BasesAnswer, CrossFamilyAnswer
from trajsvc.errors import UsageError
from trajsvc.results.cross import CrossMethods
from trajsvc.results.labels import plain
from trajsvc.results.run import Run

Pair = Callable[[Run, Run], CrossMethods]
"""Opens, or computes, two runs against each other."""


def cross_family(
    runs: Sequence[Run], pair: Pair, group: str = "network", origin: str = "first", step: int | None = None
) -> CrossFamilyAnswer:
    """Compare the displacements of every two runs at ``step``, by default the last one that all have, else each one's last.

    Raises UsageError (``runs-needed``), and what ``pair`` raises.
    """
    if len(runs) < 2:
        raise UsageError("runs-needed", "a comparison needs two runs or more", hint="Name their names, or a --family.")
    count = len(runs)
    at = steps_compared(runs, step)
    cosines, distances = np.eye(count), np.zeros((count, count))
    same = np.eye(count, dtype=bool)
    norms = np.full(count, np.nan)
    warnings: list[str] = []
    for i, j in combinations(range(count), 2):
        crossed = pair(runs[i], runs[j])
        found = crossed.answer(group, origin)
        s, t = _place(found.steps_a, at[i]), _place(found.steps_b, at[j])
        cosine, distance = found.map[s][t], found.distances[s][t]
        cosines[i, j] = cosines[j, i] = np.nan if cosine is None else cosine
        distances[i, j] = distances[j, i] = np.nan if distance is None else distance
        same[i, j] = same[j, i] = found.same_start
        for number, norm in ((i, found.norms_a[s]), (j, found.norms_b[t])):
            if origin != "shared" or number == i:
                norms[number] = np.nan if norm is None else norm
        warnings += [w for w in found.warnings if w not in warnings]
    undefined = ~(norms > 0.0)
    cosines[undefined, :] = cosines[:, undefined] = np.nan
    names = [run.name for run in runs]
    return CrossFamilyAnswer(
        runs=names,
        group=group,
        origin=origin,
        axis=runs[0].axis,
        steps=at,
        map=plain(cosines),
        distances=plain(distances),
        norms=plain(norms),
        same_start=same.tolist(),
        bases=[row.runs for row in bases(runs)],
        warnings=warnings,
    )


def steps_compared(runs: Sequence[Run], step: int | None = None) -> list[int]:
    """Return the step of each run at which they are compared. Raises NotFound (``step-not-found``)."""
    if step is not None:
        for run in runs:
            run.selection([step])
        return [step] * len(runs)
    shared = set.intersection(*(set(run.steps.tolist()) for run in runs))
    return [max(shared) if len(shared) > 1 else int(run.steps[-1]) for run in runs]


def bases(runs: Sequence[Run]) -> list[BasesAnswer]:
    """Return the runs that begin with the same parameters, by the digests of their first checkpoints; those alone are left out."""
    found: dict[str, tuple[int, list[str]]] = {}
    for run in runs:
        first = run.stored.checkpoints.fingerprint[int(run.selection(None)[0])] if len(run.steps) else ""
        if first:
            found.setdefault(first, (int(run.steps[0]), []))[1].append(run.name)
    return [BasesAnswer(digest=d, step=step, runs=names) for d, (step, names) in found.items() if len(names) > 1]


def _place(steps: Sequence[int], step: int) -> int:
    return list(steps).index(step)
