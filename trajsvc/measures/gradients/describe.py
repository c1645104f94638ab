"""What the rows of the registry of gradient measures are made of: sources, kinds of sets, and a maker for each sort of measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from trajsvc.measures.gradients.sample import GradientMeasure, GroupSample

CORRELATIONS: Final = "Correlations (Rothchild et al.)"
LAYER_UPDATES: Final = "Layer updates (Zhang et al.)"
VARIANCE: Final = "Variance (Faghri et al.)"
CONDITIONING: Final = "Conditioning (Nelson)"
MCCANDLISH: Final = "McCandlish et al."
COMMON: Final = "common usage"
SERVICE: Final = "trajsvc"

PLAIN: Final = ("example", "batch", "full", "path", "points", "anchored", "input_gradients")
"""Sets whose vectors are gradients, one like the other."""
ORDERED: Final = ("path", "full", "points", "batch")
"""Sets whose vectors follow one another."""
DRAWN: Final = ("batch",)
EXAMPLES: Final = ("example",)
WEIGHTS: Final = ("weights",)
PATH: Final = ("path",)
INPUTS: Final = ("inputs",)


def of_gram(
    function: Callable[..., Any],
    sets: tuple[str, ...],
    definition: str,
    source: str,
    *,
    dims: tuple[str, ...] = (),
    units: str = "1",
    parameters: tuple[str, ...] = (),
) -> GradientMeasure:
    """Make the row of a measure that is a function of the Gram alone."""

    def compute(sample: GroupSample, **given: Any) -> Any:
        return function(sample.gram, **given)

    return GradientMeasure(function.__name__, compute, function, sets, dims, units, definition, source, parameters)


def of_sums(
    name: str,
    function: Callable[..., Any],
    compute: Callable[[GroupSample], Any],
    sets: tuple[str, ...],
    definition: str,
    source: str,
    *,
    units: str = "1",
    scalars: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
) -> GradientMeasure:
    """Make the row of a measure that is a function of more than the Gram."""
    return GradientMeasure(name, compute, function, sets, (), units, definition, source, (), scalars, beside)
