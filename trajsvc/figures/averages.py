"""Figures of averages of checkpoints: what a mean from a checkpoint to the last would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trajsvc.results.measure_methods import Steps
    from trajsvc.results.run import Run


def averages_of(run: Run, group: str = "network", steps: Steps = None) -> Figure:
    """Draw, against the first checkpoint of the window that is averaged: the mean's distance from the last checkpoint, the
    variance that it removes, and its norm beside the checkpoints' own."""
    from trajsvc.figures import Curve, stacked_figure
    from trajsvc.measures import averages
    from trajsvc.measures.norms import norm

    gram = run.gram(group, steps)
    at = gram.steps.tolist()
    panels = {
        "distance from the last": [Curve("distance", at, averages.average_distance(gram))],
        "variance removed": [Curve("share", at, averages.average_variance_removed(gram))],
        "norm": [
            Curve("mean from here on", at, averages.average_norm(gram)),
            Curve("checkpoint", at, np.asarray(norm(gram))),
        ],
    }
    return stacked_figure(panels, at, title=f"{run.name}: {group}, averaged", axis=run.axis)
