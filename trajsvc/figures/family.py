"""Families of runs: measures against size, maps side by side, attention by relative depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.figures.maps import Panel, draw_map, scale_of
from trajsvc.figures.style import GREY, LINES, PAGE, in_paper_style, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Array = NDArray[np.float64]
Value = bool | int | float | str | None

WIDE = 10.0
"""numbers that span so many times are drawn on a logarithmic axis"""
LETTER = 0.021
"""width of a tick's letter as a share of the panel's"""
NAMED = 40
"""members that have their names beside their points"""
LISTED = 18
"""lines in a legend"""
ACROSS = 6
"""maps in one row before the next begins"""
PAIRS = ("Q to K", "Q to V", "K to V", "mean of the three")
MARKERS = "osD^vP"
_PLACES = (
    (4, 0), (-4, 0), (0, 4), (0, -4), (3, 5), (3, -5), (-3, 5), (-3, -5),
    (10, 9), (10, -9), (-10, 9), (-10, -9), (10, 16), (10, -16), (-10, 16), (-10, -16), (18, 0), (-18, 0),
)  # fmt: skip
"""where a point's name may stand, in points from it: near ones first"""
NEAR = 7.0
HAIR: Any = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0}


@in_paper_style
def family_measures_figure(
    names: Sequence[str],
    at: Sequence[Value],
    measures: Mapping[str, Sequence[float | None]],
    label: str,
    *,
    title: str = "",
    joined: Sequence[str | None] | None = None,
) -> Figure:
    """Draw one panel a measure against size, seed or a hyperparameter (``at``, one value a member), a point a member
    with its name.

    Numbers that span ten times or more have a logarithmic axis, which begins at zero where that is one of them; words stand
    side by side in the order in which they come. A member whose place or value is undefined is left out. ``joined`` says for
    every member which line it is on (None: on none): members of one line are equal in all but their place and their seed, and
    the line joins the means of their places, with a bar over the range of several. Of several lines, each has its own colour
    and, up to 18, an entry in a legend. More than 40 members have no names.
    """
    columns = min(2, len(measures))
    rows = math.ceil(len(measures) / columns)
    known = [k for k, value in enumerate(at) if value is not None]
    across = _places_of([at[k] for k in known])
    labels = short_names(names) if len(known) <= NAMED else [""] * len(names)
    on = list(joined) if joined is not None else [None] * len(names)
    lines = list(dict.fromkeys(name for name in on if name is not None))
    legend = 0.16 * math.ceil(min(len(lines), LISTED) / 3) if len(lines) > 1 else 0.0
    figure = new_figure(PAGE, rows * 2.1 + legend + (0.25 if title else 0))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for place in places[len(measures) :]:
        place.set_visible(False)
    for axes, (measure, values) in zip(places, measures.items(), strict=False):
        found = [(x, values[k], labels[k]) for k, x in zip(known, across, strict=True) if values[k] is not None]
        mine = [on[k] for k in known if values[k] is not None]
        x = np.array([f[0] for f in found], dtype=np.float64)
        y = np.array([f[1] for f in found], dtype=np.float64)
        for name in lines if _numeric([at[k] for k in known]) else []:
            chosen = np.array([m == name for m in mine], dtype=np.bool_)
            middle = np.unique(x[chosen])
            if len(middle) > 1:
                colour = "0.75" if len(lines) == 1 else LINES[lines.index(name) % len(LINES)]
                means = [y[chosen & (x == m)].mean() for m in middle]
                axes.plot(middle, means, "-", color=colour, zorder=1, label=name)
                _ranges(axes, x[chosen], y[chosen], colour)
        for k, part in enumerate(lines if len(lines) > 1 else [""]):
            chosen = np.array([len(lines) < 2 or m == part for m in mine], dtype=np.bool_)
            colour = LINES[k % len(LINES)]
            axes.plot(x[chosen], y[chosen], "o", color=colour, markersize=4, zorder=2)
        _value_axis(axes, [at[k] for k in known], across, max(map(len, labels), default=0))
        axes.set_xlabel(label)
        axes.set_ylabel(measure)
        axes.margins(y=0.2)
        if not found:
            axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", va="center", color=GREY)
            axes.set_yticks([])
    if title:
        figure.suptitle(title)
    handles = {line.get_label(): line for place in places for line in place.get_lines()}
    if len(lines) > 1 and handles:
        shown = [name for name in lines if name in handles][:LISTED]
        legend_below(figure, [handles[n] for n in shown], shown)
    figure.draw_without_rendering()  # the panels' final places, so that labels can keep clear of each other
    for axes, values in zip(places, measures.values(), strict=False):
        found = [(x, values[k], labels[k]) for k, x in zip(known, across, strict=True) if values[k] is not None]
        label_points(axes, [(x, float(y), text) for x, y, text in found if y is not None and text])
    return figure


