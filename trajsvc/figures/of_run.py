"""The figures of a run: what every door draws, put together from its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trajsvc.errors import NotFound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from storage_schema.models.results import CompareAnswer, QkvAnswer
    from trajsvc.figures import Panel
    from trajsvc.results.run import Run

COMPARED = ("mds", "relative_mds", "path_length", "tortuosity", "mean_update_angle", "mu", "alpha", "settling_step")
LEAST_CHECKPOINTS = 3
"""below this there is no angle between updates, and a map says nothing"""


def run_figures(run: Run) -> Iterator[tuple[str, Figure]]:
    """All figures of a run as (stem of a file name, figure), those that it has enough checkpoints and layers for."""
    from trajsvc.results import tables

    if len(run.steps) < LEAST_CHECKPOINTS:
        return
    yield "map", map_of(run, "network")
    yield "measures", curves_of(run, "network")
    if run.layer_ids():
        yield "layers", layers_of(run)
    if tables.attention_layers(run):
        yield "qkv", qkv_of(run, tables.qkv(run))


def map_of(run: Run, group: str, origin: int | None = None, steps: str | None = None) -> Figure:
    """The map of a group and beside it the relative one at its first checkpoint; with an ``origin`` only the latter."""
    from trajsvc.figures import map_figure

    chosen = run.gram(group, steps).steps
    origins = [origin] if origin is not None else [None, int(chosen[0])] if len(chosen) > 1 else [None]
    titles = ["trajectory map" if at is None else f"relative to step {at}" for at in origins]
    panels = [_panel(run, group, at, steps, title) for at, title in zip(origins, titles, strict=True)]
    return map_figure(panels, title=f"{run.name}: {group}", marks=_marks(run, group, steps))


def layers_of(run: Run, origin: int | None = None, steps: str | None = None) -> Figure:
    """A map for every layer, on one scale. Raises NotFound (``no-layers``)."""
    from trajsvc.figures import layer_grid

    layers = run.layer_ids()
    if not layers:
        raise NotFound(
            "no-layers", f"{run.name} has no layers", hint=f"`trajsvc groups {run.name}` lists what can be measured."
        )
    panels = [_panel(run, group, origin, steps, group.removeprefix("layer/")) for group in layers]
    what = "trajectory maps" if origin is None else f"maps relative to step {origin}"
    return layer_grid(panels, title=f"{run.name}: {what} by layer", marks=_marks(run, "network", steps))


def curves_of(run: Run, group: str, steps: str | None = None) -> Figure:
    """Angles and norms of a group against the step."""
    from trajsvc.figures import Curves, curves_figure
    from trajsvc.measures.nulls import below_floor
    from trajsvc.measures.registry import MEASURES

    gram = run.gram(group, steps)
    names = ("update_angle", "apex_angle_init", "norm", "distance_from_init", "update_norm", "noise_floor")
    values = {name: np.asarray(MEASURES[name].compute(gram), dtype=np.float64) for name in names}
    curves = Curves(steps=gram.steps.tolist(), **values, below_floor=below_floor(gram))
    return curves_figure(curves, title=f"{run.name}: {group}", marks=_marks(run, group, steps))


def qkv_of(run: Run, answer: QkvAnswer, steps: str | None = None) -> Figure:
    """The maps of Q, K and V of every layer, their distances and settling steps by depth."""
    from trajsvc.figures import qkv_figure

    rows = answer.layers
    maps = [[_panel(run, f"{row.group}/attention.{part}", None, steps).values for part in "qkv"] for row in rows]
    distances = [[row.distance_qk, row.distance_qv, row.distance_kv] for row in rows]
    settling = [[row.settling_step_q, row.settling_step_k, row.settling_step_v] for row in rows]
    return qkv_figure(
        [row.layer for row in rows],
        np.array(maps),
        answer.steps,
        np.array(distances, dtype=np.float64),
        np.array(settling, dtype=np.float64),
        title=f"{run.name}: Q, K and V",
    )


def comparison(answer: CompareAnswer) -> Figure:
    """Bars of the runs for one group; of several groups a bar each, in the order of the rows."""
    from trajsvc.figures import compare_figure

    one = len({row.group for row in answer.rows}) == 1
    names = [row.run if one else f"{row.run} {row.group.removeprefix('layer/')}" for row in answer.rows]
    return compare_figure(names, {name: [getattr(row, name) for row in answer.rows] for name in COMPARED})


def maps_beside(runs: Sequence[Run], group: str, origin: int | None = None, steps: str | None = None) -> Figure:
    """The maps of several runs on one scale."""
    from trajsvc.figures import map_figure

    panels = [_panel(run, group, origin, steps, run.name) for run in runs]
    return map_figure(panels, title=group if origin is None else f"{group}, relative to step {origin}")


def _panel(run: Run, group: str, origin: int | None, steps: str | None, title: str = "") -> Panel:
    from trajsvc.figures import Panel
    from trajsvc.measures.registry import MEASURES
    from trajsvc.results.labels import axis

    gram = run.gram(group, steps)
    values: Any = MEASURES["trajectory_map"].compute(gram, origin=origin)
    return Panel(values, axis("step", len(values), gram.steps, origin).tolist(), title)


def _marks(run: Run, group: str, steps: str | None) -> list[int]:
    """First steps of the phases after the first."""
    from trajsvc.results import answers

    return [phase.start_step for phase in answers.phases(run, group, steps)[1:]]
