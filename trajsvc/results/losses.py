"""Answer what a trainer logged at a run's checkpoints, and how it goes with a measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from storage_schema.models.results import LoggedSeries
from storage_schema.models.training_log import LaggedRow, LoggedAt, LossesAnswer
from trajsvc.errors import NotFound, UsageError
from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.logged import at_checkpoints, lagged_correlation
from trajsvc.measures.registry import measure_named
from trajsvc.results.labels import axis, plain
from trajsvc.results.measure_methods import MeasureMethods, Steps

if TYPE_CHECKING:
    from xarray import Dataset


def losses(
    run: MeasureMethods,
    names: Sequence[str] | None = None,
    beside: str | None = None,
    group: str = "network",
    steps: Steps = None,
) -> LossesAnswer:
    """Return the quantities ``names`` (all by default) at the checkpoints, and their correlations with the measure ``beside`` of ``group``.

    Raises NotFound (``nothing-logged``, ``quantity-not-found``, ``measure-not-found``, ``group-not-found``) and UsageError
    (``no-curve``) for a measure that is not a curve over training.
    """
    gram = run.gram(group, steps)
    found = {}
    for series in chosen(run, names):
        values, logged = at_checkpoints(gram.steps, series.step, series.value)
        found[series.name] = values, LoggedAt(values=plain(values), logged=logged.tolist(), file=series.file)
    curve = None if beside is None else over_training(beside, gram)
    return LossesAnswer(
        run=run.name,
        group=group,
        axis=run.axis,
        steps=gram.steps.tolist(),
        quantities={name: at for name, (_, at) in found.items()},
        beside=beside,
        measure=None if curve is None else plain(curve),
        correlations=None if curve is None else {name: _rows(curve, values) for name, (values, _) in found.items()},
    )


def dataset(answer: LossesAnswer) -> Dataset:
    """Label the quantities by the checkpoints' steps; ``<name>_logged`` says where a value was logged at that very step."""
    import xarray

    found: dict[str, Any] = {}
    for name, at in answer.quantities.items():
        found[name] = ("step", np.array(at.values, dtype=np.float64), {"file": at.file})
        found[f"{name}_logged"] = ("step", np.array(at.logged, dtype=bool))
    return xarray.Dataset(found, coords={"step": answer.steps}, attrs={"run": answer.run, "axis": answer.axis})


def table_of(answer: LossesAnswer) -> tuple[list[str], list[list[Any]]]:
    """Return the answer as a table, its columns' names and its rows: a checkpoint each, every quantity and whether it was logged there."""
    found = answer.quantities
    head = [answer.axis, *(column for name in found for column in (name, f"{name} logged"))]
    rows = [
        [step, *(cell for q in found.values() for cell in (q.values[i], q.logged[i]))]
        for i, step in enumerate(answer.steps)
    ]
    if answer.beside is None or answer.measure is None:
        return head, rows
    return [*head, answer.beside], [[*row, value] for row, value in zip(rows, answer.measure, strict=True)]


def chosen(run: MeasureMethods, names: Sequence[str] | None) -> list[LoggedSeries]:
    """Return the logged series called ``names``, all by default. Raises NotFound (``nothing-logged``, ``quantity-not-found``)."""
    known = {series.name: series for series in run.logged}
    if not known:
        raise NotFound(
            "nothing-logged",
            f"no log of training was found beside the checkpoints of {run.name}",
            hint="Read are trainer_state.json, JSON lines, CSV, TensorBoard's event files and exports of Weights & Biases in the run's "
            "folder; analyse it again once they are there.",
        )
    for name in names or ():
        if name not in known:
            hint = f"Logged were {', '.join(known)}."
            raise NotFound("quantity-not-found", f"{run.name} has no log of {name!r}", hint=hint)
    return [known[name] for name in names] if names else list(known.values())


def over_training(name: str, gram: GroupGram) -> Array:
    """Return a measure's curve at every checkpoint of ``gram``, (T), NaN where it has no value there. Raises UsageError (``no-curve``)."""
    measure = measure_named(name)
    if len(measure.dims) != 1 or measure.dims[0] not in ("step", "update"):
        raise UsageError(
            "no-curve",
            f"{name} is no curve over training",
            hint="Take one that has a value at checkpoints, such as update_norm, cosine_to_final or norm.",
        )
    values = np.asarray(measure.compute(gram), dtype=np.float64)
    whole = np.full(len(gram.steps), np.nan)
    whole[np.searchsorted(gram.steps, axis(measure.dims[0], len(values), gram.steps))] = values
    return whole


def _rows(curve: Array, values: Array) -> list[LaggedRow]:
    found = lagged_correlation(curve, values)
    rows = zip(found.lag.tolist(), plain(found.value), found.pairs.tolist(), strict=True)
    return [LaggedRow(lag=lag, value=value, pairs=pairs) for lag, value, pairs in rows]
