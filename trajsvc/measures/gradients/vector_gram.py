"""The Gram of a set of vectors: gradients of examples, of batches, of the steps of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import DOUBLE_ERROR, Array, certain
from trajsvc.measures.geometry import one_minus_cosine


@dataclass(frozen=True)
class VectorGram:
    """All inner products K = G Gᵀ of n vectors g_1 … g_n (n × P) of one group of parameters.

    Unlike the Gram of a trajectory (``GroupGram``) its rows are the vectors themselves, not updates. Grams of disjoint groups of
    parameters add. ``gram`` is (n, n) float64; ``error`` is how far an inner product may be off, relative to the product of the norms.
    ``same`` is (n), equal numbers for equal vectors: only these are at distance 0. None: not known, no two are taken to be equal.
    """

    gram: Array
    parameters: int
    labels: tuple[str, ...] = ()
    group: str = "network"
    error: float = DOUBLE_ERROR
    same: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.gram.ndim != 2 or self.gram.shape[0] != self.gram.shape[1] or not len(self.gram):
            raise ValueError(f"a Gram is a square matrix of at least one vector, not {self.gram.shape}")
        if self.labels and len(self.labels) != len(self.gram):
            raise ValueError(f"{len(self.labels)} labels for {len(self.gram)} vectors")

    @classmethod
    def of_vectors(cls, vectors: NDArray[Any], labels: Sequence[str] = (), group: str = "network") -> VectorGram:
        """Compute the Gram of vectors in memory, (n, P), multiplied in float64.

        Raises ValueError if a value is not finite.

        >>> VectorGram.of_vectors([[3.0, 0.0], [0.0, 4.0]]).gram
        array([[ 9.,  0.],
               [ 0., 16.]])
        """
        values = np.asarray(vectors, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"{int((~np.isfinite(values)).sum())} values of the vectors are not finite")
        _, same = np.unique(values + 0.0, axis=0, return_inverse=True)
        return cls(values @ values.T, values.shape[1], tuple(labels), group, same=same.reshape(-1).astype(np.int64))

    @classmethod
    def of_blocks(
        cls,
        grams: Array,
        parameters: int,
        labels: Sequence[str] = (),
        group: str = "network",
        error: float = DOUBLE_ERROR,
        same: NDArray[np.int64] | None = None,
    ) -> VectorGram:
        """Add the Grams of blocks, (blocks, n, n); ``same`` is (blocks, n)."""
        if same is not None:
            same = np.unique(same.T, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        return cls(grams.sum(axis=0), parameters, tuple(labels), group, error, same)

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> VectorGram:
        """Return the Gram of some of the vectors, in the order of ``indices``."""
        index = np.asarray(indices, dtype=np.int64)
        labels = tuple(self.labels[i] for i in index) if self.labels else ()
        same = None if self.same is None else self.same[index]
        return replace(self, gram=self.gram[np.ix_(index, index)], labels=labels, same=same)

    def __add__(self, other: VectorGram) -> VectorGram:
        """Add the Gram of the same vectors in another, disjoint group of parameters.

        Raises ValueError if the vectors differ.
        """
        if len(self) != len(other) or self.labels != other.labels:
            raise ValueError("Grams of different vectors do not add")
        error = max(self.error, other.error)
        same = None
        if self.same is not None and other.same is not None:
            pairs = np.stack([self.same, other.same], axis=1)
            same = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        total = self.gram + other.gram
        return VectorGram(total, self.parameters + other.parameters, self.labels, self.group, error, same)

    def __len__(self) -> int:
        return len(self.gram)

    @property
    def squares(self) -> Array:
        """‖g_i‖², (n)."""
        return np.maximum(np.diag(self.gram), 0.0)

    @property
    def zero_vectors(self) -> int:
        """How many vectors are zero: their cosines are undefined and left out of means."""
        return int((self.squares == 0.0).sum())

    @property
    def squared_distances(self) -> Array:
        """‖g_i − g_j‖² = K_ii + K_jj − 2 K_ij, (n, n). Exactly 0 for equal vectors; NaN where the error is more than 1e-9 of it: then form
        differences before products."""
        squares = self.squares
        sums = squares[:, None] + squares[None, :]
        same = np.arange(len(self)) if self.same is None else self.same
        equal = same[:, None] == same[None, :]
        return np.where(equal, 0.0, certain(sums - 2.0 * self.gram, 2.0 * sums, self.error, equal))

    @property
    def spread(self) -> Array:
        """‖g_i − g_j‖², (n, n), each right to 1e-9 of their mean: vectors that differ in rounding alone do no harm to sums.

        All NaN where that cannot be said: then form differences before products. Exactly 0 for equal vectors.
        """
        squares = self.squares
        sums = squares[:, None] + squares[None, :]
        same = np.arange(len(self)) if self.same is None else self.same
        apart = same[:, None] != same[None, :]
        found = np.where(apart, np.maximum(sums - 2.0 * self.gram, 0.0), 0.0)
        total = certain(found.sum(), 2.0 * sums[apart].sum(), self.error, np.array(not apart.any()))
        return found if total > 0.0 else np.full_like(found, total)

    @property
    def dissimilarities(self) -> Array:
        """1 − cos(g_i, g_j), (n, n). NaN with a zero vector."""
        squares = self.squares
        distances = np.maximum(squares[:, None] + squares[None, :] - 2.0 * self.gram, 0.0)
        excess = squares[:, None] - squares[None, :]
        x = one_minus_cosine(squares[:, None], squares[None, :], self.gram, distances, excess)
        np.fill_diagonal(x, np.where(squares > 0.0, 0.0, np.nan))
        return x

    @property
    def cosines(self) -> Array:
        """cos(g_i, g_j), (n, n); the diagonal is 1. NaN with a zero vector."""
        return 1.0 - self.dissimilarities

    @property
    def mean_square(self) -> float:
        """‖ḡ‖² = **1**ᵀK**1** / n², ḡ the mean vector; 0 where rounding could explain it."""
        total, terms = float(self.gram.sum()), float(np.abs(self.gram).sum())
        return 0.0 if total <= self.error * terms else total / len(self) ** 2

    @property
    def variance(self) -> float:
        """V₁ = tr K / n − ‖ḡ‖², the trace of the covariance (population form), as the mean of half the squared distances of all pairs.

        NaN where it is lost in rounding.
        """
        return float(self.spread.sum()) / (2.0 * len(self) ** 2)
