"""Draw all layers at once: a map for each, on one colour scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trajsvc.figures.maps import Panel, draw_map, scale_of
from trajsvc.figures.style import PAGE, in_paper_style, new_figure, pack

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@in_paper_style
def layer_grid(
    panels: Sequence[Panel],
    *,
    title: str = "",
    marks: Sequence[int] = (),
    limits: tuple[float, float] | None = None,
    axis: str = "step",
) -> Figure:
    """Draw one small map a layer, left to right and down, across the page (6.8 in), on one scale so that colours
    compare.

    Only the left column and the last row carry step numbers (first and last); every panel has its layer's name.
    """
    columns = _columns(len(panels))
    rows = math.ceil(len(panels) / columns)
    side = (PAGE - 0.8) / columns
    figure = new_figure(PAGE, rows * (side + 0.2) + 0.3 + (0.25 if title else 0))
    pack(figure)
    scale = scale_of([p.values for p in panels], limits)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for place in places[len(panels) :]:
        place.set_visible(False)
    for k, (axes, panel) in enumerate(zip(places, panels, strict=False)):
        image = draw_map(axes, panel, scale, ticks=2, marks=marks)
        axes.tick_params(labelleft=k % columns == 0, labelbottom=k + columns >= len(panels))
        axes.title.set_fontsize(6 if columns > 6 else 7)
    figure.supxlabel(axis, fontsize=7)
    figure.supylabel(axis, fontsize=7)
    figure.colorbar(image, ax=list(places), label="cosine", aspect=40, shrink=min(1.0, 3 / rows), pad=0.02)
    if title:
        figure.suptitle(title)
    return figure


def _columns(count: int) -> int:
    """Return the number of columns: about as many as rows up to 36 maps, then ten."""
    return max(1, min(count, 4 if count <= 8 else 6 if count <= 36 else 10))
