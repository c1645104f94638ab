"""Every experiment by its name: those of the papers, and those that are installed."""

from __future__ import annotations

import logging
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from storage_schema.format.names import check_name
from trajsvc.errors import NotFound, UsageError
from trajsvc.experiments.base import Experiment
from trajsvc.experiments.recipes import (
    conditioning,
    correlations,
    costs,
    gap,
    grokking,
    hallmarks,
    layer_updates,
    masks,
    subspaces,
    theory,
    variance,
    variance_training,
)

logger = logging.getLogger(__name__)

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
            *gap.EXPERIMENTS,
        ),
        key=lambda e: ("hclvde".index(e.name[0]), int(e.name[1:])),
    )
)
"""in the order of the papers, and of their experiments"""


def experiments() -> dict[str, Experiment]:
    """Name → experiment, in the order of the papers; installed ones last, under the names of their entry points.

    One that cannot be loaded is left out with a warning, so that it hides no other; a name of a paper's is the paper's.
    """
    found = {e.name: e for e in PAPERS}
    for point in entry_points(group=GROUP):
        if point.name in found:
            continue
        try:
            found[point.name] = _loaded(point)
        except UsageError as error:
            logger.warning("%s", error)
    return found


def _loaded(point: EntryPoint) -> Experiment:
    """Import an installed experiment. Raises UsageError (``bad-experiment``)."""
    package = point.dist.name if point.dist else point.module
    hint = f"Mend or remove the package {package}: its entry point {point.name} = {point.value} names no usable Experiment."
    try:
        loaded = point.load()
    except Exception as error:  # whatever a stranger's module raises
        raise UsageError(
            "bad-experiment", f"the experiment {point.name} cannot be imported: {error}", hint=hint
        ) from error
    if not isinstance(loaded, Experiment):
        raise UsageError("bad-experiment", f"the experiment {point.name} is a {type(loaded).__name__}", hint=hint)
    return replace(loaded, name=check_name(point.name))


def experiment(name: str) -> Experiment:
    """Return the experiment called ``name``. Raises NotFound (``experiment-not-found``) and UsageError (``bad-experiment``)."""
    known = experiments()
    if name in known:
        return known[name]
    for point in entry_points(group=GROUP, name=name):
        return _loaded(point)
    close = get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are {', '.join(known)}."
    raise NotFound("experiment-not-found", f"no experiment {name!r}", hint=hint)
