"""Angles and norms against the step, with what rounding and chance alone would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.style import GREY, LINES, PAGE, in_paper_style, legend_above, new_figure, step_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
ROUNDING_SHOWN = 0.01
"""share of an update from which on its rounding is drawn; far below, the line would only flatten the rest"""


@dataclass(frozen=True)
class Curves:
    """One group's curves at T ``steps``.

    ``update_angle`` (T − 2) and ``apex_angle_init`` (T − 1) in degrees, ``norm`` and ``distance_from_init`` (T),
    ``update_norm`` (T − 1), ``noise_floor`` (T − 1), the share of every update that rounding explains, and ``below_floor``
    (T − 1), whether it could explain the whole update.
    """

    steps: Sequence[int]
    update_angle: Array
    apex_angle_init: Array
    norm: Array
    distance_from_init: Array
    update_norm: Array
    noise_floor: Array
    below_floor: NDArray[np.bool_]


@in_paper_style
def curves_figure(curves: Curves, *, title: str = "", marks: Sequence[int] = (), axis: str = "step") -> Figure:
    """Draw four panels against the step: angles between updates, sizes of updates, distance travelled, angle of the
    cone.

    Grey dashed lines are a random walk with the same update norms: successive updates at 90°, and a distance of
    sqrt(Σ ‖U_k‖²). Grey bands are the updates that rounding of the stored type could explain.
    """
    steps = np.asarray(curves.steps, dtype=np.float64)
    figure = new_figure(PAGE, 4.2)
    places = figure.subplots(2, 2)
    _angles(places[0, 0], steps, curves)
    _update_norms(places[0, 1], steps, curves)
    _distance(places[1, 0], steps, curves)
    _cone(places[1, 1], steps, curves)
    for axes in places.ravel():
        step_axis(axes, curves.steps, axis)
        _noise_bands(axes, steps, curves.below_floor)
        for mark in marks:
            axes.axvline(mark, color="black", linewidth=0.6, linestyle=":")
        legend_above(axes)
    if title:
        figure.suptitle(title)
    return figure


def _angles(axes: Axes, steps: Array, curves: Curves) -> None:
    axes.plot(steps[1:-1], curves.update_angle, "o-", color=LINES[0], label="measured")
    axes.axhline(90, color=GREY, linestyle="--", label="random walk")
    axes.set_ylabel("angle of updates (°)")


def _update_norms(axes: Axes, steps: Array, curves: Curves) -> None:
    positive = curves.update_norm > 0
    axes.plot(steps[1:][positive], curves.update_norm[positive], "o-", color=LINES[0], label="update")
    rounding = curves.noise_floor * curves.update_norm
    seen = np.isfinite(rounding) & (rounding > 0)
    if seen.any() and np.nanmax(curves.noise_floor) >= ROUNDING_SHOWN:
        axes.plot(steps[1:][seen], rounding[seen], color=GREY, linestyle=":", label="rounding")
    if positive.any():
        axes.set_yscale("log")
    axes.set_ylabel("update norm")


def _distance(axes: Axes, steps: Array, curves: Curves) -> None:
    walk = np.sqrt(np.concatenate([[0.0], np.cumsum(np.square(curves.update_norm))]))[: len(steps)]
    axes.plot(steps, curves.distance_from_init, "o-", color=LINES[0], label="distance from first")
    axes.plot(steps, walk, color=GREY, linestyle="--", label="random walk")
    axes.plot(steps, curves.norm, color=LINES[1], label="norm")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("norm")


def _cone(axes: Axes, steps: Array, curves: Curves) -> None:
    axes.plot(steps[1:], curves.apex_angle_init, "o-", color=LINES[0])
    axes.set_ylabel("cone angle at first point (°)")


def _noise_bands(axes: Axes, steps: Array, below_floor: NDArray[np.bool_]) -> None:
    """Draw a band over every update that rounding could explain."""
    for k in np.flatnonzero(below_floor):
        axes.axvspan(float(steps[k]), float(steps[k + 1]), color="0.9", linewidth=0, zorder=0)
