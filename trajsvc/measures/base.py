"""The Gram of one group at chosen checkpoints, and how a measure describes itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RETURN: Final = 2.0**-22
"""A sum of updates whose squared norm is below this share of its terms' magnitudes, Σ|U_k·U_l|, has come back to where it began
as far as the products can say, which are good to a few 1e-7; it counts as the zero vector. A checkpoint that repeats an
earlier one is recognised so; a loop closed to within 1/2000 of its length is the price."""


@dataclass(frozen=True)
class GroupGram:
    """All inner products of one group's trajectory.

    ``gram`` is (T, T) float64 in the update basis [θ_0, U_1, …, U_{T-1}], U_t = θ_t − θ_{t−1}, so θ_t is the sum of the
    first t + 1 basis vectors. ``rounding`` is (T,), the expected squared norm of the rounding of the stored values
    (Σ ulp²/12), NaN where unknown.
    """

    group: str
    steps: NDArray[np.int64]
    gram: Array
    parameters: int
    rounding: Array

    @classmethod
    def of_points(cls, points: NDArray[Any], steps: Sequence[int] | None = None, group: str = "network") -> GroupGram:
        """The Gram of points in memory, (T, P), at ``steps`` (by default 0 … T − 1): for small studies and examples.

        >>> gram = GroupGram.of_points([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> gram.gram
        array([[ 1.,  0., -1.],
               [ 0.,  1.,  0.],
               [-1.,  0.,  1.]])
        """
        theta = np.asarray(points, dtype=np.float64)
        basis = np.diff(theta, axis=0, prepend=0.0)
        every = np.arange(len(theta)) if steps is None else np.asarray(steps)
        return cls(group, every.astype(np.int64), basis @ basis.T, theta.shape[1], np.full(len(theta), np.nan))

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> GroupGram:
        """The same group at a subset of its checkpoints (strictly increasing indices).

        The new updates are sums of the old ones, so nothing cancels: G' = S G Sᵀ with S of zeros and ones. An update that
        returns to its beginning (see ``RETURN``) becomes exactly zero.
        """
        index = np.asarray(indices, dtype=np.int64)
        if index.size == 0 or np.any(np.diff(index) <= 0) or index[0] < 0 or index[-1] >= len(self.steps):
            raise ValueError(f"checkpoint indices must increase within 0 … {len(self.steps) - 1}")
        sums = np.zeros((len(index), len(self.steps)))
        sums[0, : index[0] + 1] = 1.0
        for row, (before, here) in enumerate(pairwise(index), start=1):
            sums[row, before + 1 : here + 1] = 1.0
        gram = sums @ self.gram @ sums.T
        gone = np.diag(gram) <= RETURN * np.einsum("ik,kl,il->i", sums, np.abs(self.gram), sums, optimize=True)
        gram[gone] = gram[:, gone] = 0.0
        return GroupGram(self.group, self.steps[index], gram, self.parameters, self.rounding[index])


@dataclass(frozen=True)
class Measure:
    """One row of the registry: a measure, computable for any group from its Gram."""

    name: str
    compute: Callable[..., Any]
    """``compute(gram: GroupGram, **parameters)`` → float or float64 array, NaN where undefined"""
    dims: tuple[str, ...]
    """names of the axes of the result: ``()`` a scalar, ``("update",)``, ``("step", "step_2")`` …"""
    units: Literal["1", "degree", "parameter", "step"]
    definition: str
    source: str

    def description(self) -> str:
        """One paragraph: definition, axes, unit, source. The docstring of the run's method of this name begins with it."""
        axes = f"Axes ({', '.join(self.dims)})" if self.dims else "A scalar"
        unit = "no unit" if self.units == "1" else f"unit: {self.units}"
        words = re.match(r"[a-z]{3,} ", self.definition)  # a formula keeps its letters
        definition = self.definition[:1].upper() + self.definition[1:] if words else self.definition
        return f"{definition}. {axes}; {unit}. Source: {self.source}."