def _ranges(axes: Axes, x: Array, y: Array, colour: str) -> None:
    """Draw the range at every place of a line that several members are at: they differ in their seed alone."""
    for place in np.unique(x):
        there = y[x == place]
        if len(there) > 1:
            axes.vlines(place, there.min(), there.max(), color=colour, linewidth=3, alpha=0.35, zorder=1)


def short_names(names: Sequence[str]) -> list[str]:
    """Return the names without their common beginning, up to a separator: ``pythia-70m``, ``pythia-1b`` give ``70m``,
    ``1b``.
    """
    if len(names) < 2:
        return list(names)
    common = "".join(next(iter(c)) for c in takewhile(lambda c: len(c) == 1, map(set, zip(*names, strict=False))))
    cut = max(common.rfind(c) for c in "-_.") + 1
    return [name[cut:] for name in names] if cut and all(len(name) > cut for name in names) else list(names)


def size_label(size: float) -> str:
    """Format a number short enough for a tick: 70M, 1.4B, 3e-5."""
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(size) >= unit:
            return f"{size / unit:.3g}{letter}"
    mantissa, exponent, power = f"{size:.3g}".partition("e")
    return f"{mantissa}e{int(power)}" if exponent else mantissa


def _numeric(values: Sequence[Value]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _places_of(values: Sequence[Value]) -> list[float]:
    """Return the positions of values on the axis: numbers at themselves, words and truth values side by side."""
    if _numeric(values):
        return [float(v) for v in values if v is not None]
    kinds = list(dict.fromkeys(str(v) for v in values))
    return [float(kinds.index(str(v))) for v in values]


def _value_axis(axes: Axes, values: Sequence[Value], at: Sequence[float], letters: int) -> None:
    """Set ticks at the values themselves, as many as do not overlap, and leave room at the ends for names of so many
    ``letters``.
    """
    from matplotlib.ticker import NullLocator

    if not at:
        axes.set_xticks([])
        return
    if not _numeric(values):
        kinds = list(dict.fromkeys(str(v) for v in values))
        axes.set_xticks(range(len(kinds)), kinds)
        axes.set_xlim(-0.6, len(kinds) - 0.4)
        return
    places = np.unique(np.asarray(at, dtype=np.float64))
    wide, forward, back = value_scale(places)
    if wide and places[0] > 0:
        axes.set_xscale("log")
    elif wide:
        axes.set_xscale("function", functions=(forward, back))
    scaled = forward(places)
    span = float(scaled[-1] - scaled[0])
    columns = [(scaled[k] - scaled[0]) / (span or 1) for k, place in enumerate(places) if list(at).count(place) > 1]
    wanted = min(0.3, 0.085 + 0.017 * letters)  # names in a column stand outwards
    left = wanted if any(c <= 0.5 for c in columns) else 0.1
    right = wanted if any(c > 0.5 for c in columns) else 0.1
    width = span / (1 - left - right) if span else 2 * (abs(float(places[0])) or 1.0)
    low, high = scaled[0] - (left * width if span else width / 2), scaled[-1] + (right * width if span else width / 2)
    axes.set_xlim(*back(np.array([low, high])).tolist())
    names = [size_label(float(place)) for place in places]
    kept = [0]
    for k in (len(places) - 1, *range(1, len(places) - 1)):
        clear = [abs(scaled[k] - scaled[j]) - LETTER * width * (len(names[k]) + len(names[j]) + 2) / 2 for j in kept]
        if min(clear) > 0:
            kept.append(k)
    axes.set_xticks(places[sorted(kept)], [names[k] for k in sorted(kept)])
    axes.xaxis.set_minor_locator(NullLocator())


def value_scale(places: Array) -> tuple[bool, Any, Any]:
    """Return whether the axis of these increasing numbers is logarithmic, its scale, and the inverse: the logarithm where they span ten
    times or more; where zero is among them, one that is linear up to about the smallest other.
    """
    unit = float(places[places > 0][0]) if places[-1] > 0 else 1.0
    if places[0] < 0 or places[-1] < WIDE * unit * (1 - 1e-12):
        return False, _as_it_is, _as_it_is
    if places[0] > 0:
        return True, np.log, np.exp
    return (
        True,
        lambda v: np.sign(v) * np.log1p(np.abs(v) / unit),
        lambda v: np.sign(v) * unit * np.expm1(np.minimum(np.abs(v), 700.0)),
    )


def _as_it_is(values: Any) -> Any:
    return values


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write a name beside every point (x, y, name).

    Points over one place have their names in a column, in their own order, with a hair line where one is moved away;
    other names are placed where they meet no other name, no point and no line, as far as there is room.
    """
    if not points:
        return
    scale = axes.figure.dpi / 72
    renderer: Any = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    spots = [axes.transData.transform((x, y)).tolist() for x, y, _ in points]
    dots = [_around(spot, 2.5 * scale) for spot in spots]
    lines, inside = _along_lines(axes, scale), axes.get_window_extent(renderer)
    names: list[Bbox] = []
    notes = [_note(axes, point, small=len(points) > 16) for point in points]

    def cost(k: int, dx: float, dy: float) -> float:
        """Return the cost of a place for the name of point ``k``: the areas that it shares with other things and with
        the outside.
        """
        _place(notes[k], dx, dy)
        box = notes[k].get_window_extent(renderer)
        met = sum(_shared(box, other) for other in (*names, *dots[:k], *dots[k + 1 :]))
        out = float(box.width * box.height) - _shared(box, inside)
        return 3 * met + 0.3 * sum(_shared(box, other) for other in lines) + 3 * out

    columns: dict[int, list[int]] = {}
    for k, spot in enumerate(spots):
        columns.setdefault(round(spot[0] / scale), []).append(k)
    middle = (inside.x0 + inside.x1) / 2
    for column in sorted(columns.values(), key=len, reverse=True):
        chosen: dict[int, tuple[float, float]] = {}
        if len(column) > 1:
            high = max(notes[k].get_window_extent(renderer).height for k in column)
            rising = sorted(column, key=lambda k: spots[k][1])
            at = spread([spots[k][1] for k in rising], 0.95 * high, inside.y0, inside.y1)
            off = [(y - spots[k][1]) / scale for k, y in zip(rising, at, strict=True)]
            far = 12.0 if max(map(abs, off)) > 1 else 4.0
            sides = (-far, far) if spots[column[0]][0] < middle else (far, -far)
            for k, dy in zip(rising, off, strict=True):
                places = [(cost(k, dx, dy) + i, (dx, dy)) for i, dx in enumerate(sides)]
                chosen[k] = min(places)[1]
        else:
            tries = [(cost(column[0], *place) + 0.5 * scale**2 * i, place) for i, place in enumerate(_PLACES)]
            chosen[column[0]] = min(tries)[1]  # the near places first
        for k, (dx, dy) in chosen.items():
            _place(notes[k], dx, dy)
            names.append(notes[k].get_window_extent(renderer))
            if math.hypot(dx, dy) > NEAR:
                axes.annotate("", points[k][:2], (dx, dy), textcoords="offset points", arrowprops=HAIR, zorder=1.5)


def _note(axes: Axes, point: tuple[float, float, str], *, small: bool) -> Any:
    """Add a point's name at the point: over the lines, which it covers, and under the points."""
    x, y, text = point
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
    size = 5 if small else 6
    return axes.annotate(
        text, (x, y), (0, 0), textcoords="offset points", fontsize=size, color="0.2", zorder=1.6, bbox=ground
    )


def spread(at: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move the rising places ``at`` as little as possible (least squares) to be ``gap`` apart, within ``low`` and
    ``high`` if they fit.
    """
    pools: list[tuple[float, int]] = []  # the mean and the number of those that stand together
    for k, y in enumerate(at):
        mean, count = y - k * gap, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, count = (mean * count + before * many) / (count + many), count + many
        pools.append((mean, count))
    moved = [mean for mean, count in pools for _ in range(count)]
    found = [mean + k * gap for k, mean in enumerate(moved)]
    found = [min(y, high - (len(found) - k - 0.5) * gap) for k, y in enumerate(found)]
    return [max(y, low + (k + 0.5) * gap) for k, y in enumerate(found)]


def _along_lines(axes: Axes, scale: float) -> list[Bbox]:
    """Return small boxes along the lines that join points, so that names can avoid them."""
    boxes = []
    for line in axes.get_lines():
        if line.get_linestyle() == "None":
            continue
        ends = axes.transData.transform(line.get_xydata())
        for start, stop in pairwise(ends):
            count = max(1, int(np.hypot(*(stop - start)) / (2 * scale)))
            boxes += [_around(start + (stop - start) * (i + 0.5) / count, scale) for i in range(count)]
    return boxes


def _place(note: Any, dx: float, dy: float) -> None:
    """Move a name by an offset in points from its point."""
    note.set_position((dx, dy))
    note.set_ha("left" if dx > 0 else "right" if dx < 0 else "center")
    note.set_va("center_baseline" if dx else "bottom" if dy > 0 else "top")


def _around(spot: Sequence[float], radius: float) -> Bbox:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(spot[0] - radius, spot[1] - radius, 2 * radius, 2 * radius)


def _shared(a: Bbox, b: Bbox) -> float:
    """Return the area that two boxes share."""
    across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(across * down) if across > 0 and down > 0 else 0.0


@in_paper_style
def family_maps_figure(
    panels: Sequence[Panel], *, title: str = "", limits: tuple[float, float] | None = None, axis: str = "step"
) -> Figure:
    """Draw the maps of all members side by side in the order given, on one colour scale; up to six in a row."""
    rows = math.ceil(len(panels) / ACROSS)
    columns = math.ceil(len(panels) / rows)
    side = min(1.9, (PAGE - 1.0) / columns)
    width = columns * side + 1.0
    figure = new_figure(max(width, 3.3), rows * (side + 0.3) + 0.25 + (0.25 if title else 0))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    scale = scale_of([p.values for p in panels], limits)
    for place in places[len(panels) :]:
        place.set_visible(False)
    for k, (axes, panel) in enumerate(zip(places, panels, strict=False)):
        image = draw_map(axes, panel, scale, ticks=max(2, min(5, int(side / 0.42))))
        if k % columns and list(panel.steps) == list(panels[k - k % columns].steps):
            axes.tick_params(labelleft=False, left=False)
    figure.supxlabel(axis, fontsize=8)
    figure.supylabel(axis, fontsize=8)
    figure.colorbar(image, ax=list(places), label="cosine", aspect=22, pad=0.02, shrink=0.9)
    if title:
        figure.suptitle(title)
    return figure


@in_paper_style
def family_qkv_figure(
    names: Sequence[str],
    depths: Sequence[Sequence[float]],
    distances: Sequence[Array],
    rms: Sequence[Array],
    *,
    title: str = "",
) -> Figure:
    """Draw both distances between the maps of Q, K and V against relative depth: a panel a pair and their mean, a line a
    member; above the distances in shape, below the root mean square differences.

    ``depths`` (L,), ``distances`` and ``rms`` (L, 3), in the order Q–K, Q–V, K–V, one each a member; L may differ. Colours
    go from the first member's, dark, to the last one's, light, as sizes do.
    """
    import matplotlib

    colours = [matplotlib.colormaps["viridis"](0.9 * k / max(1, len(names) - 1)) for k in range(len(names))]
    labels = short_names(names)
    columns = min(len(names), 6)
    legend = 0.18 * math.ceil(len(names) / columns) + 0.05
    figure = new_figure(PAGE, 3.6 + legend + (0.25 if title else 0))
    places = figure.subplots(2, len(PAIRS), sharex=True, sharey="row")
    for row, label, measured in zip(places, ("distance in shape", "rms (cosine)"), (distances, rms), strict=True):
        for panel, axes in enumerate(row):
            for k, (depth, values) in enumerate(zip(depths, measured, strict=True)):
                shown = values[:, panel] if panel < 3 else values.mean(axis=1)
                axes.plot(depth, shown, marker=MARKERS[k % len(MARKERS)], color=colours[k], label=labels[k])
        row[0].set_ylabel(label)
        row[0].set_ylim(bottom=0)  # of the row: its panels share their axis
    for axes, pair in zip(places[0], PAIRS, strict=True):
        axes.set_title(pair, pad=3)
    for axes in places[-1]:
        axes.set_xlabel("relative depth")
    places[0, 0].set_xlim(-0.03, 1.03)  # of all panels
    if title:
        figure.suptitle(title)
    handles = places[0, 0].get_lines()
    legend_below(figure, handles, labels, columns)
    return figure
