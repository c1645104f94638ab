"""Trajectory maps as images: square cells, real step numbers, one colour scale, undefined cells hatched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.style import COLUMN, PAGE, in_paper_style, new_figure, step_labels, tick_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


@dataclass(frozen=True)
class Panel:
    """One map: ``values`` (n, n) of cosines, NaN where undefined, at ``steps`` (n,)."""

    values: NDArray[np.float64]
    steps: Sequence[int]
    title: str = ""


@dataclass(frozen=True)
class Scale:
    """A colour scale: ``low`` to ``high`` on a colour map that can be read with any colour vision."""

    low: float
    high: float
    name: str

    def colormap(self) -> Colormap:
        """Return the matplotlib colour map; undefined values are transparent, so that the hatched ground shows."""
        import matplotlib

        return matplotlib.colormaps[self.name].with_extremes(bad=(0, 0, 0, 0))


def scale_of(values: Sequence[NDArray[np.float64]], limits: tuple[float, float] | None = None) -> Scale:
    """Return one scale for all ``values``.

    It is viridis from the tenth below the least one to 1, or, when a cosine is negative, a diverging map from −1 to 1
    centred at 0. ``limits`` fixes the ends.
    """
    finite = np.concatenate([v[np.isfinite(v)].ravel() for v in values] or [np.zeros(0)])
    least = float(finite.min()) if finite.size else 0.0
    negative = (limits[0] if limits else least) < -1e-6
    low, high = limits or ((-1.0, 1.0) if negative else (max(0.0, math.floor(least * 10 - 1e-9) / 10), 1.0))
    return Scale(low, high, "RdBu_r" if negative else "viridis")


@in_paper_style
def map_figure(
    panels: Sequence[Panel],
    *,
    title: str = "",
    marks: Sequence[int] = (),
    limits: tuple[float, float] | None = None,
    width: float | None = None,
    axis: str = "step",
) -> Figure:
    """Draw maps side by side on one scale with one colour bar; one map fills a column (3.3 in), more the page (6.8 in).

    ``marks`` are the first steps of new phases: a thin line is drawn before each, in both directions.
    """
    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    width = width or (COLUMN if len(panels) == 1 else PAGE)
    side = (width - 0.9) / columns
    figure = new_figure(width, rows * (side + 0.45) + (0.25 if title else 0))
    scale = scale_of([p.values for p in panels], limits)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for place in places[len(panels) :]:
        place.set_visible(False)
    ticks = max(2, min(7, int(side / 0.38)))
    for k, (axes, panel) in enumerate(zip(places, panels, strict=False)):
        image = draw_map(axes, panel, scale, ticks=ticks, marks=marks)
        axes.set_xlabel(axis)
        if k % columns == 0:
            axes.set_ylabel(axis)
    figure.colorbar(image, ax=list(places), label="cosine", shrink=0.9, aspect=25, pad=0.02)
    if title:
        figure.suptitle(title)
    return figure


def draw_map(axes: Axes, panel: Panel, scale: Scale, *, ticks: int, marks: Sequence[int] = ()) -> AxesImage:
    """Draw one map: rows and columns are checkpoints in order, the labels their step numbers."""
    axes.patch.set(facecolor="0.93", edgecolor="0.55", hatch="//////")
    values = panel.values if panel.values.size else np.full((1, 1), np.nan)  # an empty image has no axes
    image = axes.imshow(
        values, cmap=scale.colormap(), vmin=scale.low, vmax=scale.high, interpolation="nearest", origin="upper"
    )
    at = tick_places(len(panel.steps), ticks)
    labels = step_labels([int(panel.steps[i]) for i in at])
    axes.set_xticks(at, labels)
    axes.set_yticks(at, labels)
    axes.tick_params(length=2, width=0.5, pad=1.5)
    if panel.title:
        axes.set_title(panel.title)
    draw_marks(axes, panel.steps, marks)
    return image


def draw_marks(axes: Axes, steps: Sequence[int], marks: Sequence[int]) -> None:
    """Draw a line before the first cell of every phase, light on dark, so that it shows on any colour."""
    for mark in marks:
        edge = int(np.searchsorted(np.asarray(steps), mark)) - 0.5
        if 0 < edge < len(steps) - 1:
            for colour, weight in (("black", 1.0), ("white", 0.5)):
                axes.axvline(edge, color=colour, linewidth=weight)
                axes.axhline(edge, color=colour, linewidth=weight)
