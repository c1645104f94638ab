"""Every measure of a set of gradients under its own name, with the sets that it is of, its shape, unit, definition and source."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from trajsvc.errors import NotFound
from trajsvc.measures.gradients import of_gram, of_sums
from trajsvc.measures.gradients.sample import GradientMeasure

GRADIENT_MEASURES: Final[Mapping[str, GradientMeasure]] = MappingProxyType(
    {row.name: row for row in (*of_gram.ROWS, *of_sums.ROWS)}
)


def gradient_measure_named(name: str) -> GradientMeasure:
    """Return the gradient measure called ``name``.

    Raises NotFound (``measure-not-found``) naming those that are close.
    """
    if name in GRADIENT_MEASURES:
        return GRADIENT_MEASURES[name]
    close = get_close_matches(name, GRADIENT_MEASURES, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are {', '.join(sorted(GRADIENT_MEASURES))}."
    raise NotFound("measure-not-found", f"no measure of gradients {name!r}", hint=hint)


def measures_of(kind: str) -> list[GradientMeasure]:
    """Return the measures of sets of a kind."""
    return [measure for measure in GRADIENT_MEASURES.values() if kind in measure.sets]
