"""Draw attention: maps of Q, K and V through the layers, and the distances between them by depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.maps import Panel, Scale, draw_map, scale_of
from trajsvc.figures.style import LINES, PAGE, in_paper_style, legend_above, new_figure, pack, tick_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PARTS = ("Q", "K", "V")
BAND = 12
"""layers side by side before the next band begins"""
PAIRS = ("Q to K", "Q to V", "K to V")


@in_paper_style
def qkv_figure(
    layers: Sequence[str],
    maps: NDArray[np.float64],
    steps: Sequence[int],
    distances: NDArray[np.float64],
    rms: NDArray[np.float64],
    settling: NDArray[np.float64],
    *,
    title: str = "",
    limits: tuple[float, float] | None = None,
    axis: str = "step",
) -> Figure:
    """Draw maps of Q, K and V through the layers, and three curves by depth.

    Above: rows Q, K, V and a column a layer, ``maps`` (L, 3, n, n) on one scale. Below, against depth: the three
    ``distances`` (L, 3) between the maps (1 − centred alignment), the root mean square differences of the maps, ``rms`` (L, 3), and
    the settling step of each, ``settling`` (L, 3).
    """
    across = min(len(layers), BAND)
    bands = math.ceil(len(layers) / across)
    side = min(1.2, (PAGE - 0.9) / across)
    upper, lower = bands * (3 * side + 0.35), 1.8
    figure = new_figure(PAGE, upper + lower + (0.25 if title else 0))
    pack(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=(upper, lower))
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    places = above.subplots(3 * bands, across, squeeze=False)
    scale = scale_of([values for layer in maps for values in layer], limits)
    for column in range(bands * across):
        stack = places[3 * (column // across) : 3 * (column // across) + 3, column % across]
        if column < len(layers):
            image = _column(list(stack), layers[column], maps[column], steps, scale, first=column % across == 0)
        else:
            for axes in stack:
                axes.set_visible(False)
    above.colorbar(image, ax=list(places.ravel()), label="cosine", aspect=25, pad=0.02)
    left, middle, right = below.subplots(1, 3)
    _by_depth(left, layers, distances, PAIRS, "distance in shape")
    _by_depth(middle, layers, rms, PAIRS, "rms difference (cosine)")
    _by_depth(right, layers, settling, PARTS, f"settling {axis}")
    if title:
        figure.suptitle(title)
    return figure


def _column(
    stack: Sequence[Axes], layer: str, maps: NDArray[np.float64], steps: Sequence[int], scale: Scale, *, first: bool
) -> AxesImage:
    """Draw one layer's Q, K and V, one under the other; step numbers and names of the parts only at the first of a
    band.
    """
    for axes, part, values in zip(stack, PARTS, maps, strict=True):
        image = draw_map(axes, Panel(values, steps), scale, ticks=2)
        axes.tick_params(labelleft=first, labelbottom=first and part == PARTS[-1], length=2 if first else 0)
        if first:
            axes.set_ylabel(part, rotation=0, labelpad=4, va="center")
    stack[0].set_title(layer.removeprefix("layer/"), fontsize=7, pad=2)
    return image


def _by_depth(axes: Axes, layers: Sequence[str], values: NDArray[np.float64], names: Sequence[str], label: str) -> None:
    """Draw one line each for the columns of ``values`` (L, 3) against the layer."""
    depth = np.arange(len(layers))
    for k, name in enumerate(names):
        axes.plot(depth, values[:, k], marker="osD"[k], color=LINES[k], label=name)
    at = tick_places(len(layers), 9)
    axes.set_xticks(at, [layers[i].removeprefix("layer/") for i in at])
    axes.set_xlabel("layer")
    axes.set_ylabel(label)
    shown = values[np.isfinite(values)]
    # room for what lies close together at the top
    axes.set_ylim(0, 1.06 * shown.max() if shown.size and shown.max() > 0 else 1)
    axes.yaxis.set_major_formatter("{x:g}")  # a power of ten apart would lie in the legend
    legend_above(axes)
