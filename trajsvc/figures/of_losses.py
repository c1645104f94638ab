"""Figures of what a trainer logged, above a measure on the same axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trajsvc.figures.compare import Curve
    from trajsvc.results.run import Run


def losses_of(
    run: Run,
    names: Sequence[str] | None = None,
    beside: str | None = None,
    group: str = "network",
    steps: str | None = None,
) -> Figure:
    """Draw what was logged over training, losses together, and the measure ``beside`` of ``group`` below.

    Every other quantity has a panel of its own. All panels have one axis, from the first to the last checkpoint; the
    quantities have all entries that were kept of the log. Raises what ``trajsvc.results.losses.losses`` raises.
    """
    from trajsvc.figures import Curve, stacked_figure
    from trajsvc.figures.of_run import UNITS
    from trajsvc.measures.registry import measure_named
    from trajsvc.results.losses import chosen, over_training

    gram = run.gram(group, steps)
    first, last = int(gram.steps[0]), int(gram.steps[-1])
    panels: dict[str, list[Curve]] = {}
    for series in chosen(run, names):
        inside = [(s, v) for s, v in zip(series.step, series.value, strict=True) if first <= s <= last]
        line = Curve(
            series.name.replace("_", " "), [s for s, _ in inside], np.array([v for _, v in inside], np.float64)
        )
        panels.setdefault("loss" if "loss" in series.name.lower() else line.name, []).append(line)
    if beside is not None:
        label = beside.replace("_", " ") + UNITS.get(measure_named(beside).units, "")
        panels[label] = [Curve(label, gram.steps.tolist(), over_training(beside, gram))]
    title = run.name if beside is None else f"{run.name}: {group}"
    return stacked_figure(panels, gram.steps.tolist(), title=title, axis=run.axis)
