"""The figures of a run's gradients, which every interface draws from the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from storage_schema.models.gradients import (
        GradientClustersAnswer,
        GradientLayersAnswer,
        GradientMapAnswer,
        GradientMeasuresAnswer,
    )

DRAWN = (
    "coherence", "confusion", "mu", "alpha", "normalised_variance", "gradient_rank", "gain_ratio", "mean_gradient_cosine",
    "kappa_weights", "kappa_inputs", "kappa_weights_step", "weight_cosine_distance",
)  # fmt: skip
"""What is drawn where no measures are named, the first six that a set has."""
VARIANCES = {"SG-B": "sg_b", "SG-2B": "sg_2b", "SVRG": "svrg", "GC": "gc"}


def measures_of(answer: GradientMeasuresAnswer, axis: str, names: Sequence[str] | None = None) -> Figure:
    """Draw measures over training, a panel each; by default up to six of those that the set has.

    Raises UsageError (``no-curve``) for a measure that is more than one number a step.
    """
    from trajsvc.figures import Curve, overlay_figure

    chosen = list(names) if names is not None else [name for name in DRAWN if name in answer.measures][:6]
    panels = []
    for name in chosen or list(answer.measures)[:6]:
        values = answer.measures[name]
        if any(isinstance(value, list) for value in values):
            hint = "--format json or csv has it; a figure of measures is of one number a step."
            raise UsageError("no-curve", f"{name} is more than one number a step", hint=hint)
        curve = Curve(answer.set, answer.steps, np.array(values, dtype=np.float64))
        panels.append((name.replace("_", " "), axis, [curve]))
    return overlay_figure(panels, title=f"{answer.run}: {answer.set} gradients of {answer.group}")


def map_of(answer: GradientMapAnswer, axis: str) -> Figure:
    """Draw cosines between the vectors at one checkpoint, in the order of the answer."""
    from trajsvc.figures import Panel, map_figure

    values = np.array(answer.map, dtype=np.float64).reshape(answer.n, answer.n)
    title = f"{answer.run}: {answer.set} gradients\n{answer.group}, {axis} {answer.step}"
    across = "vector, by cluster" if answer.bounds is not None else "vector"
    return map_figure([Panel(values, range(answer.n))], title=title, axis=across, marks=answer.bounds or ())


def layers_of(answer: GradientLayersAnswer, axis: str) -> Figure:
    """Draw a picture a measure: a row a layer, a column a step."""
    from trajsvc.figures.layer_steps import LayerSteps, layer_steps_figure

    names = list(answer.layers[0].measures) if answer.layers else []
    pictures = [
        LayerSteps(name.replace("_", " "), np.array([row.measures[name] for row in answer.layers], dtype=np.float64))
        for name in names
    ]
    labels = [row.layer for row in answer.layers]
    return layer_steps_figure(pictures, labels, answer.steps, title=f"{answer.run}: {answer.set} gradients", axis=axis)


def clusters_of(answer: GradientClustersAnswer, ordered: GradientMapAnswer, axis: str) -> Figure:
    """Draw the variance of the estimators from the step of the clusters on, with the clusters kept; the map where there is one step."""
    from trajsvc.figures import Curve, overlay_figure

    if len(answer.variance) < 2:
        return map_of(ordered, axis)
    steps = [row.step for row in answer.variance]
    curves = [
        Curve(name, steps, np.array([getattr(row, field) for row in answer.variance], dtype=np.float64))
        for name, field in VARIANCES.items()
    ]
    known = [curve for curve in curves if np.isfinite(curve.values).any()]
    title = (
        f"{answer.run}: {answer.clusters} clusters of {answer.set} gradients at {axis} {answer.step}, {answer.group}"
    )
    return overlay_figure([("average variance", axis, known)], title=title)
