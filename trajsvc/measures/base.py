"""The Gram of one group at chosen checkpoints, and how a measure describes itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.row_statistics import RowStatistics
from trajsvc.measures.trees import Tree, total_updates

Array = NDArray[np.float64]

DOUBLE_ERROR: Final = 2.0**-50
"""How far an inner product of a Gram made in float64 may be off, relative to the product of the norms."""
SINGLE_ERROR: Final = 2.0**-22
"""The same of one made in float32."""
LARGEST_ERROR: Final = 1e-9
"""A squared length of a Gram made in float64 that may be off by more than this share of itself is undefined."""
LARGEST_SINGLE_ERROR: Final = 2.0**-13
"""The same of one made in float32. The bound is of errors that all point one way; those of single products are a hundred times smaller
and point anywhere, so that what is within it was not seen off by more than 1e-6."""


def error_of(precision: str) -> float:
    """Return the relative error of inner products that were taken in ``precision``."""
    return DOUBLE_ERROR if precision == "float64" else SINGLE_ERROR


def limit_of(error: float) -> float:
    """Return the share of itself by which a squared length may be off, for inner products with a relative ``error``."""
    return LARGEST_ERROR if error <= DOUBLE_ERROR else LARGEST_SINGLE_ERROR


def certain(
    sums: Array,
    terms: Array,
    error: float,
    returned: NDArray[np.bool_] | None = None,
    limit: float | None = None,
) -> Array:
    """Replace squared lengths that are lost in rounding by NaN or 0.

    Each of ``sums`` is a sum of inner products whose magnitudes add up to ``terms``, so it is off by ``error`` · terms
    at most.

    A sum that is off by more than ``limit`` (by default ``limit_of``) of itself becomes NaN: the path leads so far away
    from its ends (through a checkpoint that is a thousand times too large, say) that their distance is lost in it. A sum
    within its error of zero becomes exactly 0 where ``returned`` says that its ends are the same, and wherever that is not known.
    """
    limit = limit_of(error) if limit is None else limit
    nothing = sums <= error * terms
    same = nothing if returned is None else nothing & (returned | (terms == 0.0))
    return np.where(same, 0.0, np.where(error * terms > limit * sums, np.nan, sums))


@dataclass(frozen=True)
class GroupGram:
    """All inner products of one group's trajectory.

    ``gram`` is (T, T) float64 in the update basis [θ_0, U_1, …, U_{T-1}], U_t = θ_t − θ_{t−1}, so θ_t is the sum of the
    first t + 1 basis vectors. ``rounding`` is (T,), the expected squared norm of the rounding of the stored values
    (Σ ulp²/12), NaN where unknown. ``error`` is that of every inner product, relative to the product of the norms.
    ``same`` is (T,), equal numbers for checkpoints of equal parameters, None where that is not known. ``changes`` is (T, 2), how many
    values differ from the checkpoint before and how many of these had changed there too, NaN where that is not known.
    ``rows`` are numbers of the rows of the group's matrices, computed when they are asked for, None where they are not known.

    Where the update basis loses digits, ``trees`` are the group in other bases, of all stored checkpoints, of which this one has those
    numbered ``at``. Lengths are those of the Grams times 2^``scale``; ``rounding`` is in the Grams' unit.
    """

    group: str
    steps: NDArray[np.int64]
    gram: Array
    parameters: int
    rounding: Array
    error: float = DOUBLE_ERROR
    same: NDArray[np.int64] | None = None
    trees: tuple[Tree, ...] = ()
    at: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    scale: int = 0
    changes: Array | None = None
    rows: RowStatistics | None = None

    @property
    def unit(self) -> float:
        """The factor by which lengths computed from the Gram are multiplied."""
        return 2.0**self.scale

    @classmethod
    def of_points(cls, points: NDArray[Any], steps: Sequence[int] | None = None, group: str = "network") -> GroupGram:
        """Compute the Gram of points in memory, (T, P), at ``steps`` (by default 0 … T − 1): for small studies and
        examples.

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
        """Return the same group at a subset of its checkpoints (strictly increasing indices).

        The new updates are sums of the old ones, so nothing cancels: G' = S G Sᵀ with S of zeros and ones. An update
        that returns to its beginning becomes exactly zero, one whose length is lost in the way there becomes NaN
        (``certain``).
        """
        index = np.asarray(indices, dtype=np.int64)
        if index.size == 0 or np.any(np.diff(index) <= 0) or index[0] < 0 or index[-1] >= len(self.steps):
            raise ValueError(f"checkpoint indices must increase within 0 … {len(self.steps) - 1}")
        if self.trees:
            return self.along(self.trees, self.at[index], index)
        sums = np.zeros((len(index), len(self.steps)))
        sums[0, : index[0] + 1] = 1.0
        for row, (before, here) in enumerate(pairwise(index), start=1):
            sums[row, before + 1 : here + 1] = 1.0
        gram = sums @ self.gram @ sums.T
        terms = np.einsum("ik,kl,il->i", sums, np.abs(self.gram), sums, optimize=True)
        return self._of_updates(index, gram, terms)

    def along(self, trees: tuple[Tree, ...], at: NDArray[np.int64], index: NDArray[np.int64]) -> GroupGram:
        """Return the checkpoints ``index`` of this group computed from ``trees``, in which they are numbered ``at``."""
        gram, terms = total_updates(trees, at)
        return replace(self._of_updates(index, gram, terms), trees=trees, at=at)

    def _of_updates(self, index: NDArray[np.int64], gram: Array, terms: Array) -> GroupGram:
        same = None if self.same is None else self.same[index]
        returned = None if same is None else np.append(False, same[1:] == same[:-1])
        lengths = certain(np.diag(gram), terms, self.error, returned)
        for value, which in ((0.0, lengths == 0.0), (np.nan, np.isnan(lengths))):
            gram[which] = gram[:, which] = value
        changes = None if self.changes is None else _between_neighbours(self.changes, index)
        rows = None if self.rows is None else self.rows.select(index)
        rounding = self.rounding[index]
        return replace(
            self, steps=self.steps[index], gram=gram, rounding=rounding, same=same, changes=changes, rows=rows
        )


def _between_neighbours(changes: Array, index: NDArray[np.int64]) -> Array:
    """Return the counts at the checkpoints ``index``, NaN where one before was left out."""
    follows = np.append(False, np.diff(index) == 1)
    known = np.stack([follows, follows & np.append(False, follows[:-1])], axis=1)
    return np.where(known, changes[index], np.nan)


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
        """Describe the measure in one paragraph: definition, axes, unit, source.

        The docstring of the run's method of this name begins with it.
        """
        axes = f"Axes ({', '.join(self.dims)})" if self.dims else "A scalar"
        unit = "no unit" if self.units == "1" else f"unit: {self.units}"
        words = re.match(r"[a-z]{3,} ", self.definition)  # a formula keeps its letters
        definition = self.definition[:1].upper() + self.definition[1:] if words else self.definition
        return f"{definition}. {axes}; {unit}. Source: {self.source}."
