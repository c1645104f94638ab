"""A measure of every layer over training as a picture: a row a layer, a column a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.style import PAGE, in_paper_style, new_figure, step_labels, tick_places

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerSteps:
    """One picture: ``values`` (layers, steps), NaN where undefined."""

    label: str
    values: NDArray[np.float64]


@in_paper_style
def layer_steps_figure(
    pictures: Sequence[LayerSteps], layers: Sequence[str], steps: Sequence[int], *, title: str = "", axis: str = "step"
) -> Figure:
    """Pictures side by side, each on a scale of its own: the first layer below, as data go through a network upwards."""
    import matplotlib

    colours = matplotlib.colormaps["viridis"].with_extremes(bad=(0, 0, 0, 0))
    count = max(1, len(pictures))
    height = min(8.0, 1.0 + 0.18 * max(4, len(layers)))
    figure = new_figure(PAGE if count > 1 else 4.2, height + (0.25 if title else 0))
    places = figure.subplots(1, count, squeeze=False).ravel()
    for k, (axes, picture) in enumerate(zip(places, pictures, strict=False)):
        axes.patch.set(facecolor="0.93", edgecolor="0.55", hatch="//////")
        image = axes.imshow(picture.values, cmap=colours, interpolation="nearest", origin="lower", aspect="auto")
        at = tick_places(len(steps), max(2, 7 // count))
        axes.set_xticks(at, step_labels([int(steps[i]) for i in at]))
        rows = tick_places(len(layers), 24)
        axes.set_yticks(rows, [layers[i] for i in rows] if k == 0 else [""] * len(rows))
        axes.set_xlabel(axis)
        figure.colorbar(image, ax=axes, label=picture.label)
    places[0].set_ylabel("layer")
    if title:
        figure.suptitle(title)
    return figure
