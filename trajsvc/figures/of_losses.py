"""Figures of what a trainer logged, above a measure on the same axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trajsvc.results.run import Run


def losses_of(
    run: Run,
    names: Sequence[str] | None = None,
    beside: str | None = None,
    group: str = "network",
    steps: str | None = None,
) -> Figure:
    """Draw every logged quantity over training, a panel each, and the measure ``beside`` of ``group`` below them.

    The quantities have all entries that were kept of the log, between the first and the last checkpoint. Raises what
    ``trajsvc.results.losses.losses`` raises.
    """
    from trajsvc.figures import Curve, overlay_figure
    from trajsvc.figures.of_run import UNITS
    from trajsvc.measures.registry import measure_named
    from trajsvc.results.losses import chosen, over_training

    gram = run.gram(group, steps)
    first, last = int(gram.steps[0]), int(gram.steps[-1])
    panels = []
    for series in chosen(run, names):
        inside = [(s, v) for s, v in zip(series.step, series.value, strict=True) if first <= s <= last]
        line = Curve(run.name, [s for s, _ in inside], np.array([v for _, v in inside], dtype=np.float64))
        panels.append((series.name.replace("_", " "), run.axis, [line]))
    if beside is not None:
        line = Curve(run.name, gram.steps.tolist(), over_training(beside, gram))
        panels.append((beside.replace("_", " ") + UNITS.get(measure_named(beside).units, ""), run.axis, [line]))
    return overlay_figure(panels, title=run.name if beside is None else f"{run.name}: {group}")
