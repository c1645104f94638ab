"""Draw runs side by side: one small bar chart a measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.style import (
    COLUMN,
    GREY,
    LINES,
    PAGE,
    fitting,
    in_paper_style,
    legend_below,
    new_figure,
    step_axis,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osD^vP"


@in_paper_style
def compare_figure(names: Sequence[str], measures: Mapping[str, Sequence[float | None]], *, title: str = "") -> Figure:
    """Draw a bar chart for every measure, a bar for every run in the order of ``names``; an undefined value is written
    out: it is no bar of 0.
    """
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
        defined = np.isfinite(heights)
        axes.barh(at[defined], heights[defined], color=[LINES[i % len(LINES)] for i in at[defined]], height=0.7)
        for i in at[~defined].tolist():
            axes.text(0.02, i, "undefined", transform=axes.get_yaxis_transform(), va="center", color=GREY, fontsize=6)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_title(measure.replace("_", " "))
        axes.set_yticks(at, [fitting(n, 40) for n in names] if k % columns == 0 else [""] * len(names))
        axes.invert_yaxis()
        axes.locator_params(axis="x", nbins=4)
        if not defined.any():
            axes.set_xticks([])
    if title:
        figure.suptitle(title)
    return figure


@dataclass(frozen=True)
class Curve:
    """One line: ``values`` (n,) at ``at`` (n,) on the axis of its panel."""

    name: str
    at: Sequence[int]
    values: NDArray[np.float64]


@in_paper_style
def overlay_figure(
    panels: Sequence[tuple[str, str, Sequence[Curve]]], *, title: str = "", marks: Sequence[int] = ()
) -> Figure:
    """Draw a panel for every ``(label, axis, curves)``, one line a run with its own colour and marker, and one legend.

    ``marks`` are dotted lines at steps; lags and components have none.
    """
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(curve.name for _, _, curves in panels for curve in curves))
    legend = 0.2 * len(names) / (1 if max(map(len, names), default=0) > 30 else 3) + 0.15 if len(names) > 1 else 0.0
    figure = new_figure(PAGE, 2.2 * rows + legend + (0.25 if title else 0))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for place in places[len(panels) :]:
        place.set_visible(False)
    for axes, (label, axis, curves) in zip(places, panels, strict=False):
        for curve in curves:
            k = names.index(curve.name)
            axes.plot(
                curve.at, curve.values, marker=MARKERS[k % len(MARKERS)], color=LINES[k % len(LINES)], label=curve.name
            )
        if axis in ("lag", "component"):
            axes.set_xlabel(axis)
        else:
            step_axis(axes, sorted({s for curve in curves for s in curve.at}), axis)
            for mark in marks:
                axes.axvline(mark, color="black", linewidth=0.6, linestyle=":")
        axes.set_ylabel(label)
    if title:
        figure.suptitle(title)
    if len(names) > 1:
        handles = {line.get_label(): line for place in places for line in place.get_lines()}
        shown = [handles[name] for name in names]
        legend_below(figure, shown, names)
    return figure


@in_paper_style
def stacked_figure(
    panels: Mapping[str, Sequence[Curve]], steps: Sequence[int], *, title: str = "", axis: str = "step"
) -> Figure:
    """Draw a panel for every label, one below the other over one axis of the checkpoints' ``steps``.

    Several curves of a panel have a legend.
    """
    figure = new_figure(COLUMN, 1.5 * len(panels) + 0.5 + (0.25 if title else 0))
    places = figure.subplots(len(panels), 1, squeeze=False).ravel()
    for axes, (label, curves) in zip(places, panels.items(), strict=True):
        for k, curve in enumerate(curves):
            axes.plot(
                curve.at, curve.values, marker=MARKERS[k % len(MARKERS)], color=LINES[k % len(LINES)], label=curve.name
            )
        step_axis(axes, steps, axis)
        axes.set_xlim(steps[0], steps[-1])
        axes.set_ylabel(label)
        if len(curves) > 1:
            axes.legend(frameon=False)
        if axes is not places[-1]:
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
    if title:
        figure.suptitle(title)
    return figure
