"""The figure of the rows (neurons) of a group's matrices: an image, rows by checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from trajsvc.figures.style import PAGE, in_paper_style, new_figure, step_label, tick_places

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from storage_schema.models.rows import RowsAnswer, RowsOf
    from trajsvc.results.run import Run

BINS: Final = 512
"""Lines of the image at most, but for a line a tensor: of more rows, successive ones are taken together."""
LABELS: Final = {
    "update": "‖update of a row‖",
    "ratio": "‖update of a row‖ / ‖the row before‖",
    "angle": "angle between a row before and after (°)",
    "displacement": "‖row − row at the start‖",
    "weights": "‖row‖",
}
NAMED: Final = 30
"""Tensors whose names are written beside the image, at most."""


def rows_of(run: Run, group: str, of: RowsOf = "update", steps: str | None = None, top: int | None = None) -> Figure:
    """Draw the rows of a group's matrices over training, in order, or with ``top`` those that move most, the largest first.

    Raises what ``trajsvc.results.rows.row_trajectories`` raises.
    """
    from trajsvc.results.rows import rows_answer

    return rows_figure(rows_answer(run, group, of, steps, top, None if top else BINS), in_order=not top)


@in_paper_style
def rows_figure(answer: RowsAnswer, *, in_order: bool) -> Figure:
    """Draw an answer as an image on a logarithmic scale of colours (angles: linear); what is 0 or not known is hatched."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    values = np.array([row.values for row in answer.rows], dtype=np.float64).reshape(-1, len(answer.steps))
    positive = values[np.isfinite(values) & (values > 0.0)]
    figure = new_figure(PAGE, 3.6)
    axes = figure.subplots()
    axes.patch.set(facecolor="0.93", edgecolor="0.55", hatch="//////")
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (0.0, 1.0)
    linear = answer.of == "angle" or low == high
    if not linear:
        low = max(low, high * 1e-6)
    norm = Normalize(0.0, high) if linear else LogNorm(low, high, clip=True)
    shown = np.where(values > 0.0, values, np.nan)
    image = axes.imshow(
        shown if shown.size else np.full((1, 1), np.nan),
        cmap=colormaps["viridis"].with_extremes(bad=(0, 0, 0, 0)),
        norm=norm,
        aspect="auto",
        interpolation="nearest",
    )
    at = tick_places(len(answer.steps), 8)
    axes.set_xticks(at, [step_label(answer.steps[i]) for i in at])
    axes.set_xlabel(answer.axis)
    if in_order:
        tensors = [row.tensor for row in answer.rows]
        starts = [i for i in range(len(tensors)) if not i or tensors[i] != tensors[i - 1]]
        for start in starts[1:]:
            axes.axhline(start - 0.5, color="white", linewidth=0.6)
        middles = [(a + b - 1) / 2 for a, b in zip(starts, [*starts[1:], len(tensors)], strict=True)]
        named = list(zip(middles, starts, strict=True))[:: max(1, -(-len(starts) // NAMED))]
        axes.set_yticks([m for m, _ in named], [_short(tensors[s]) for _, s in named])
    else:
        names = [f"{_short(row.tensor)} {row.row}" for row in answer.rows]
        places = tick_places(len(names), NAMED)
        axes.set_yticks(places, [names[i] for i in places])
    axes.tick_params(length=2, width=0.5, pad=1.5, axis="both")
    figure.colorbar(image, ax=axes, label=LABELS[answer.of], pad=0.02)
    count = len(answer.rows)
    which = f"{answer.total:,} rows" if in_order else f"{count:,} of {answer.total:,} rows, the largest first"
    figure.suptitle(f"{answer.run}: {answer.group}, {which}")
    return figure


def _short(tensor: str) -> str:
    """Return a tensor's name without ``.weight``, and its end where it is long."""
    name = tensor.replace(".weight", "")
    return name if len(name) <= 36 else f"…{name[-35:]}"
