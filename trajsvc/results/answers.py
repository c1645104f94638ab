"""Answers about a run in the shapes of machine output, the same for every interface: command line, HTTP and Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from storage_schema.models.results import (
    CheckpointRow,
    CompareAnswer,
    CompareRow,
    Finding,
    GroupRow,
    MapAnswer,
    PhaseRow,
    RunRow,
    Summary,
)
from trajsvc.measures.registry import MEASURES, compute
from trajsvc.results.labels import axis, plain
from trajsvc.results.measure_methods import Steps

if TYPE_CHECKING:
    from trajsvc.results.run import Run
from trajsvc.results.depth import attention_layers
from trajsvc.results.tables import around, layers, qkv_row, standard_errors

COMPARE_MEASURES = (
    "mds", "mds_by_length", "relative_mds", "random_walk_mds", "path_length", "tortuosity", "mu", "alpha", "settling_step",
)  # fmt: skip
NETWORK_MEASURES = (*COMPARE_MEASURES, "relative_mds_by_length", "random_bound", "nonrandom_fraction")


def run_row(run: Run) -> RunRow:
    """Return the row of ``run`` in the list of runs."""
    steps = run.steps
    return RunRow(
        run=run.name,
        checkpoints=len(steps),
        first_step=int(steps[0]) if len(steps) else None,
        last_step=int(steps[-1]) if len(steps) else None,
        axis=run.axis,
        parameters=run.parameters,
        architecture=run.architecture,
        source=run.source,
        updated=str(run.attributes.get("updated", "")),
        estimate=run.estimate is not None,
        fraction=None if run.estimate is None else run.estimate.get("fraction"),
        tags=run.tags,
        notes=run.notes,
        hyperparameters=run.hyperparameters,
        bytes=run.size,
    )


def checkpoints(run: Run) -> list[CheckpointRow]:
    """Return all stored checkpoints of ``run`` in order, with what their source said of them."""
    table = run.stored.checkpoints
    usable = set(run.selection().tolist())
    origins = run.attributes.get("origins") or [{}] * len(table.step)
    known = CheckpointRow.model_fields.keys()
    return [
        CheckpointRow(
            step=int(step),
            label=table.label[i],
            dtype=table.dtype[i],
            usable=i in usable,
            fingerprint=table.fingerprint[i],
            files=tuple(f["path"] for f in json.loads(table.files[i])),
            **{k: v for k, v in origins[i].items() if k in known},
        )
        for i, step in enumerate(table.step)
    ]


def groups(run: Run, match: str | None = None) -> list[GroupRow]:
    """Return all groups of ``run``, or those whose id a glob matches."""
    from trajsvc.anatomy.groups import match_groups

    found = run.groups() if match is None else match_groups(run.groups(), match)
    return [GroupRow(id=g.id, parameters=g.parameters, tensors=g.tensors) for g in found.values()]


def trajectory_map(run: Run, group: str, origin: int | None, steps: Steps) -> MapAnswer:
    """Return the map of ``group``; relative if an ``origin`` is given. Raises NotFound (``step-not-found``)."""
    gram = run.gram(group, steps)
    values = MEASURES["trajectory_map"].compute(gram, origin=origin)
    numbers = axis("step", len(values), gram.steps, origin)
    error = run.standard_error("trajectory_map", group, steps, origin=origin)
    return MapAnswer(
        run=run.name,
        group=group,
        origin=origin,
        axis=run.axis,
        steps=numbers.tolist(),
        map=plain(values),
        error=None if error is None else plain(error),
    )


def compare_row(run: Run, group: str, steps: Steps) -> CompareRow:
    """Return the row of one group of one run in a comparison."""
    gram = run.gram(group, steps)
    angles = np.asarray(MEASURES["update_angle"].compute(gram), dtype=np.float64)
    finite = angles[np.isfinite(angles)]
    return CompareRow(
        run=run.name,
        group=group,
        parameters=gram.parameters,
        checkpoints=len(gram.steps),
        mean_update_angle=float(finite.mean()) if finite.size else None,
        **plain(compute(COMPARE_MEASURES, gram)),
    )


def compare(runs: Sequence[Run], groups: Sequence[str], steps: Steps = None) -> CompareAnswer:
    """Compare runs, group by group. A group that only some runs have is left out of the others' rows.

    Raises NotFound (``group-not-found``) if no run has it.
    """
    rows = []
    for group in groups:
        having = [run for run in runs if group in run.groups()] or list(runs[:1])
        rows += [compare_row(run, group, steps) for run in having]
    return CompareAnswer(runs=[run.name for run in runs], findings=sampled_differently(runs, steps), rows=rows)


def sampled_differently(runs: Sequence[Run], steps: Steps = None) -> list[Finding]:
    """Report if the runs are not compared at the same steps: means over a map depend on which checkpoints were kept."""
    taken = {run.name: tuple(run.gram("network", steps).steps.tolist()) for run in runs}
    if len(set(taken.values())) < 2:
        return []
    said = ", ".join(f"{name} at {len(s)} ({s[0]} … {s[-1]})" if s else f"{name} at none" for name, s in taken.items())
    message = (
        f"the runs were kept at different steps: {said}; MDS and angles depend on that. "
        "Compare mds_by_length, which hardly does, or name common --steps"
    )
    return [Finding(kind="different-steps", message=message, details={name: len(s) for name, s in taken.items()})]


def phases(run: Run, group: str = "network", steps: Steps = None) -> list[PhaseRow]:
    """Return the phases of ``group`` as rows, in order; none if the trajectory is too short to say."""
    return [phase_row(phase) for phase in run.phases(group, steps)]


def phase_row(phase: Any) -> PhaseRow:
    """Return a phase as a row, with what its measure says beyond steps and evidence as details."""
    facts = plain(asdict(phase))
    known = {name: facts.pop(name) for name in ("start_step", "end_step", "evidence")}
    return PhaseRow(**known, details=facts)


def summary(run: Run) -> Summary:
    """Summarise a run: what a researcher wants to know first."""
    from trajsvc.results.explain import explain

    row = run_row(run)
    attention = [qkv_row(run, g, None) for g in attention_layers(run)]
    return Summary(
        run=run.name,
        source=run.source,
        architecture=run.architecture,
        tags=run.tags,
        notes=run.notes,
        hyperparameters=run.hyperparameter_rows,
        bytes=row.bytes,
        parameters=run.parameters,
        checkpoints=row.checkpoints,
        axis=row.axis,
        first_step=row.first_step,
        last_step=row.last_step,
        excluded=run.excluded,
        estimate=run.estimate,
        network=plain(compute(NETWORK_MEASURES, run.gram())),
        network_errors=standard_errors(run, NETWORK_MEASURES, "network", None),
        phases=phases(run),
        layers=layers(run),
        others=[row for rows in around(run) for row in rows],
        qkv=attention,
        statements=explain(run, attention),
        learning_rate=run.learning_rate,
        logged=run.logged or None,
        integrity=run.findings,
    )
