"""The figures of experiments: lines with the spread over seeds, and the maps of a family's members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trajsvc.experiments.base import Setting
from trajsvc.figures.compare import MARKERS
from trajsvc.figures.maps import Panel, map_figure
from trajsvc.figures.style import COLUMN, GREY, LINES, PAGE, in_paper_style, legend_above, new_figure, save
from trajsvc.results.run import Run


@in_paper_style
def lines(
    setting: Setting,
    name: str,
    curves: Mapping[str, tuple[Any, Any]],
    *,
    x: str,
    y: str,
    logx: bool = False,
    logy: bool = False,
    level: tuple[float, str] | None = None,
) -> Path:
    """Draw curves: name → (x (n), y (seeds, n) or (n)); the line is the mean over seeds, the band from the least to the greatest."""
    figure = new_figure(COLUMN, 2.4)
    axes = figure.subplots()
    for k, (label, (at, values)) in enumerate(curves.items()):
        table = np.atleast_2d(np.asarray(values, dtype=np.float64))
        if logy:
            table = np.where(table > 0.0, table, np.nan)
        marker = MARKERS[k % len(MARKERS)] if table.shape[1] <= 30 else ""
        axes.plot(at, table.mean(axis=0), color=LINES[k % len(LINES)], marker=marker, label=label)
        if len(table) > 1:
            axes.fill_between(at, table.min(axis=0), table.max(axis=0), color=LINES[k % len(LINES)], alpha=0.2, lw=0)
    if level is not None:
        axes.axhline(level[0], color=GREY, lw=0.8, ls="--", label=level[1])
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if logx:
        axes.set_xscale("log")
        _few_ticks(axes.xaxis, next(iter(curves.values()))[0])
    if logy:
        axes.set_yscale("log")
    legend_above(axes, columns=2)
    return save(figure, setting.folder / f"{name}.png")


def _few_ticks(axis: Any, at: Any) -> None:
    """Label few places of a logarithmic axis by their own values where those are short, else the powers of ten."""
    axis.set_minor_formatter(_no_labels())
    labels = [f"{value:g}" for value in at]
    if len(labels) <= 6 and max(map(len, labels)) <= 6:
        axis.set_ticks([], minor=True)
        axis.set_ticks(list(at), labels)


def _no_labels() -> Any:
    from matplotlib.ticker import NullFormatter

    return NullFormatter()


@in_paper_style
def bars(setting: Setting, name: str, values: Mapping[str, Sequence[float]], *, y: str) -> Path:
    """Draw a point for every seed and the mean of each member: ``values`` is member → one value a seed."""
    figure = new_figure(COLUMN, 2.2)
    axes = figure.subplots()
    for k, (_, found) in enumerate(values.items()):
        colour = LINES[k % len(LINES)]
        axes.plot([k] * len(found), found, "o", color=colour, alpha=0.6)
        axes.plot([k - 0.25, k + 0.25], [np.mean(found)] * 2, color=colour)
    axes.set_xticks(range(len(values)), list(values), rotation=20 if len(values) > 4 else 0)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_ylabel(y)
    return save(figure, setting.folder / f"{name}.png")


def maps(setting: Setting, name: str, runs: Mapping[str, Run]) -> Path:
    """Draw the trajectory maps of runs on one scale."""
    panels = [Panel(np.asarray(run.trajectory_map()), run.steps.tolist(), label) for label, run in runs.items()]
    return save(map_figure(panels, axis=next(iter(runs.values())).axis), setting.folder / f"{name}.png")


@in_paper_style
def points(
    setting: Setting, name: str, draw: Any, *, width: float = PAGE, height: float = 2.4, panels: int = 1
) -> Path:
    """Let ``draw(axes)`` draw into a row of panels."""
    figure = new_figure(width, height)
    draw(figure.subplots(1, panels, squeeze=False)[0])
    return save(figure, setting.folder / f"{name}.png")
