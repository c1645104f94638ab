"""A run in a notebook: its summary as HTML, and plots on matplotlib axes.

::

    run                                            # the summary, with a small map
    run.plot.map("layer/3", origin=0)
    figure, (left, right) = plt.subplots(1, 2)
    run.plot.curves(["update_norm"], left)
    other.plot.curves(["update_norm"], left)       # a second line on the same axes

A plot returns the axes it drew on. It leaves matplotlib's settings as they are; the figures of ``trajsvc.figures`` have a paper's.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.errors import UsageError, printable
from trajsvc.figures.style import LINES, step_axis, tick_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trajsvc.results.measure_methods import Steps
    from trajsvc.results.run import Run

SIDE: Final = 180
"""pixels of the small map; of more checkpoints as many are shown, evenly spread"""
FINDINGS: Final = 5
TEXT: Final = 200
"""characters of one text of the summary"""
BY_DEPTH: Final = {
    "rms": ("rms difference (cosine)", ("rms_qk", "rms_qv", "rms_kv"), ("Q to K", "Q to V", "K to V")),
    "shape": (
        "distance in shape",
        ("distance_qk", "distance_qv", "distance_kv"),
        ("Q to K", "Q to V", "K to V"),
    ),
    "mds": ("MDS", ("mds_q", "mds_k", "mds_v"), ("Q", "K", "V")),
    "settling": ("settling", ("settling_step_q", "settling_step_k", "settling_step_v"), ("Q", "K", "V")),
}
"""what ``RunPlots.qkv`` draws: label, columns of the table, names of the lines"""


class RunPlots:
    """Plots of one run, each on axes that are given or new, which it returns."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def map(
        self, group: str = "network", ax: Axes | None = None, *, origin: int | None = None, steps: Steps = None
    ) -> Axes:
        """Draw the trajectory map of ``group``, relative to ``origin`` if a step is given; undefined cells are hatched.

        Raises NotFound (``group-not-found``, ``step-not-found``).
        """
        from trajsvc.figures.maps import Panel, draw_map, scale_of
        from trajsvc.results import answers

        found = answers.trajectory_map(self.run, group, origin, steps)
        values = np.array(found.map, dtype=np.float64).reshape(len(found.steps), len(found.steps))
        relative = "" if origin is None else f", relative to {self.run.axis} {origin}"
        axes = ax or _new_axes()
        panel = Panel(values, found.steps, f"{self.run.name}: {group}{relative}")
        image = draw_map(axes, panel, scale_of([values]), ticks=6)
        axes.set_xlabel(self.run.axis)
        axes.set_ylabel(self.run.axis)
        axes.figure.colorbar(image, ax=axes, label="cosine")
        return axes

    def curves(
        self,
        names: str | Sequence[str] = "update_angle",
        ax: Axes | None = None,
        *,
        group: str = "network",
        steps: Steps = None,
    ) -> Axes:
        """Draw measures of ``group`` over training, a line each, in one unit.

        Raises NotFound (``measure-not-found``, ``group-not-found``) and UsageError (``no-curve``) for a measure that is no curve,
        or for several with different units or axes.
        """
        from trajsvc.measures.registry import measure_named
        from trajsvc.results.labels import axis

        chosen = [measure_named(name) for name in _listed(names)]
        kinds = {(m.units, _along(m.dims)) for m in chosen}
        if len(kinds) != 1 or any(len(m.dims) != 1 for m in chosen):
            hint = "Name curves that have one unit and one axis, such as norm and distance_from_init; each call draws on the axes given."
            raise UsageError("no-curve", f"no one plot of {', '.join(m.name for m in chosen)}", hint=hint)
        gram = self.run.gram(group, steps)
        axes = ax or _new_axes()
        for measure in chosen:
            values = np.asarray(measure.compute(gram), dtype=np.float64)
            at = axis(measure.dims[0], len(values), gram.steps)
            line = measure.name.replace("_", " ")
            axes.plot(
                at, values, marker=".", label=f"{self.run.name}: {line}" if group == "network" else f"{group}: {line}"
            )
        ((unit, along),) = kinds
        if along == "step":
            step_axis(axes, gram.steps.tolist(), self.run.axis)
        else:
            axes.set_xlabel(along)
        units = {"degree": " (°)", "1": "", "parameter": ""}.get(unit, f" ({unit})")
        axes.set_ylabel(", ".join(measure.name.replace("_", " ") for measure in chosen) + units)
        axes.legend(frameon=False)
        return axes

    def layers(
        self, names: str | Sequence[str] = ("mds", "relative_mds"), ax: Axes | None = None, *, steps: Steps = None
    ) -> Axes:
        """Draw columns of the table of layers against depth, a line each; what lies around the layers is left out.

        Raises NotFound (``no-layers``) and UsageError (``bad-option``) for a column that ``run.layers()`` does not have.
        """
        from trajsvc.errors import NotFound
        from trajsvc.results import tables

        rows = tables.layers(self.run, steps)
        if not rows:
            hint = f"`trajsvc groups {self.run.name}` lists what can be measured."
            raise NotFound("no-layers", f"{self.run.name} has no layers", hint=hint)
        known = [name for name, value in rows[0].model_dump().items() if not isinstance(value, str)]
        _check(_listed(names), known)
        rows = [row for row in rows if row.depth is not None] or rows
        axes = ax or _new_axes()
        for name in _listed(names):
            axes.plot([_number(getattr(row, name)) for row in rows], marker="o", label=name.replace("_", " "))
        _depth_axis(axes, [row.layer for row in rows])
        axes.set_title(self.run.name)
        axes.legend(frameon=False)
        return axes

    def qkv(self, what: str = "rms", ax: Axes | None = None, *, origin: int | None = None, steps: Steps = None) -> Axes:
        """Draw how differently Q, K and V move, by depth: ``rms`` or ``shape`` for the distances of their maps, ``mds``, or the steps
        at which they settle (``settling``).

        Raises NotFound (``no-attention``) and UsageError (``bad-option``).
        """
        from trajsvc.results import tables

        _check([what], list(BY_DEPTH))
        label, columns, lines = BY_DEPTH[what]
        rows = tables.qkv(self.run, steps, origin).layers
        axes = ax or _new_axes()
        for k, (column, line) in enumerate(zip(columns, lines, strict=True)):
            values = [_number(getattr(row, column)) for row in rows]
            axes.plot(values, marker="osD"[k], color=LINES[k], label=line)
        _depth_axis(axes, [row.layer for row in rows])
        axes.set_ylabel(f"{label} {self.run.axis}" if what == "settling" else label)
        axes.set_title(self.run.name)
        axes.legend(frameon=False)
        return axes


