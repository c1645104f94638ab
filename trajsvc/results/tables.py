"""Measures of a run as tables: layers, Q/K/V, one group's measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from storage_schema.models.results import (
    Answer,
    LayerRow,
    MeasuresAnswer,
    QkvAnswer,
    QkvRow,
)
from trajsvc.errors import NotFound
from trajsvc.measures.base import GroupGram
from trajsvc.measures.registry import MEASURES, compute
from trajsvc.results.depth import PARTS, attention_layers, depth_layers, relative_depths
from trajsvc.results.labels import axis, called, plain
from trajsvc.results.measure_methods import MeasureMethods, Steps

if TYPE_CHECKING:
    from xarray import Dataset


LONG = ("measure", "axis", "at", "axis_2", "at_2", "value")
"""columns of ``long_rows``"""
LAYER_MEASURES = ("mds", "relative_mds", "path_length", "tortuosity", "nonrandom_fraction", "settling_step")


def measures(run: MeasureMethods, group: str, names: Sequence[str] | None, steps: Steps) -> MeasuresAnswer:
    """Compute the named measures of ``group``; by default all of the registry except the maps."""
    gram = run.gram(group, steps)
    chosen = list(names) if names is not None else default_measures()
    return MeasuresAnswer(
        run=run.name,
        group=group,
        parameters=gram.parameters,
        axis=run.axis,
        steps=gram.steps.tolist(),
        measures=plain(compute(chosen, gram)),
        undefined={**undefined(gram), "below_noise_floor": below_noise_floor(gram)},
        errors=standard_errors(run, chosen, group, steps),
    )


def long_rows(answer: MeasuresAnswer) -> list[tuple[Any, ...]]:
    """Return measures as rows (measure, axis, at, axis_2, at_2, value): one for every number, scalars without an axis.

    An axis of steps has the name of the run's axis.
    """
    steps = np.array(answer.steps, dtype=np.int64)
    rows: list[tuple[Any, ...]] = []
    for name, value in answer.measures.items():
        dims = MEASURES[name].dims
        array = np.array(value, dtype=np.float64)
        numbers = [axis(dim, length, steps).tolist() for dim, length in zip(dims, array.shape, strict=True)]
        for index in np.ndindex(array.shape):
            places = [
                x for dim, at, i in zip(dims, numbers, index, strict=True) for x in (called(dim, answer.axis), at[i])
            ]
            rows.append((name, *places, *(4 - len(places)) * [None], plain(array[index])))
    return rows


def standard_errors(run: MeasureMethods, names: Sequence[str], group: str, steps: Steps) -> dict[str, Any] | None:
    """Return, for an estimated run, the standard error of every named measure; None for an exact one."""
    if run.estimate is None:
        return None
    return {name: plain(run.standard_error(name, group, steps)) for name in names}


def default_measures() -> list[str]:
    """Return the names of the scalars and curves, which fit a table. Maps must be asked for by name."""
    return [m.name for m in MEASURES.values() if len(m.dims) < 2]


def undefined(gram: GroupGram) -> dict[str, int]:
    """Count what is undefined because a point or an update is the zero vector."""
    from trajsvc.measures.nulls import undefined as count

    return {k: int(v) for k, v in count(gram).items()}


def below_noise_floor(gram: GroupGram) -> list[int]:
    """Return the steps of the updates that rounding of the stored type could explain."""
    from trajsvc.measures.nulls import below_floor

    return [int(step) for step, below in zip(gram.steps[1:], below_floor(gram), strict=True) if below]


def layer_row(run: MeasureMethods, group: str, steps: Steps, depth: float | None = None) -> LayerRow:
    """Return the row of one group in the table of layers; ``depth`` is null for what lies around the layers."""
    gram = run.gram(group, steps)
    angles = np.asarray(MEASURES["update_angle"].compute(gram), dtype=np.float64)
    finite = angles[np.isfinite(angles)]
    cosines = np.asarray(MEASURES["update_cosine"].compute(gram), dtype=np.float64)
    cosines = cosines[np.isfinite(cosines)]
    return LayerRow(
        layer=group.removeprefix("layer/"),
        group=group,
        depth=depth,
        parameters=gram.parameters,
        largest_update_angle=float(finite.max()) if finite.size else None,
        mean_update_cosine=float(cosines.mean()) if cosines.size else None,
        below_noise_floor=len(below_noise_floor(gram)),
        **plain(compute(LAYER_MEASURES, gram)),
    )


def layers(run: MeasureMethods, steps: Steps = None) -> list[LayerRow]:
    """Return the table of layers, in order of depth."""
    depths = relative_depths(depth_layers(run))
    return [layer_row(run, group, steps, depths.get(group)) for group in run.layer_ids()]


def around(run: MeasureMethods, steps: Steps = None) -> tuple[list[LayerRow], list[LayerRow]]:
    """Return the rows of what lies before the layers and after them: the embedding, the unembedding, where there are any."""
    known = run.groups()
    first, last = ([layer_row(run, g, steps)] if g in known else [] for g in ("embedding", "unembedding"))
    return first, last


def qkv_row(run: MeasureMethods, group: str, steps: Steps, origin: int | None = None) -> QkvRow:
    """Compare Q, K and V of one layer, by their maps relative to ``origin`` if one is given."""
    from trajsvc.measures.heterogeneity import qkv_heterogeneity

    q, k, v = (run.gram(f"{group}/attention.{part}", steps) for part in PARTS)
    facts = plain(asdict(qkv_heterogeneity(q, k, v, origin)))
    known = {name: value for name, value in facts.items() if name in QkvRow.model_fields}
    return QkvRow(
        layer=group.removeprefix("layer/"), group=group, heterogeneity=facts["mean"], rms=facts["rms_mean"], **known
    )


def qkv(run: MeasureMethods, steps: Steps = None, origin: int | None = None) -> QkvAnswer:
    """Compare Q, K and V through the layers.

    Raises NotFound (``no-attention`` if no layer has them, ``step-not-found``).
    """
    found = attention_layers(run)
    if not found:
        raise NotFound(
            "no-attention",
            f"no layer of {run.name} ({run.architecture}) has Q, K and V",
            hint=f"`trajsvc layers {run.name}` shows its layers, `trajsvc groups {run.name}` what can be measured.",
        )
    chosen = run.stored.checkpoints.step[run.selection(steps)]
    rows = [qkv_row(run, g, steps, origin) for g in found]
    return QkvAnswer(run=run.name, origin=origin, steps=chosen.tolist(), layers=rows)


def dataset(rows: Sequence[Answer]) -> Dataset:
    """Convert rows with a ``group`` to a Dataset along ``layer``; null becomes NaN."""
    import xarray

    columns = [dict(row.model_dump()) for row in rows]
    names = [name for name in (columns[0] if columns else {}) if name not in ("layer", "group")]
    data = {name: ("layer", [np.nan if row[name] is None else row[name] for row in columns]) for name in names}
    return xarray.Dataset(data, coords={"layer": [row["group"] for row in columns]})
