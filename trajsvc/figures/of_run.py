"""Draw the figures of a run, for every interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trajsvc.errors import NotFound, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from storage_schema.models.results import CompareAnswer, QkvAnswer
    from trajsvc.figures import Panel
    from trajsvc.results.run import Run

COMPARED = (
    "mds", "mds_by_length", "relative_mds", "random_walk_mds", "path_length", "tortuosity", "mean_update_angle", "mu", "alpha",
    "settling_step",
)  # fmt: skip
UNITS = {"degree": " (°)"}
LEAST_CHECKPOINTS = 3
"""with fewer checkpoints there is no angle between updates, and a map shows nothing"""


@dataclass(frozen=True)
class FigureMaker:
    """A figure that a run has: the stem of its file's name, how many panels it has, which tell its time, and what draws it."""

    stem: str
    panels: int
    make: Callable[[], Figure]


def figure_makers(run: Run) -> Iterator[FigureMaker]:
    """Yield what draws the figures for which a run has enough checkpoints and layers."""
    from trajsvc.results import tables
    from trajsvc.results.depth import attention_layers, network_in_order

    if len(run.steps) < LEAST_CHECKPOINTS:
        return
    yield FigureMaker("map", 2, lambda: map_of(run, "network"))
    yield FigureMaker("measures", 3, lambda: curves_of(run, "network"))
    if run.layer_ids():
        yield FigureMaker("layers", len(network_in_order(run)), lambda: layers_of(run))
    if layers := attention_layers(run):
        yield FigureMaker("qkv", 4 + 3 * len(layers), lambda: qkv_of(run, tables.qkv(run)))


def run_figures(run: Run) -> Iterator[tuple[str, Figure]]:
    """Yield all figures of a run as (stem of a file name, figure)."""
    for maker in figure_makers(run):
        yield maker.stem, maker.make()


def map_of(run: Run, group: str, origin: int | None = None, steps: str | None = None, *, null: bool = False) -> Figure:
    """Draw the map of a group and beside it the relative one at its first checkpoint; with an ``origin`` only the
    latter.

    With ``null``, the relative map that is expected of a random walk with the same update norms is drawn beside them
    (Hallmarks, appendix C).
    """
    from trajsvc.figures import Panel, map_figure
    from trajsvc.measures.nulls import random_walk

    chosen = run.gram(group, steps).steps
    origins = [origin] if origin is not None else [None, int(chosen[0])] if len(chosen) > 1 else [None]
    titles = ["trajectory map" if at is None else f"relative to {run.axis} {at}" for at in origins]
    panels = [_panel(run, group, at, steps, title) for at, title in zip(origins, titles, strict=True)]
    if null and len(chosen) > 1:
        walk = random_walk(run.gram(group, steps))
        panels.append(Panel(walk, chosen[1:].tolist(), f"random walk from {run.axis} {chosen[0]}"))
    return map_figure(panels, title=f"{run.name}: {group}", marks=_marks(run, group, steps), axis=run.axis)


def layers_of(run: Run, origin: int | None = None, steps: str | None = None) -> Figure:
    """Draw a map for every layer and the embeddings around them, on one scale. Raises NotFound (``no-layers``)."""
    from trajsvc.figures import layer_grid
    from trajsvc.results.depth import network_in_order

    if not run.layer_ids():
        raise NotFound(
            "no-layers", f"{run.name} has no layers", hint=f"`trajsvc groups {run.name}` lists what can be measured."
        )
    panels = [_panel(run, group, origin, steps, group.removeprefix("layer/")) for group in network_in_order(run)]
    what = "trajectory maps" if origin is None else f"maps relative to {run.axis} {origin}"
    marks = _marks(run, "network", steps)
    return layer_grid(panels, title=f"{run.name}: {what} by layer", marks=marks, axis=run.axis)


def curves_of(run: Run, group: str, steps: str | None = None, names: Sequence[str] | None = None) -> Figure:
    """Draw angles and norms of a group against the step; with ``names``, those measures, a panel each.

    Raises NotFound (``measure-not-found``) and UsageError (``no-curve``) for a measure that is not a curve.
    """
    from trajsvc.figures import Curves, curves_figure
    from trajsvc.measures.nulls import below_floor
    from trajsvc.measures.registry import MEASURES

    if names is not None:
        return overlaid([run], group, names, steps, marks=_marks(run, group, steps))

    gram = run.gram(group, steps)
    names = ("update_angle", "apex_angle_init", "norm", "distance_from_init", "update_norm", "noise_floor")
    values = {name: np.asarray(MEASURES[name].compute(gram), dtype=np.float64) for name in names}
    curves = Curves(steps=gram.steps.tolist(), **values, below_floor=below_floor(gram))
    return curves_figure(curves, title=f"{run.name}: {group}", marks=_marks(run, group, steps), axis=run.axis)


