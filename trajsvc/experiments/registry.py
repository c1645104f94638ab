"""Every experiment by its name: those of the papers, and those that are installed."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Final

from trajsvc.errors import NotFound
from trajsvc.experiments.base import Experiment
from trajsvc.experiments.recipes import (
    conditioning,
    correlations,
    costs,
    grokking,
    hallmarks,
    layer_updates,
    masks,
    subspaces,
    theory,
    variance,
    variance_training,
)

GROUP: Final = "trajsvc.experiments"
PAPERS: Final = tuple(
    sorted(
        (
            *hallmarks.EXPERIMENTS,
            *grokking.EXPERIMENTS,
            *theory.EXPERIMENTS,
            *correlations.EXPERIMENTS,
            *subspaces.EXPERIMENTS,
            *layer_updates.EXPERIMENTS,
            *variance_training.EXPERIMENTS,
            *variance.EXPERIMENTS,
            *conditioning.EXPERIMENTS,
            *masks.EXPERIMENTS,
            *costs.EXPERIMENTS,
        ),
        key=lambda e: ("hclvd".index(e.name[0]), int(e.name[1:])),
    )
)
"""in the order of the papers, and of their experiments"""


def experiments() -> dict[str, Experiment]:
    """Name → experiment, in the order of the papers; installed ones last."""
    found = {e.name: e for e in PAPERS}
    for point in entry_points(group=GROUP):
        if point.name not in found and isinstance(loaded := point.load(), Experiment):
            found[point.name] = loaded
    return found


def experiment(name: str) -> Experiment:
    """Return the experiment called ``name``. Raises NotFound (``experiment-not-found``)."""
    known = experiments()
    if name in known:
        return known[name]
    close = get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are {', '.join(known)}."
    raise NotFound("experiment-not-found", f"no experiment {name!r}", hint=hint)
