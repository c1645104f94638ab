"""The figure of what sets of gradients and their measures cost against the size of the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trajsvc.experiments.cost import Cost
from trajsvc.figures.style import GREY, LINES, PAGE, in_paper_style, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS: Final = ("o", "s", "^", "v", "D", "P", "X", "<", ">")
_LEAST: Final = 2**18
"""bytes below which memory is not told from that of the process"""


@in_paper_style
def cost_figure(found: Sequence[Cost], path: Path) -> Path:
    """Draw seconds and peak memory of every set, and seconds of the measures from its Gram, against parameters; log-log."""
    figure = new_figure(PAGE, 2.7)
    time, memory, measures = figure.subplots(1, 3)
    _sets(time, found, lambda cost: cost.seconds)
    _sets(memory, found, lambda cost: cost.bytes / 2**20 if cost.bytes >= _LEAST else float("nan"))
    _measures(measures, found)
    for axes, label in (
        (time, "time of a set, s"), (memory, "peak memory, MiB"), (measures, "time of a measure, s"),
    ):  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel=label)
    figure.legend(*time.get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return save(figure, path)


def _sets(axes: Axes, found: Sequence[Cost], value: Callable[[Cost], float]) -> None:
    for k, kind in enumerate(dict.fromkeys(cost.kind for cost in found)):
        row = [cost for cost in found if cost.kind == kind and not cost.refused]
        axes.plot(
            [c.parameters for c in row], [value(c) for c in row], color=LINES[k % len(LINES)], marker=MARKERS[k],
            ls="-" if k < len(LINES) else "--", label=kind.replace("_", " "),
        )  # fmt: skip


def _measures(axes: Axes, found: Sequence[Cost]) -> None:
    """Draw a thin line for every measure of every set, and the three that take longest in colour."""
    axes.set(xscale="log", yscale="log")
    rows: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for cost in found:
        for name, seconds in (cost.measures or {}).items():
            rows.setdefault((cost.kind, name), []).append((cost.parameters, seconds))
    for points in rows.values():
        axes.plot(*zip(*points, strict=True), color=GREY, alpha=0.35, lw=0.6)
    slowest = sorted(rows, key=lambda key: -max(seconds for _, seconds in rows[key]))
    named: list[str] = []
    for kind, name in slowest:
        if name in named or len(named) == 3:
            continue
        axes.plot(*zip(*rows[kind, name], strict=True), color=LINES[len(named)], lw=1.4, label=name.replace("_", " "))
        named.append(name)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 20.0)
    axes.legend(frameon=False, loc="upper left", fontsize=6)
