"""The tables of a run's trajectory: measures, maps, layers, attention, phases, findings, and what was logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from storage_schema.models.results import CheckpointRow, Finding, GroupRow, LayerRow, PhaseRow, QkvRow
from trajsvc.export.table import Column, Part, Table, of_records, part
from trajsvc.measures.registry import MEASURES
from trajsvc.results import answers, tables
from trajsvc.results.depth import attention_layers
from trajsvc.results.labels import axis

if TYPE_CHECKING:
    from trajsvc.measures.base import Measure
    from trajsvc.results.measure_methods import Steps
    from trajsvc.results.run import Run

GROUP: Final = Column("group", "string", "", "id of the group of parameters")


def run_tables(run: Run, groups: Sequence[str], steps: Steps) -> Iterator[Table]:
    """Yield the tables that the run has something for; ``groups`` are those of measures and maps."""
    step = Column(run.axis, "integer", run.axis, "number of the checkpoint")
    about = _described(run.axis)
    yield of_records(
        "checkpoints", "stored checkpoints in order", CheckpointRow, lambda: answers.checkpoints(run), about
    )
    yield of_records("groups", "what can be measured", GroupRow, lambda: answers.groups(run), about)
    yield _scalars(run, groups, steps)
    yield from (_curves(run, groups, steps, kind, step) for kind in ("step", "lag", "component"))
    yield _maps(run, groups, steps, step)
    if run.stored.has_rows:
        yield _rows(run, steps, step)
    if run.layer_ids():
        yield of_records("layers", "one row a layer, in order", LayerRow, lambda: tables.layers(run, steps), about)
    if attention_layers(run):
        yield of_records("qkv", "Q, K and V of every layer", QkvRow, lambda: tables.qkv(run, steps).layers, about)
    yield of_records(
        "phases", "stretches between change points", PhaseRow, lambda: answers.phases(run, "network", steps), about
    )
    if run.findings:
        yield of_records("findings", "the integrity report", Finding, lambda: list(run.findings), about)
    yield from _logged(run, steps, step)


def _described(along: str) -> dict[str, Column]:
    """Return what is known of the columns of records: those named as a measure, and their variants for Q, K and V."""
    found = {name: _column(measure, along) for name, measure in MEASURES.items()}
    variants = {
        **{f"mds_{p}": found["mds"] for p in "qkv"},
        **{f"settling_step_{p}": found["settling_step"] for p in "qkv"},
    }
    own = {
        "largest_update_angle": ("degree", "largest angle between successive updates"),
        "mean_update_cosine": ("1", "mean cosine of successive updates"),
        "heterogeneity": ("1", "mean of the three distances in shape"),
        "rms": ("1", "mean of the three root mean square differences, in units of cosine"),
        "depth": ("1", "0 for the first layer, 1 for the last; undefined around them"),
        "step": (along, "number of the checkpoint"),
        "start_step": (along, "first checkpoint of the phase"),
        "end_step": (along, "last checkpoint of the phase"),
        **{f"distance_{p}": ("1", "1 − centred alignment of the two maps") for p in ("qk", "qv", "kv")},
        **{
            f"rms_{p}": ("1", "root mean square difference of the two maps, in units of cosine")
            for p in ("qk", "qv", "kv")
        },
    }
    return found | variants | {name: Column(name, "number", *words) for name, words in own.items()}


def _column(measure: Measure, along: str) -> Column:
    units = measure.units.replace("step", along) if measure.units == "step" else measure.units
    return Column(measure.name, "number", units, measure.definition)


def _scalars(run: Run, groups: Sequence[str], steps: Steps) -> Table:
    chosen = [m for m in MEASURES.values() if not m.dims]
    columns = [
        GROUP,
        Column("parameters", "integer", "1", "number of parameters"),
        *(_column(m, run.axis) for m in chosen),
    ]

    def parts() -> Iterator[Part]:
        for group in groups:
            gram = run.gram(group, steps)
            yield part(columns, [[group, gram.parameters, *(float(m.compute(gram)) for m in chosen)]])

    return Table("measures", "measures that are one number a group", columns, parts)


def _curves(run: Run, groups: Sequence[str], steps: Steps, kind: str, step: Column) -> Table:
    """Return the table of the measures along ``kind``: updates and angles stand at the checkpoint that numbers them."""
    kinds = ("step", "update") if kind == "step" else (kind,)
    chosen = [m for m in MEASURES.values() if len(m.dims) == 1 and m.dims[0] in kinds]
    counted = {"lag": "updates between the two, from 0", "component": "number of the component, from 1"}
    at = step if kind == "step" else Column(kind, "integer", "1", counted[kind])
    columns = [GROUP, at, *(_column(m, run.axis) for m in chosen)]

    def parts() -> Iterator[Part]:
        for group in groups:
            gram = run.gram(group, steps)
            values = {m.name: np.asarray(m.compute(gram), dtype=np.float64) for m in chosen}
            places = {m.name: axis(m.dims[0], len(values[m.name]), gram.steps) for m in chosen}
            rows = gram.steps if kind == "step" else np.unique(np.concatenate(list(places.values())))
            found = {GROUP.name: np.full(len(rows), group, dtype=object), at.name: rows}
            for name, numbers in values.items():
                found[name] = np.full(len(rows), np.nan)
                found[name][np.searchsorted(rows, places[name])] = numbers
            yield found

    name = "curves" if kind == "step" else f"by_{kind}"
    return Table(name, f"measures of every group by {at.name}", columns, parts)


def _maps(run: Run, groups: Sequence[str], steps: Steps, step: Column) -> Table:
    other = replace(step, name=f"{step.name}_2")
    relative = Column(
        "relative_cosine", description=f"of the displacements from the first {step.name}; undefined at it"
    )
    columns = [GROUP, step, other, Column("cosine", description=MEASURES["trajectory_map"].definition), relative]

    def parts() -> Iterator[Part]:
        for group in groups:
            gram = run.gram(group, steps)
            count, numbers = len(gram.steps), gram.steps
            whole = np.full((count, count), np.nan)
            if count > 1:
                whole[1:, 1:] = MEASURES["trajectory_map"].compute(gram, origin=int(numbers[0]))
            yield {
                GROUP.name: np.full(count * count, group, dtype=object),
                step.name: np.repeat(numbers, count),
                other.name: np.tile(numbers, count),
                "cosine": np.asarray(MEASURES["trajectory_map"].compute(gram)).ravel(),
                "relative_cosine": whole.ravel(),
            }

    return Table("maps", "trajectory maps, one row a pair of checkpoints", columns, parts)


def _rows(run: Run, steps: Steps, step: Column) -> Table:
    """Return the table of the rows of all matrices, a tensor a part."""
    columns = [
        Column("tensor", "string", "", "name of the tensor, or of its part"),
        Column("row", "integer", "1", "index of the row (neuron; of an embedding the token)"),
        step,
        Column("update", "number", "parameter", "norm of the row's update from the checkpoint before"),
        Column("displacement", "number", "parameter", "norm of its displacement from the first stored checkpoint"),
        Column("weights", "number", "parameter", "norm of the row"),
    ]

    def parts() -> Iterator[Part]:
        index = run.selection(steps)
        follows = np.append(False, np.diff(index) == 1)
        for block, name in enumerate(run.stored.blocks.name):
            rows = run.stored.group_rows(f"tensor/{name}", [block])
            if rows is None or not len(rows.index):
                continue
            update, displacement, weights = np.sqrt(rows.norms[..., index]).transpose(1, 0, 2)
            yield {
                "tensor": np.full(weights.size, name, dtype=object),
                "row": np.repeat(rows.index, len(index)),
                step.name: np.tile(run.stored.checkpoints.step[index], len(rows.index)),
                "update": np.where(follows, update, np.nan).ravel(),
                "displacement": displacement.ravel(),
                "weights": weights.ravel(),
            }

    return Table("rows", "every row of the matrices at every checkpoint", columns, parts)


def _logged(run: Run, steps: Steps, step: Column) -> Iterator[Table]:
    """Yield what the trainer logged: every entry that is kept, and the quantities at the checkpoints."""
    from trajsvc.results.losses import losses

    series = run.logged
    if series:
        columns = [
            Column("name", "string", "", "quantity, as the log names it"),
            step,
            Column("value"),
            Column("file", "string", ""),
        ]
        rows = [[s.name, at, value, s.file] for s in series for at, value in zip(s.step, s.value, strict=True)]
        yield _of_rows("logged", "what the trainer logged, every entry that is kept", columns, lambda: rows)
        wide = [step]
        for one in series:
            known = Column(f"{one.name}_logged", "boolean", "", "False: interpolated between the entries beside it")
            wide += [Column(one.name, description=f"as logged in {one.file}"), known]

        def at_checkpoints() -> Sequence[Sequence[Any]]:
            answer = losses(run, steps=steps)
            cells = [column for q in answer.quantities.values() for column in (q.values, q.logged)]
            return list(zip(answer.steps, *cells, strict=True))

        yield _of_rows("losses", "what was logged, at the checkpoints", wide, at_checkpoints)
    if run.learning_rate is not None:
        rate = run.learning_rate
        columns = [step, Column("rate", description="learning rate as logged")]
        yield _of_rows(
            "learning_rate",
            "the learning rate over training",
            columns,
            lambda: list(zip(rate.step, rate.rate, strict=True)),
        )


def _of_rows(
    name: str, description: str, columns: Sequence[Column], rows: Callable[[], Sequence[Sequence[Any]]]
) -> Table:
    def parts() -> Iterator[Part]:
        yield part(columns, rows())

    return Table(name, description, columns, parts)


def describe(columns: Sequence[Column]) -> list[Mapping[str, str]]:
    """Return the columns as the manifest has them."""
    return [{"name": c.name, "type": c.kind, "units": c.units, "description": c.description} for c in columns]
