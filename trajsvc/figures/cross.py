"""Figures of two runs against each other, a checkpoint of one down and of the other across, and of several at one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.maps import scale_of
from trajsvc.figures.style import COLUMN, PAGE, in_paper_style, new_figure, step_label, step_labels, tick_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from storage_schema.models.cross import CrossAnswer, CrossFamilyAnswer

TICKS = 6
WORDED = 12
"""runs up to which the numbers are written into their cells"""


@in_paper_style
def cross_figure(answer: CrossAnswer) -> Figure:
    """Draw the cosines of the first run's checkpoints (down) with the second's (across), both axes labelled by their steps.

    Checkpoints without a displacement, the origins, have no row or column; other undefined cells are hatched.
    """
    values = _array(answer.map, len(answer.steps_a), len(answer.steps_b))
    rows, columns = (np.flatnonzero(np.isfinite(values).any(axis=1 - axis)) for axis in (0, 1))
    if not rows.size:
        rows, columns = np.arange(values.shape[0]), np.arange(values.shape[1])
    shown = values[np.ix_(rows, columns)]
    side = COLUMN - 0.9
    height = side * min(2.0, max(0.4, shown.shape[0] / max(1, shown.shape[1])))
    figure = new_figure(COLUMN, height + 0.7)
    axes = figure.subplots()
    axes.patch.set(facecolor="0.93", edgecolor="0.55", hatch="//////")
    scale = scale_of([shown])
    image = axes.imshow(
        shown,
        cmap=scale.colormap(),
        vmin=scale.low,
        vmax=scale.high,
        interpolation="nearest",
        origin="upper",
        aspect="auto",
    )
    _number(axes, [answer.steps_a[i] for i in rows], [answer.steps_b[i] for i in columns])
    axes.set_ylabel(f"{answer.runs[0]} ({answer.axes[0]})")
    axes.set_xlabel(f"{answer.runs[1]} ({answer.axes[1]})")
    said = {"first": "displacements from each start", "shared": f"displacements from the start of {answer.runs[0]}"}
    axes.set_title(f"{answer.group}: {said.get(answer.origin, 'points')}")
    figure.colorbar(image, ax=axes, label="cosine", shrink=0.9, aspect=25, pad=0.02)
    return figure


@in_paper_style
def family_matrix_figure(answer: CrossFamilyAnswer) -> Figure:
    """Draw the cosines and the distances of all pairs of runs at one step, with the numbers in the cells where they fit."""
    count = len(answer.runs)
    figure = new_figure(PAGE, PAGE / 2 - 0.9)
    places = figure.subplots(1, 2)
    cosines = _array(answer.map, count, count)
    scale = scale_of([cosines])
    distances = _array(answer.distances, count, count)
    finite = distances[np.isfinite(distances)]
    for axes, values, title, low, high, colours in (
        (places[0], cosines, "cosine", scale.low, scale.high, scale.colormap()),
        (places[1], distances, "distance", 0.0, float(finite.max()) if finite.size else 1.0, "magma_r"),
    ):
        axes.patch.set(facecolor="0.93", edgecolor="0.55", hatch="//////")
        image = axes.imshow(values, cmap=colours, vmin=low, vmax=high or 1.0, interpolation="nearest")
        axes.set_title(title)
        numbers = [str(i + 1) for i in range(count)]
        names = [f"{name}  {number}" for name, number in zip(answer.runs, numbers, strict=True)]
        axes.set_xticks(range(count), numbers)
        axes.set_yticks(range(count), names if axes is places[0] else numbers)
        axes.tick_params(length=2, width=0.5, pad=1.5)
        if count <= WORDED:
            _write(axes, values, image, signed if axes is places[0] else "{:.2g}".format)
        figure.colorbar(image, ax=axes, shrink=0.8, aspect=25, pad=0.02)
    steps = set(answer.steps)
    where = f"{answer.axis} {step_label(answer.steps[0])}" if len(steps) == 1 else "their last steps"
    said = {"first": "displacements from each start", "shared": f"displacements from the start of {answer.runs[0]}"}
    figure.suptitle(f"{answer.group} at {where}: {said.get(answer.origin, 'points')}")
    return figure


def signed(cosine: float) -> str:
    """Return a cosine in two decimals, so that a row of them fits its cells; none is −0.00.

    >>> signed(0.00048), signed(-0.0031), signed(-0.614)
    ('0.00', '0.00', '-0.61')
    """
    return f"{round(cosine, 2) + 0.0:.2f}"


def _write(axes: Axes, values: NDArray[np.float64], image: object, form: Callable[[float], str]) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = image.cmap(image.norm(value))  # type: ignore[attr-defined]
            dark = float(np.dot(colour[:3], (0.299, 0.587, 0.114))) < 0.5
            said, shade = form(float(value)), "white" if dark else "black"
            axes.text(column, row, said, ha="center", va="center", fontsize=6, color=shade)


def _number(axes: Axes, down: Sequence[int], across: Sequence[int]) -> None:
    at = tick_places(len(down), TICKS), tick_places(len(across), TICKS)
    axes.set_yticks(at[0], step_labels([int(down[i]) for i in at[0]]))
    axes.set_xticks(at[1], step_labels([int(across[i]) for i in at[1]]))
    axes.tick_params(length=2, width=0.5, pad=1.5)


def _array(values: Sequence[Sequence[float | None]], rows: int, columns: int) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64).reshape(rows, columns)
