"""Answers about a run in the shapes of machine output, the same for every door: command line, HTTP and Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from storage_schema.models.results import (
    Answer,
    CheckpointRow,
    CompareAnswer,
    CompareRow,
    GroupRow,
    LayerRow,
    MapAnswer,
    MeasuresAnswer,
    PhaseRow,
    QkvAnswer,
    QkvRow,
    RunRow,
    Summary,
)
from trajsvc.errors import NotFound
from trajsvc.measures.base import GroupGram
from trajsvc.measures.registry import MEASURES, compute
from trajsvc.results.labels import axis, plain
from trajsvc.results.measure_methods import Steps

if TYPE_CHECKING:
    from xarray import Dataset

    from trajsvc.results.run import Run

LAYER_MEASURES = ("mds", "relative_mds", "path_length", "tortuosity", "settling_step")
COMPARE_MEASURES = (*LAYER_MEASURES[:4], "mu", "alpha", "settling_step")
PARTS = ("q", "k", "v")
NETWORK_MEASURES = (*COMPARE_MEASURES, "random_bound", "nonrandom_fraction")


def run_row(run: Run) -> RunRow:
    """The line of ``run`` in the list of runs."""
    steps = run.steps
    return RunRow(
        run=run.name,
        checkpoints=len(steps),
        first_step=int(steps[0]) if len(steps) else None,
        last_step=int(steps[-1]) if len(steps) else None,
        parameters=run.parameters,
        architecture=run.architecture,
        source=run.source,
        updated=str(run.attributes.get("updated", "")),
        estimate=run.estimate is not None,
        fraction=None if run.estimate is None else run.estimate.get("fraction"),
    )


def checkpoints(run: Run) -> list[CheckpointRow]:
    """All stored checkpoints of ``run`` in order, with what their source said of them."""
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
    """All groups of ``run``, or those whose id a glob matches."""
    from trajsvc.anatomy.groups import match_groups

    found = run.groups() if match is None else match_groups(run.groups(), match)
    return [GroupRow(id=g.id, parameters=g.parameters, tensors=g.tensors) for g in found.values()]


def trajectory_map(run: Run, group: str, origin: int | None, steps: Steps) -> MapAnswer:
    """The map of ``group``; relative where an ``origin`` is named. Raises NotFound (``step-not-found``)."""
    gram = run.gram(group, steps)
    values = MEASURES["trajectory_map"].compute(gram, origin=origin)
    numbers = axis("step", len(values), gram.steps, origin)
    error = run.standard_error("trajectory_map", group, steps, origin=origin)
    return MapAnswer(
        run=run.name,
        group=group,
        origin=origin,
        steps=numbers.tolist(),
        map=plain(values),
        error=None if error is None else plain(error),
    )


def measures(run: Run, group: str, names: Sequence[str] | None, steps: Steps) -> MeasuresAnswer:
    """The named measures of ``group``; by default all of the registry but the maps."""
    gram = run.gram(group, steps)
    chosen = list(names) if names is not None else default_measures()
    return MeasuresAnswer(
        run=run.name,
        group=group,
        parameters=gram.parameters,
        steps=gram.steps.tolist(),
        measures=plain(compute(chosen, gram)),
        undefined={**undefined(gram), "below_noise_floor": below_noise_floor(gram)},
        errors=standard_errors(run, chosen, group, steps),
    )


def standard_errors(run: Run, names: Sequence[str], group: str, steps: Steps) -> dict[str, Any] | None:
    """Of an estimated run, the standard error of every named measure; None for an exact one."""
    if run.estimate is None:
        return None
    return {name: plain(run.standard_error(name, group, steps)) for name in names}


def default_measures() -> list[str]:
    """Scalars and curves: what fits a table. Maps are asked for by name."""
    return [m.name for m in MEASURES.values() if len(m.dims) < 2]


def undefined(gram: GroupGram) -> dict[str, int]:
    """Counts of what is undefined because a point or an update is the zero vector."""
    from trajsvc.measures.nulls import undefined as count

    return {k: int(v) for k, v in count(gram).items()}


def below_noise_floor(gram: GroupGram) -> list[int]:
    """The steps of the updates that rounding of the stored type could explain."""
    from trajsvc.measures.nulls import below_floor

    return [int(step) for step, below in zip(gram.steps[1:], below_floor(gram), strict=True) if below]


def layer_row(run: Run, group: str, steps: Steps) -> LayerRow:
    """The line of one group in the table of layers."""
    gram = run.gram(group, steps)
    angles = np.asarray(MEASURES["update_angle"].compute(gram), dtype=np.float64)
    finite = angles[np.isfinite(angles)]
    return LayerRow(
        layer=group.removeprefix("layer/"),
        group=group,
        parameters=gram.parameters,
        largest_update_angle=float(finite.max()) if finite.size else None,
        below_noise_floor=len(below_noise_floor(gram)),
        **plain(compute(LAYER_MEASURES, gram)),
    )


def layers(run: Run, steps: Steps = None) -> list[LayerRow]:
    """The table of layers, in order of depth."""
    return [layer_row(run, group, steps) for group in run.layer_ids()]


def attention_layers(run: Run) -> list[str]:
    """The layers that have Q, K and V."""
    known = run.groups()
    return [g for g in run.layer_ids() if all(f"{g}/attention.{part}" in known for part in PARTS)]


def qkv_row(run: Run, group: str, steps: Steps) -> QkvRow:
    """Q, K and V of one layer."""
    from trajsvc.measures.heterogeneity import qkv_heterogeneity

    q, k, v = (run.gram(f"{group}/attention.{part}", steps) for part in PARTS)
    facts = plain(asdict(qkv_heterogeneity(q, k, v)))
    known = {name: value for name, value in facts.items() if name in QkvRow.model_fields}
    return QkvRow(layer=group.removeprefix("layer/"), group=group, heterogeneity=facts["mean"], **known)


def qkv(run: Run, steps: Steps = None) -> QkvAnswer:
    """Q, K and V through the layers. Raises NotFound (``no-attention``) where no layer has them."""
    found = attention_layers(run)
    if not found:
        raise NotFound(
            "no-attention",
            f"no layer of {run.name} ({run.architecture}) has Q, K and V",
            hint=f"`trajsvc layers {run.name}` shows its layers, `trajsvc groups {run.name}` what can be measured.",
        )
    chosen = run.stored.checkpoints.step[run.selection(steps)]
    return QkvAnswer(run=run.name, steps=chosen.tolist(), layers=[qkv_row(run, g, steps) for g in found])


def compare_row(run: Run, group: str, steps: Steps) -> CompareRow:
    """One group of one run beside others."""
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
    """Runs side by side, group by group. A group that only some runs have is left out of the others' rows.

    Raises NotFound (``group-not-found``) where no run has it.
    """
    rows = []
    for group in groups:
        having = [run for run in runs if group in run.groups()] or list(runs[:1])
        rows += [compare_row(run, group, steps) for run in having]
    return CompareAnswer(runs=[run.name for run in runs], rows=rows)


def phases(run: Run, group: str = "network", steps: Steps = None) -> list[PhaseRow]:
    """The phases of ``group`` as rows, in order; none where the trajectory is too short to say."""
    return [phase_row(phase) for phase in run.phases(group, steps)]


def phase_row(phase: Any) -> PhaseRow:
    """A phase with what its measure says of it beyond steps and evidence."""
    facts = plain(asdict(phase))
    known = {name: facts.pop(name) for name in ("start_step", "end_step", "evidence")}
    return PhaseRow(**known, details=facts)


def long_rows(answer: MeasuresAnswer) -> list[tuple[Any, ...]]:
    """Measures as rows (measure, axis, at, axis_2, at_2, value): one for every number, scalars without an axis."""
    steps = np.array(answer.steps, dtype=np.int64)
    rows: list[tuple[Any, ...]] = []
    for name, value in answer.measures.items():
        dims = MEASURES[name].dims
        array = np.array(value, dtype=np.float64)
        numbers = [axis(dim, length, steps).tolist() for dim, length in zip(dims, array.shape, strict=True)]
        for index in np.ndindex(array.shape):
            places = [x for dim, at, i in zip(dims, numbers, index, strict=True) for x in (dim, at[i])]
            rows.append((name, *places, *(4 - len(places)) * [None], plain(array[index])))
    return rows


def summary(run: Run) -> Summary:
    """What a researcher wants to know first."""
    row = run_row(run)
    known = run.groups()
    return Summary(
        run=run.name,
        source=run.source,
        architecture=run.architecture,
        parameters=run.parameters,
        checkpoints=row.checkpoints,
        first_step=row.first_step,
        last_step=row.last_step,
        excluded=run.excluded,
        estimate=run.estimate,
        network=plain(compute(NETWORK_MEASURES, run.gram())),
        network_errors=standard_errors(run, NETWORK_MEASURES, "network", None),
        phases=phases(run),
        layers=layers(run),
        others=[layer_row(run, g, None) for g in ("embedding", "unembedding") if g in known],
        qkv=[qkv_row(run, g, None) for g in attention_layers(run)],
        learning_rate=run.learning_rate,
        integrity=run.findings,
    )


def dataset(rows: Sequence[Answer]) -> Dataset:
    """Rows with a ``group`` as a Dataset along ``layer``; null becomes NaN."""
    import xarray

    columns = [dict(row.model_dump()) for row in rows]
    names = [name for name in (columns[0] if columns else {}) if name not in ("layer", "group")]
    data = {name: ("layer", [np.nan if row[name] is None else row[name] for row in columns]) for name in names}
    return xarray.Dataset(data, coords={"layer": [row["group"] for row in columns]})
