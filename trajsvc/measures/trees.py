"""Points of a trajectory reached along a tree of differences, for blocks whose path of updates leads too far away from its ends.

A *leg* t leads to the point θ_t from a *station* before it: the zero vector (station 0) or an earlier point θ_s (station s + 1). The update
basis is the tree in which every leg begins at the point before. Where a checkpoint is far larger than those around it, a tree that
goes round it keeps every point near to where it is reached from, so that differences of points are sums of legs that cancel little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TINY: Final = 2.0**-960
"""Squared lengths below this are lost in the smallest numbers that float64 holds."""


@dataclass(frozen=True)
class Tree:
    """Inner products of the legs of one tree, of a block or a sum of blocks."""

    starts: NDArray[np.int64]
    """(T,): the station at which leg t begins, at most t"""
    gram: Array
    """(T, T)"""

    @cached_property
    def coefficients(self) -> Array:
        """(T + 1, T): every station as a sum of legs; entries are zeros and ones."""
        count = len(self.starts)
        found = np.zeros((count + 1, count))
        for leg, start in enumerate(self.starts.tolist()):
            found[leg + 1] = found[start]
            found[leg + 1, leg] = 1.0
        return found

    @cached_property
    def _unknown(self) -> NDArray[np.bool_]:
        """(T,): legs whose squared length is beyond what float64 holds."""
        squares = np.diagonal(self.gram)
        return ~np.isfinite(squares) | ((squares > 0.0) & (squares < TINY))

    @cached_property
    def _products(self) -> Array:
        """The Gram with zeros for legs that are unknown."""
        found = self.gram.copy()
        found[self._unknown] = found[:, self._unknown] = 0.0
        return found

    def _without(self, values: Array, sums: Array) -> Array:
        """Replace by NaN those of ``values``, one for each row of coefficients, whose sum has an unknown leg."""
        return np.where((sums[:, self._unknown] != 0.0).any(axis=1), np.nan, values)

    @cached_property
    def distances(self) -> tuple[Array, Array]:
        """‖station_i − station_j‖² for all pairs, (T + 1, T + 1), NaN where it is unknown; and the magnitude of the terms of each."""
        legs, gram, size = self.coefficients, self._products, np.abs(self._products)
        sums, terms = np.zeros((len(legs), len(legs))), np.zeros((len(legs), len(legs)))
        for leg, start in enumerate(self.starts.tolist()):
            here = slice(0, leg + 1)
            back = legs[start] - legs[here]
            square = sums[here, start] + 2.0 * (back @ gram[:, leg]) + gram[leg, leg]
            sums[here, leg + 1] = sums[leg + 1, here] = self._without(square, legs[leg + 1] - legs[here])
            magnitude = terms[here, start] + 2.0 * (np.abs(back) @ size[:, leg]) + size[leg, leg]
            terms[here, leg + 1] = terms[leg + 1, here] = magnitude
        return sums, terms

    def products(self, origin: int) -> tuple[Array, Array]:
        """Compute, for all pairs a_i = station_i − station_o, a_i·a_j and (a_j − a_i)·a_i, both (T + 1, T + 1)."""
        legs = self.coefficients
        away = legs - legs[origin]
        along = away @ self._products
        gained = np.stack([(legs - legs[i]) @ along[i] for i in range(len(legs))])
        return along @ away.T, gained

    def inner(self, left: Array, right: Array) -> tuple[Array, Array]:
        """Compute the inner products of sums of legs, given as rows of coefficients, (m, n), and the magnitudes of their
        terms; NaN where a leg is unknown.
        """
        values = left @ self._products @ right.T
        unknown = [(sums[:, self._unknown] != 0.0).any(axis=1) for sums in (left, right)]
        values[unknown[0]] = values[:, unknown[1]] = np.nan
        return values, np.abs(left) @ np.abs(self._products) @ np.abs(right).T

    def squares(self, sums: Array) -> tuple[Array, Array]:
        """Compute the squared lengths of sums of legs, (m,), and the magnitudes of their terms; see ``inner``."""
        magnitude = np.abs(sums)
        values = np.einsum("ik,ik->i", sums @ self._products, sums)
        terms = np.einsum("ik,ik->i", magnitude @ np.abs(self._products), magnitude)
        return self._without(values, sums), terms

    def updates(self, at: NDArray[np.int64]) -> tuple[Array, Array]:
        """Compute the Gram of the update basis of the points ``at``, NaN where unknown; and the magnitude of the terms
        of its diagonal.
        """
        stations = self.coefficients[np.concatenate([[0], at + 1])]
        sums = np.diff(stations, axis=0)
        gram = sums @ self._products @ sums.T
        lost = (sums[:, self._unknown] != 0.0).any(axis=1)
        gram[lost] = gram[:, lost] = np.nan
        return gram, np.einsum("ik,kl,il->i", np.abs(sums), np.abs(self._products), np.abs(sums), optimize=True)


def path(gram: Array) -> Tree:
    """Return the update basis as a tree."""
    return Tree(np.arange(len(gram), dtype=np.int64), gram)


def total_distances(trees: Sequence[Tree]) -> tuple[Array, Array]:
    """Sum ``Tree.distances`` over ``trees``."""
    sums, terms = zip(*(tree.distances for tree in trees), strict=True)
    return np.asarray(sum(sums)), np.asarray(sum(terms))


def total_products(trees: Sequence[Tree], origin: int) -> tuple[Array, Array]:
    """Sum ``Tree.products`` over ``trees``."""
    inner, gained = zip(*(tree.products(origin) for tree in trees), strict=True)
    return np.asarray(sum(inner)), np.asarray(sum(gained))


def total_updates(trees: Sequence[Tree], at: NDArray[np.int64]) -> tuple[Array, Array]:
    """Sum ``Tree.updates`` over ``trees``."""
    grams, terms = zip(*(tree.updates(at) for tree in trees), strict=True)
    return np.asarray(sum(grams)), np.asarray(sum(terms))