def overlaid(
    runs: Sequence[Run], group: str, names: Sequence[str], steps: str | None = None, *, marks: Sequence[int] = ()
) -> Figure:
    """Draw measures over training, a panel each with a line for every run (Hallmarks, figure 4).

    Raises NotFound (``measure-not-found``, ``group-not-found``) and UsageError (``no-curve``) for a measure that is not
    a curve.
    """
    from trajsvc.figures import Curve, overlay_figure
    from trajsvc.measures.registry import MEASURES, measure_named
    from trajsvc.results.labels import axis

    for name in names:
        if len(measure_named(name).dims) != 1:
            what = "a number" if not MEASURES[name].dims else "a map"
            hint = f"`trajsvc measures RUN --names {name} --format json` has it; a figure of measures is of curves."
            raise UsageError("no-curve", f"{name} is {what}, not a curve", hint=hint)
    panels = []
    for name in names:
        measure = MEASURES[name]
        lines = []
        for run in runs:
            gram = run.gram(group, steps)
            values = np.asarray(measure.compute(gram), dtype=np.float64)
            lines.append(Curve(run.name, axis(measure.dims[0], len(values), gram.steps).tolist(), values))
        along = measure.dims[0] if measure.dims[0] in ("lag", "component") else _axis_of(runs)
        panels.append((name.replace("_", " ") + UNITS.get(measure.units, ""), along, lines))
    title = f"{runs[0].name}: {group}" if len(runs) == 1 else group
    return overlay_figure(panels, title=title, marks=marks)


def qkv_of(run: Run, answer: QkvAnswer, steps: str | None = None) -> Figure:
    """Draw the maps of Q, K and V of every layer, their distances and settling steps by depth."""
    from trajsvc.figures import qkv_figure

    rows = answer.layers
    at = answer.origin
    panels = [[_panel(run, f"{row.group}/attention.{part}", at, steps) for part in "qkv"] for row in rows]
    distances = [[row.distance_qk, row.distance_qv, row.distance_kv] for row in rows]
    rms = [[row.rms_qk, row.rms_qv, row.rms_kv] for row in rows]
    settling = [[row.settling_step_q, row.settling_step_k, row.settling_step_v] for row in rows]
    return qkv_figure(
        [row.layer for row in rows],
        np.array([[panel.values for panel in layer] for layer in panels]),
        panels[0][0].steps,
        np.array(distances, dtype=np.float64),
        np.array(rms, dtype=np.float64),
        np.array(settling, dtype=np.float64),
        title=f"{run.name}: Q, K and V" + ("" if at is None else f", relative to {run.axis} {at}"),
        axis=run.axis,
    )


def comparison(answer: CompareAnswer) -> Figure:
    """Draw bars of the runs for one group; of several groups a bar each, in the order of the rows."""
    from trajsvc.figures import compare_figure

    one = len({row.group for row in answer.rows}) == 1
    names = [row.run if one else f"{row.run} {row.group.removeprefix('layer/')}" for row in answer.rows]
    title = answer.rows[0].group if one else ""
    return compare_figure(names, {name: [getattr(row, name) for row in answer.rows] for name in COMPARED}, title=title)


def maps_beside(runs: Sequence[Run], group: str, origin: int | None = None, steps: str | None = None) -> Figure:
    """Draw the maps of several runs on one scale."""
    from trajsvc.figures import map_figure

    panels = [_panel(run, group, origin, steps, run.name) for run in runs]
    title = group if origin is None else f"{group}, relative to {_axis_of(runs)} {origin}"
    return map_figure(panels, title=title, axis=_axis_of(runs))


def _axis_of(runs: Sequence[Run]) -> str:
    """Return what the checkpoints of all ``runs`` are numbered by; where they differ, each one's name."""
    return " or ".join(dict.fromkeys(run.axis for run in runs))


def _panel(run: Run, group: str, origin: int | None, steps: str | None, title: str = "") -> Panel:
    from trajsvc.figures import Panel
    from trajsvc.measures.registry import MEASURES
    from trajsvc.results.labels import axis

    gram = run.gram(group, steps)
    values: Any = MEASURES["trajectory_map"].compute(gram, origin=origin)
    return Panel(values, axis("step", len(values), gram.steps, origin).tolist(), title)


def _marks(run: Run, group: str, steps: str | None) -> list[int]:
    """Return the first steps of the phases after the first."""
    from trajsvc.results import answers

    return [phase.start_step for phase in answers.phases(run, group, steps)[1:]]
