"""Two runs of equal parameters against each other: cosines and distances of displacements.

The points of both runs are stations of one tree (``trees.Tree``): the first run's path of updates, and from its first point the leg to
the second run's first point, from which that one's updates go on. All displacements are sums of legs, and legs that two
displacements share cancel before anything is multiplied, so that updates of 1e-6 beside norms of 1e3 keep their digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trajsvc.errors import UsageError
from trajsvc.measures.base import DOUBLE_ERROR, Array, certain
from trajsvc.measures.geometry import one_minus_cosine
from trajsvc.measures.trees import Tree

Origin = Literal["first", "shared", "none"]
ORIGINS: Final = get_args(Origin)
COSINE_ERROR: Final = 1e-12
"""A cosine that may be off by more than this is undefined."""


@dataclass(frozen=True)
class CrossGram:
    """All inner products of a group of blocks at the points of two runs.

    ``first`` and ``second`` are the points' numbers in ``trees`` (and in ``same``), the runs' own order; the first of each is the
    run's origin. ``same`` has equal numbers for checkpoints of equal parameters. Lengths are those of the Grams times 2^``scale``.
    """

    group: str
    parameters: int
    trees: tuple[Tree, ...]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.int64]
    scale: int = 0
    error: float = DOUBLE_ERROR

    def swapped(self) -> CrossGram:
        """Return the same with the runs in the other order."""
        return CrossGram(
            self.group, self.parameters, self.trees, self.second, self.first, self.same, self.scale, self.error
        )


@dataclass(frozen=True)
class Cross:
    """Displacements of two runs compared: ``cosines`` and ``distances`` are (T_a, T_b), ``norms`` of each run's."""

    cosines: Array
    distances: Array
    norms_a: Array
    norms_b: Array


def compare_displacements(gram: CrossGram, origin: str = "first") -> Cross:
    """Compare a_s = θᵃ_s − o_a with b_t = θᵇ_t − o_b: cos(a_s, b_t), ‖a_s − b_t‖, ‖a_s‖ and ‖b_t‖.

    ``origin`` says what displacements are measured from: ``first``, each run's own first point, o_a = θᵃ_0 and o_b = θᵇ_0;
    ``shared``, the first run's first point for both, o_a = o_b = θᵃ_0; ``none``, zero: the points themselves.
    float64; distances and norms in units of the parameters. A zero displacement has no cosine: NaN, as is a cosine that may be off
    by more than 1e-12 and a length that may be off by more than 1e-9 of itself. Raises UsageError (``bad-option``).
    """
    if origin not in ORIGINS:
        raise UsageError("bad-option", f"no origin {origin!r}", hint=f"Use one of {', '.join(ORIGINS)}.")
    base_a = None if origin == "none" else int(gram.first[0])
    base_b = {"none": None, "shared": base_a, "first": int(gram.second[0])}[origin]
    parts = [(tree, *_displacements(tree, gram, base_a, base_b)) for tree in gram.trees]
    aa = _lengths([tree.squares(a) for tree, a, _ in parts], gram.error, _returned(gram, gram.first, base_a))
    bb = _lengths([tree.squares(b) for tree, _, b in parts], gram.error, _returned(gram, gram.second, base_b))
    ab, terms = _total([tree.inner(a, b) for tree, a, b in parts])
    squares, magnitudes = _total([_between(tree, a, b) for tree, a, b in parts])
    dd = certain(squares, magnitudes, gram.error, _coincide(gram, base_a, base_b))
    norms = np.sqrt(aa)[:, None] * np.sqrt(bb)[None, :]
    x = one_minus_cosine(aa[:, None], bb[None, :], ab, np.maximum(squares, 0.0), aa[:, None] - bb[None, :])
    with np.errstate(invalid="ignore"):
        doubtful = gram.error * np.where(squares < norms, magnitudes, terms) > COSINE_ERROR * norms
        x = np.where(dd == 0.0, np.where(norms > 0.0, 0.0, np.nan), np.where(doubtful, np.nan, x))
    unit = 2.0**gram.scale
    return Cross(1.0 - x, unit * np.sqrt(dd), unit * np.sqrt(aa), unit * np.sqrt(bb))


def start_difference(gram: CrossGram) -> float:
    """‖θᵇ_0 − θᵃ_0‖ / ‖θᵃ_0‖: how far apart the runs begin; 0 where both are zero vectors, NaN where only the first is."""
    both = [tree.coefficients for tree in gram.trees]
    a0, b0 = int(gram.first[0]) + 1, int(gram.second[0]) + 1
    apart, terms = _total([t.squares((c[b0] - c[a0])[None]) for t, c in zip(gram.trees, both, strict=True)])
    size, _ = _total([t.squares(c[a0][None]) for t, c in zip(gram.trees, both, strict=True)])
    equal = np.array([gram.same[gram.first[0]] == gram.same[gram.second[0]]])
    square = float(certain(apart, terms, gram.error, equal)[0])
    if square == 0.0:
        return 0.0
    return float(np.sqrt(square / size[0])) if size[0] > 0.0 else float("nan")


def _displacements(tree: Tree, gram: CrossGram, base_a: int | None, base_b: int | None) -> tuple[Array, Array]:
    """Return both runs' displacements as rows of coefficients of the tree's legs."""
    legs = tree.coefficients
    return tuple(  # type: ignore[return-value]
        legs[points + 1] - (0.0 if base is None else legs[base + 1])
        for points, base in ((gram.first, base_a), (gram.second, base_b))
    )


def _between(tree: Tree, a: Array, b: Array) -> tuple[Array, Array]:
    """‖a_s − b_t‖² and the magnitudes of its terms, (T_a, T_b): differences of coefficients, so that shared legs cancel."""
    rows = [tree.squares(row - b) for row in a]
    return np.stack([values for values, _ in rows]), np.stack([terms for _, terms in rows])


def _total(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    values, terms = zip(*parts, strict=True)
    return np.asarray(sum(values)), np.asarray(sum(terms))


def _lengths(parts: list[tuple[Array, Array]], error: float, returned: NDArray[np.bool_]) -> Array:
    return certain(*_total(parts), error, returned)


def _returned(gram: CrossGram, points: NDArray[np.int64], base: int | None) -> NDArray[np.bool_]:
    return np.zeros(len(points), bool) if base is None else gram.same[points] == gram.same[base]


def _coincide(gram: CrossGram, base_a: int | None, base_b: int | None) -> NDArray[np.bool_]:
    """Return which pairs of displacements are equal because the checkpoints are, (T_a, T_b)."""
    equal: NDArray[np.bool_] = gram.same[gram.first][:, None] == gram.same[gram.second][None, :]
    if base_a is not None and base_b is not None:
        equal = equal & bool(gram.same[base_a] == gram.same[base_b])
        equal |= _returned(gram, gram.first, base_a)[:, None] & _returned(gram, gram.second, base_b)[None, :]
    return equal