def run_html(run: Run) -> str:
    """Return the summary of a run as HTML: at most some 60 kB, whatever the run holds; every text in it is escaped.

    Needs the network's Gram alone, one request to a server.
    """
    from trajsvc.measures import maps, norms
    from trajsvc.measures.correlations import mu

    gram = run.gram()
    steps = gram.steps
    rows = [
        ("source", run.source),
        (
            "checkpoints",
            f"{len(steps)}, {run.axis} {steps[0]} … {steps[-1]}" if len(steps) else "none that measures use",
        ),
        ("parameters", f"{run.parameters:,}" + (f", {run.architecture}" if run.architecture else "")),
    ]
    if len(steps) > 1:
        scalars = ("MDS", maps.mds), ("relative MDS", maps.relative_mds), ("tortuosity", norms.tortuosity), ("μ", mu)
        rows.append(("network", " · ".join(f"{name} {float(measure(gram)):.4g}" for name, measure in scalars)))
        changes = [str(phase.start_step) for phase in run.phases()[1:]]
        rows.append(("phases begin at", ", ".join(changes) if changes else "no change found"))
    if run.estimate is not None:
        rows.append(("estimate", f"from {float(run.estimate.get('fraction', 0.0)):.1%} of the values"))
    if run.tags:
        rows.append(("tags", ", ".join(run.tags)))
    findings = [f"{finding.severity}: {finding.message}" for finding in run.findings]
    rows += [("integrity" if k == 0 else "", text) for k, text in enumerate(findings[:FINDINGS])]
    if len(findings) > FINDINGS:
        rows.append(("", f"and {len(findings) - FINDINGS} more in run.findings"))
    left = "text-align:left;vertical-align:top;padding:1px 8px 1px 0"
    table = "".join(
        f'<tr><th style="{left}">{escape(name)}</th><td style="{left};white-space:normal">{_text(text)}</td></tr>'
        for name, text in rows
    )
    picture = _small_map(maps.trajectory_map(gram)) if len(steps) > 1 else ""
    return (
        f'<div style="display:flex;gap:16px;flex-wrap:wrap;align-items:flex-start">{picture}'
        f"<div><strong>{_text(run.name)}</strong><table>{table}</table></div></div>"
    )


def _small_map(values: NDArray[np.float64]) -> str:
    """Return a map as an image, a pixel a cell; undefined cells are transparent."""
    from matplotlib.image import imsave

    from trajsvc.figures.maps import scale_of

    kept = tick_places(len(values), SIDE)
    shown = values[np.ix_(kept, kept)]
    scale = scale_of([shown])
    out = io.BytesIO()
    imsave(out, scale.colormap()(np.ma.masked_invalid((shown - scale.low) / (scale.high - scale.low))), format="png")
    data = base64.b64encode(out.getvalue()).decode()
    alt = f"trajectory map, cosines from {scale.low:g} to {scale.high:g}"
    return (
        f'<img src="data:image/png;base64,{data}" width="{SIDE}" height="{SIDE}" alt="{alt}" title="{alt}" '
        'style="image-rendering:pixelated">'
    )


def _text(text: str) -> str:
    shown = printable(text)
    return escape(shown if len(shown) <= TEXT else shown[: TEXT - 1] + "…")


def _new_axes() -> Axes:
    """Return the axes of a new figure of pyplot, which a notebook shows."""
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(4.8, 3.6), layout="constrained")[1]


def _along(dims: Sequence[str]) -> str:
    """Return the axis that a curve is drawn along: ``step`` for checkpoints and updates, else that of the measure."""
    return "step" if dims[:1] in (("step",), ("update",)) else "".join(dims[:1])


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _check(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError("bad-option", f"there is no {name!r} to plot", hint=f"Choose from {', '.join(known)}.")


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _depth_axis(axes: Axes, layers: Sequence[str]) -> None:
    at = tick_places(len(layers), 9)
    axes.set_xticks(at, [layers[i] for i in at])
    axes.set_xlabel("layer")
