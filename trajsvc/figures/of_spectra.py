"""The figures of a run's spectra, which every interface draws from the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.errors import UsageError
from trajsvc.figures.style import (
    COLUMN,
    GREY,
    LINES,
    PAGE,
    in_paper_style,
    legend_above,
    legend_below,
    new_figure,
    step_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from storage_schema.models.spectra import SpectrumLayersAnswer, SpectrumMeasuresAnswer, SpectrumValuesAnswer

WHAT: Final = {"weights": "weights", "displacement": "distance from the start, W − W₀", "updates": "updates"}
SHOWN: Final = 64
"""Curves of singular values in one panel: the largest sixteen, and others at even distances."""
RANKS: Final = ("stable_rank", "effective_rank")
PARTS: Final = {"attention.q": "Q", "attention.k": "K", "attention.v": "V"}
MARKERS: Final = "osD^vPX"


def curves_shown(count: int) -> list[int]:
    """Return which of ``count`` singular values are drawn, by their places from 0: at most ``SHOWN``, the first and the last too."""
    if count <= SHOWN:
        return list(range(count))
    rest = np.linspace(16, count - 1, SHOWN - 16).round().astype(int).tolist()
    return sorted({*range(16), *rest})


@in_paper_style
def tensor_figure(values: SpectrumValuesAnswer, measures: SpectrumMeasuresAnswer, axis: str) -> Figure:
    """Draw one matrix over training: its singular values on a logarithmic axis, and its stable and effective rank."""
    figure = new_figure(PAGE, 2.7)
    left, right = figure.subplots(1, 2)
    count = max((len(v) for v in values.values), default=0)
    table = np.full((len(values.steps), count), np.nan)
    for row, found in zip(table, values.values, strict=True):
        row[: len(found)] = found
    _singular_values(left, values.steps, table)
    for name, colour in zip(RANKS, LINES, strict=False):
        curve = np.array(measures.measures.get(name, []), dtype=np.float64)
        if np.isfinite(curve).any():
            right.plot(measures.steps, curve, "o-", color=colour, label=name.replace("_", " "))
    right.set_ylabel("rank")
    for axes in (left, right):
        step_axis(axes, values.steps, axis)
    if right.get_lines():
        right.set_ylim(bottom=0)
        legend_above(right)
    figure.suptitle(_matrix_title(values))
    return figure


def measures_figure(answer: SpectrumMeasuresAnswer, axis: str) -> Figure:
    """Draw the measures of one matrix over training, a panel each."""
    from trajsvc.figures import Curve, overlay_figure

    panels = [
        (name.replace("_", " "), axis, [Curve(answer.of, answer.steps, np.array(values, dtype=np.float64))])
        for name, values in answer.measures.items()
    ]
    return overlay_figure(panels, title=_matrix_title(answer))


def _matrix_title(answer: SpectrumMeasuresAnswer | SpectrumValuesAnswer) -> str:
    return f"{answer.run}: {answer.tensor}, {WHAT[answer.of]}, {answer.rows} × {answer.columns}"


def _singular_values(axes: Axes, steps: Sequence[int], table: NDArray[np.float64]) -> None:
    import matplotlib

    chosen = curves_shown(table.shape[1])
    colours = matplotlib.colormaps["viridis"](np.linspace(0.9, 0, max(1, len(chosen))))
    floor = np.finfo(np.float64).eps * max(table.shape[1], 1) * np.nanmax(table, initial=0.0)
    above = np.where(table > floor, table, np.nan)
    for k, colour in zip(reversed(chosen), colours, strict=False):
        axes.plot(steps, above[:, k], "-", color=colour, linewidth=0.6 if k else 1.3)
    if np.isfinite(above).any():
        axes.set_yscale("log")
    axes.set_ylabel(f"σ₁ … σ$_{{{table.shape[1]}}}$" if table.shape[1] > 1 else "σ₁")


@in_paper_style
def layers_figure(answer: SpectrumLayersAnswer, axis: str, *, heads: bool = False) -> Figure:
    """Draw every measure by depth at the last step, a line for each component; the first step in grey.

    Raises UsageError (``no-curve``) where no matrix lies in a layer, and where ``heads`` are among the matrices.
    """
    if heads:
        raise UsageError("no-curve", "a figure by depth is of whole matrices", hint="Leave out the heads, or take csv.")
    names = list(answer.matrices[0].measures) if answer.matrices else []
    placed = [row for row in answer.matrices if row.depth is not None]
    if not placed or not answer.steps:
        raise UsageError("no-curve", f"no matrix of {answer.run} lies in a layer", hint="-o FILE.csv has all of them.")
    layers = list(dict.fromkeys(row.layer for row in placed))
    components = list(dict.fromkeys(row.component or "weight" for row in placed))
    columns = 3 if len(names) == 3 else min(2, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(PAGE if columns > 1 else COLUMN, 2.1 * rows + 0.2 * -(-len(components) // 4) + 0.4)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in places[len(names) :]:
        unused.set_visible(False)
    for axes, name in zip(places, names, strict=False):
        for k, component in enumerate(components):
            of_it = [row for row in placed if (row.component or "weight") == component]
            at = [layers.index(row.layer) for row in of_it]
            first, last = (np.array([row.measures[name][i] for row in of_it], dtype=np.float64) for i in (0, -1))
            axes.plot(at, first, "-", color=GREY, linewidth=0.5)
            axes.plot(
                at,
                last,
                marker=MARKERS[(k + k // len(LINES)) % len(MARKERS)],
                color=LINES[k % len(LINES)],
                label=component,
            )
        axes.set_ylabel(name.replace("_", " "))
        axes.set_xlabel("layer")
        _layer_ticks(axes, layers)
    handles, labels = places[0].get_legend_handles_labels()
    legend_below(figure, handles, labels, 4)
    grey = f", grey at {answer.steps[0]}" if len(answer.steps) > 1 else ""
    figure.suptitle(f"{answer.run}: {WHAT[answer.of]} at {axis} {answer.steps[-1]}{grey}")
    return figure


def _layer_ticks(axes: Axes, layers: Sequence[str]) -> None:
    every = max(1, -(-len(layers) // 12))
    axes.set_xticks(range(0, len(layers), every), layers[::every])


@in_paper_style
def qkv_figure(answer: SpectrumLayersAnswer, axis: str) -> Figure:
    """Draw a measure of Q, K and V over training, a panel each, a line a layer.

    Raises UsageError (``no-curve``) for a network without them.
    """
    import matplotlib

    rows: Mapping[str, list[tuple[str, list[float | None]]]] = {
        part: [(row.layer, next(iter(row.measures.values()))) for row in answer.matrices if row.component == part]
        for part in PARTS
    }
    if not any(rows.values()):
        raise UsageError(
            "no-curve", f"no layer of {answer.run} has Q, K and V", hint="`trajsvc spectra layers` has all."
        )
    figure = new_figure(PAGE, 2.3)
    panels = figure.subplots(1, 3, sharey=True)
    count = max(len(found) for found in rows.values())
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(1, count)))
    name = next(iter(answer.matrices[0].measures))
    for axes, (part, letter) in zip(panels, PARTS.items(), strict=True):
        for colour, (layer, curve) in zip(colours, rows[part], strict=False):
            axes.plot(answer.steps, np.array(curve, dtype=np.float64), "-", color=colour, label=layer)
        step_axis(axes, answer.steps, axis)
        axes.set_title(letter)
    panels[0].set_ylabel("σ₁" if name == "sigma_1" else name.replace("_", " "))
    if count <= 8:
        panels[-1].legend(title="layer", frameon=False, fontsize=6, title_fontsize=6)
    more = "" if count <= 8 else f"; layer {rows['attention.q'][0][0]} dark to {rows['attention.q'][-1][0]} light"
    figure.suptitle(f"{answer.run}: {WHAT[answer.of]}{more}")
    return figure
