"""The style that all figures share: sizes of a paper's columns, fonts that embed, and how a figure is made and saved.

pyplot is not used: a figure here belongs to its caller and to no global list, so a server can make them in any thread.
matplotlib is imported when the first figure is made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import numpy as np

from storage_schema.files.outputs import whole_file
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

COLUMN: Final = 3.3
"""width of a figure in one column of a paper, in inches"""
PAGE: Final = 6.8
"""width of a figure across both columns, in inches"""
SUFFIXES: Final = (".png", ".svg", ".pdf")
LINES: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision."""
GREY: Final = "#7f7f7f"
LETTER: Final = 0.058
"""width of a letter of a legend, in inches, on average"""
MARKED: Final = 7
"""letters' width of a legend's line with its marker and what separates columns"""

_RC: Final[Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # TrueType: text stays text, and publishers accept it
    "svg.fonttype": "none",
    "svg.hashsalt": "trajsvc",  # the same figure gives the same bytes
}
_SETTINGS_LOCK: Final = threading.RLock()


@contextmanager
def paper() -> Iterator[None]:
    """Apply matplotlib's settings for papers within a ``with``; one thread at a time, as the settings are global."""
    import matplotlib

    with _SETTINGS_LOCK, matplotlib.rc_context(_RC):
        yield


def in_paper_style(make: Callable[P, R]) -> Callable[P, R]:
    """Wrap ``make`` so that it runs under ``paper()``."""

    @wraps(make)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with paper():
            return make(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of this size in inches, drawn by Agg, with the constrained layout."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def pack(figure: Figure) -> None:
    """Bring the panels of a dense grid close together."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)  # type: ignore[call-arg]


def legend_above(axes: Axes, columns: int = 3) -> None:
    """Put the legend above the axes instead of on the data; do nothing if no line has a name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            frameon=False,
            handlelength=1.4,
            columnspacing=1.0,
            ncols=columns,
            loc="lower left",
            bbox_to_anchor=(0, 0.98),
            borderaxespad=0,
        )


def fitting(name: str, longest: int) -> str:
    """Return ``name`` in at most ``longest`` characters, with … for its middle: runs differ at their beginnings and ends."""
    if len(name) <= longest:
        return name
    head = (longest - 1) // 2
    return f"{name[:head]}…{name[len(name) - (longest - 1 - head) :]}"


def legend_below(figure: Figure, handles: Sequence[Any], names: Sequence[str], columns: int = 3) -> None:
    """Put a legend below all panels, in as many ``columns`` as names of this length leave room for; none without names."""
    if not names:
        return
    room = int(figure.get_figwidth() / LETTER)
    shown = [fitting(name, room - MARKED) for name in names]
    fit = room // (max(map(len, shown)) + MARKED)
    figure.legend(
        handles,
        shown,
        loc="outside lower center",
        ncols=max(1, min(columns, fit, len(shown))),
        frameon=False,
        handlelength=1.8,
    )


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 300) -> Path:
    """Write ``figure`` as PNG, SVG or PDF by the suffix of ``path``; the old file stays until the new one is whole.

    The bytes depend on the figure alone: no date is written. Raises UsageError (``bad-suffix``) for another suffix,
    and TrajsvcError (``cannot-write``, ``disk-full``).
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            "bad-suffix", f"no figure format for {target.name!r}", hint=f"use one of {', '.join(SUFFIXES)}"
        )
    with whole_file(target) as out:
        write(figure, out, suffix[1:], dpi=dpi)
    return target


def write(figure: Figure, out: object, kind: str, *, dpi: int = 300) -> None:
    """Write ``figure`` to the binary file object ``out`` as ``kind``: ``png``, ``svg`` or ``pdf``."""
    dates = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with paper():
        figure.savefig(out, format=kind, dpi=dpi, metadata=dates[kind])  # type: ignore[arg-type]


def step_label(step: int, digits: int = 4) -> str:
    """Format a step number short enough for a tick: 512, 1.5k, 143k, 2M."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if abs(step) >= unit:
            return f"{step / unit:.{digits}g}{letter}"
    return str(step)


def step_labels(steps: Sequence[int]) -> list[str]:
    """Format the step numbers of one axis with as few digits as tell them apart, four at least."""
    labels = [step_label(step) for step in steps]
    for digits in range(5, 20):
        if len(set(labels)) == len(set(steps)):
            break
        labels = [step_label(step, digits) for step in steps]
    return labels


def tick_places(count: int, most: int) -> list[int]:
    """Return at most ``most`` indices of ``count``, evenly spread, including the first and the last."""
    if count == 0:
        return []
    return sorted({int(i) for i in np.linspace(0, count - 1, max(1, min(most, count))).round()})


def step_axis(axes: Axes, steps: Sequence[int], axis: str = "step") -> None:
    """Set up the x axis of a curve, called ``axis``: linear, or logarithmic from the first positive step when gaps grow
    (0, 1, 2, 4, …).
    """
    values = np.asarray(steps, dtype=np.float64)
    gaps = np.diff(values)
    if len(gaps) > 2 and gaps.min() > 0 and gaps.max() / gaps.min() > 20:
        positive = values[values > 0]
        axes.set_xscale("symlog", linthresh=float(positive.min()), linscale=0.5)
        axes.set_xlim(values[0], values[-1])
    axes.set_xlabel(axis)
