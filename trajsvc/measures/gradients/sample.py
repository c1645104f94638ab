"""What a measure of gradients is computed from: one group of a set at one checkpoint, and how a measure describes itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trajsvc.measures.base import Array
from trajsvc.measures.gradients.vector_gram import VectorGram


@dataclass(frozen=True)
class GroupSample:
    """The Gram of one group of a set at one checkpoint, and the sums beside it.

    ``scalars`` are those of the group, summed over its blocks; ``whole`` the same of the whole network, which perturbations move.
    ``beside`` are the Grams of the same group in other sets of the run, by kind.
    """

    gram: VectorGram
    scalars: Mapping[str, Array] = field(default_factory=dict)
    whole: Mapping[str, Array] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, VectorGram] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """Return a scalar of the group that is one number."""
        return float(self.scalars[name])

    def perturbed(self, fine: bool = False) -> tuple[VectorGram, float, Array]:
        """Return the vectors [g, d_1 … d_n] at η, or at η / 10 with ``fine``, ‖w‖² and ‖ω_k‖², (n), of the whole
        network.
        """
        n = int(self.facts["directions"])
        first = 1 + (n if fine else 0)
        moves = self.whole["perturbation_squares"][first - 1 : first - 1 + n]
        chosen = self.gram.select([0, *range(first, first + n)])
        return chosen, float(self.whole["weight_squares"]), np.asarray(moves)


@dataclass(frozen=True)
class GradientMeasure:
    """One row of the registry of gradient measures."""

    name: str
    compute: Callable[..., Any]
    """``compute(sample: GroupSample, **parameters)`` → float or float64 array, NaN where undefined"""
    function: Callable[..., Any]
    """the equation, whose docstring says what it is"""
    sets: tuple[str, ...]
    """kinds of sets that it is of"""
    dims: tuple[str, ...]
    """axes of the result at one checkpoint: ``()`` a scalar, ``("vector",)``, ``("pair",)``, ``("lag",)``, ``("component",)``"""
    units: str
    definition: str
    source: str
    parameters: tuple[str, ...] = ()
    """``batch``, ``population``, ``replacement``, ``clusters``, ``seed``"""
    scalars: tuple[str, ...] = ()
    """sums beside the Gram that it needs"""
    beside: tuple[str, ...] = ()
    """kinds of further sets that it needs"""

    def description(self) -> str:
        """Describe the measure in one paragraph: definition, axes, unit, sets, source.

        The docstring of the set's method of this name begins with it.
        """
        axes = f"Axes (step, {', '.join(self.dims)})" if self.dims else "Axis (step)"
        unit = "no unit" if self.units == "1" else f"unit: {self.units}"
        return f"{self.definition}. {axes}; {unit}. Of the sets {', '.join(self.sets)}. Source: {self.source}."
