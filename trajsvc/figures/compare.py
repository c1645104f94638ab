"""Runs side by side: one small bar chart a measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.style import LINES, PAGE, in_paper_style, new_figure, step_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@in_paper_style
def compare_figure(names: Sequence[str], measures: Mapping[str, Sequence[float | None]], *, title: str = "") -> Figure:
    """A bar chart for every measure, a bar for every run in the order of ``names``; an undefined value leaves a gap."""
    columns = min(4, len(measures))
    rows = math.ceil(len(measures) / columns)
    figure = new_figure(PAGE, rows * (0.5 + 0.22 * max(3, len(names))) + (0.25 if title else 0))
    places = figure.subplots(rows, columns, squeeze=False)
    at = np.arange(len(names))
    for place in places.ravel()[len(measures) :]:
        place.set_visible(False)
    for k, (measure, values) in enumerate(measures.items()):
        axes = places[k // columns, k % columns]
        heights = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        axes.barh(at, np.nan_to_num(heights), color=[LINES[i % len(LINES)] for i in at], height=0.7)
        axes.set_title(measure.replace("_", " "))
        axes.set_yticks(at, list(names) if k % columns == 0 else [""] * len(names))
        axes.invert_yaxis()
        axes.locator_params(axis="x", nbins=4)
    if title:
        figure.suptitle(title)
    return figure


@in_paper_style
def compare_curves_figure(
    curves: Sequence[tuple[str, Sequence[int], NDArray[np.float64]]], label: str, *, title: str = ""
) -> Figure:
    """One line a run: ``(name, steps, values)``, on a common axis of steps."""
    figure = new_figure(PAGE, 2.6)
    axes = figure.subplots()
    for k, (name, steps, values) in enumerate(curves):
        axes.plot(steps, values, "o-", color=LINES[k % len(LINES)], label=name)
    step_axis(axes, sorted({s for _, steps, _ in curves for s in steps}))
    axes.set_ylabel(label)
    axes.legend(frameon=False)
    if title:
        figure.suptitle(title)
    return figure
