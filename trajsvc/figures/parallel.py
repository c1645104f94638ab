"""Parallel coordinates: a vertical axis for every hyperparameter and measure, a line a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.family import Value, size_label, value_scale
from trajsvc.figures.style import GREY, PAGE, in_paper_style, legend_above, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS = 5
LONGEST = 14
"""letters of a word at an axis"""
NAMED = 9
"""runs that a legend names"""


@dataclass(frozen=True)
class Coordinate:
    """One axis: where each run crosses it, from 0 to 1 (NaN: it does not), and its ticks."""

    name: str
    places: NDArray[np.float64]
    ticks: Sequence[tuple[float, str]]


def coordinate(name: str, values: Sequence[Value]) -> Coordinate:
    """Place values on an axis: numbers on their scale, logarithmic where they span ten times or more; words, truth values and a
    mixture side by side in the order of the alphabet. What is None has no place.
    """
    known = [v for v in values if v is not None]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        return _numbers(name, np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64))
    words = sorted({_word(v) for v in known})
    at = {word: k / max(1, len(words) - 1) if len(words) > 1 else 0.5 for k, word in enumerate(words)}
    places = np.array([np.nan if v is None else at[_word(v)] for v in values], dtype=np.float64)
    return Coordinate(name, places, [(y, _short(word)) for word, y in at.items()])


def _numbers(name: str, values: NDArray[np.float64]) -> Coordinate:
    finite = np.unique(values[np.isfinite(values)])
    if not finite.size:
        return Coordinate(name, np.full(len(values), np.nan), [])
    _, forward, back = value_scale(finite)
    scaled = forward(finite)
    low, span = scaled[0], scaled[-1] - scaled[0]

    def place(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return (forward(v) - low) / span if span else np.where(np.isfinite(v), 0.5, np.nan)

    shown = finite if len(finite) <= TICKS else back(np.linspace(scaled[0], scaled[-1], TICKS))
    places = place(shown).tolist()
    return Coordinate(name, place(values), [(y, size_label(v)) for v, y in zip(shown.tolist(), places, strict=True)])


def _word(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(word: str) -> str:
    return word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…"


@in_paper_style
def parallel_figure(fields: Mapping[str, Sequence[Value]], runs: Sequence[str]) -> Figure:
    """Draw a line for every one of ``runs`` through its values of ``fields``, coloured by the last; a value that a run does not have
    breaks its line. A legend names few runs.
    """
    import matplotlib

    axes_of = [coordinate(name, values) for name, values in fields.items()]
    at = np.arange(len(axes_of), dtype=np.float64)
    last = axes_of[-1].places
    figure = new_figure(max(PAGE, 0.95 * len(axes_of)), 3.0)
    axes = figure.subplots()
    through = np.stack([one.places for one in axes_of])
    for k in np.argsort(np.nan_to_num(last, nan=-1.0), kind="stable"):
        colour = GREY if np.isnan(last[k]) else matplotlib.colormaps["viridis"](0.92 * float(last[k]))
        name = runs[k] if len(runs) <= NAMED else None
        axes.plot(
            at, through[:, k], label=name, color=colour, linewidth=0.9, alpha=0.75, marker="o", markersize=2, zorder=1
        )
    for x, one in zip(at, axes_of, strict=True):
        axes.axvline(float(x), color="black", linewidth=0.7, zorder=2)
        for y, text in one.ticks:
            axes.plot([x - 0.015, x + 0.015], [y, y], color="black", linewidth=0.6, zorder=2)
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.75}
            axes.text(x + 0.03, y, text, fontsize=6, va="center", ha="left", zorder=3, bbox=ground)
    axes.set_xticks(at, [one.name for one in axes_of])
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlim(-0.1, float(at[-1]) + 0.45)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    legend_above(axes)
    return figure
