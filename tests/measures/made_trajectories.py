"""Trajectories made of explicit vectors, and plain oracles of every measure in extended precision.

A trajectory is given by its update basis [θ_0, U_1, …] in float64. Its points are sums in long double (64 bits of mantissa), so that a
difference of points is exact to 1e-19 of their size however small the updates are, and every oracle below is one
subtraction for an update, one dot product for a cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import GroupGram

Vector = NDArray[np.longdouble]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trajectory:
    basis: NDArray[np.float64]
    steps: NDArray[np.int64]

    @cached_property
    def gram(self) -> GroupGram:
        count, parameters = self.basis.shape
        return GroupGram("made", self.steps, self.basis @ self.basis.T, parameters, np.full(count, 1e-6))

    @cached_property
    def points(self) -> list[Vector]:
        return list(np.cumsum(self.basis.astype(np.longdouble), axis=0))

    @cached_property
    def updates(self) -> list[Vector]:
        return [after - before for before, after in pairwise(self.points)]

    def about(self, origin: int) -> list[Vector]:
        """Points other than the ``origin``-th, relative to it."""
        return [p - self.points[origin] for i, p in enumerate(self.points) if i != origin]

    def subset(self, index: Sequence[int]) -> Trajectory:
        """The trajectory of some of the points, its updates taken anew from them."""
        kept = [self.points[i] for i in index]
        basis = [kept[0], *(b - a for a, b in pairwise(kept))]
        return Trajectory(np.array(basis, dtype=np.float64), self.steps[np.asarray(index)])


def made(start: NDArray[np.float64], updates: NDArray[np.float64], steps: Sequence[int] | None = None) -> Trajectory:
    basis = np.vstack([start[None, :], updates.reshape(-1, len(start))])
    return Trajectory(basis, np.arange(len(basis)) * 10 if steps is None else np.asarray(steps))


def length(v: Vector) -> np.longdouble:
    return np.sqrt((v * v).sum())


def cosine(a: Vector, b: Vector) -> float:
    """NaN for a zero vector."""
    if not a.any() or not b.any():
        return float("nan")
    return float((a * b).sum() / (length(a) * length(b)))


def one_minus_cosine(a: Vector, b: Vector) -> float:
    """‖a' − b'‖² / 2 of the unit vectors."""
    if not a.any() or not b.any():
        return float("nan")
    d = a / length(a) - b / length(b)
    return float((d * d).sum() / 2)


def angle(a: Vector, b: Vector) -> float:
    """Degrees, 2 atan2(‖a' − b'‖, ‖a' + b'‖) of the unit vectors."""
    if not a.any() or not b.any():
        return float("nan")
    a, b = a / length(a), b / length(b)
    return float(np.degrees(2 * np.arctan2(length(a - b), length(a + b))))


def table(function: Callable[[Vector, Vector], float], vectors: Sequence[Vector]) -> Floats:
    return np.array([[function(a, b) for b in vectors] for a in vectors]).reshape(len(vectors), len(vectors))


def curve(function: Callable[[Vector, Vector], float], pairs: Sequence[tuple[Vector, Vector]]) -> Floats:
    return np.array([function(a, b) for a, b in pairs], dtype=np.float64)


def mean(values: Floats) -> float:
    """Of the defined ones."""
    defined = [float(v) for v in np.ravel(values) if v == v]
    return sum(defined) / len(defined) if defined else float("nan")


def _cases() -> dict[str, Trajectory]:
    g = np.random.default_rng(7)
    P, T = 60, 9
    start, walk = g.normal(size=P), g.normal(size=(T - 1, P))
    straight = np.outer(np.linspace(1.0, 3.0, T - 1), g.normal(size=P))
    swing = g.normal(size=P)
    cases = {
        "walk": made(start, walk),
        "walk far from zero": made(1e3 * start, walk),
        "uneven steps": made(start, walk, [0, 1, 2, 4, 8, 16, 32, 64, 1000]),
        "many parameters": made(g.normal(size=5000), 0.1 * g.normal(size=(5, 5000))),
        "ballistic": made(start, straight),
        "nearly ballistic": made(start, straight + 1e-3 * walk),
        "swinging": made(start, np.outer((-1.0) ** np.arange(T - 1), swing) + 0.1 * walk),
        "momentum": made(start, np.cumsum(walk, axis=0)),
        "growing updates": made(start, walk * 10.0 ** np.arange(-4, T - 5)[:, None]),
        "shrinking updates": made(start, walk * 10.0 ** -np.arange(T - 1)[:, None]),
        "zero update in the middle": made(start, np.vstack([walk[:3], np.zeros(P), walk[4:]])),
        "zero updates at the ends": made(start, np.vstack([np.zeros(P), walk[1:-1], np.zeros(P)])),
        "zero first point": made(np.zeros(P), walk),
        "through zero": made(start, np.vstack([walk[0] * 0.0, -start, walk[2:]])),
        "ends at zero": made(start, np.vstack([-start])),
        "back to the start": made(start, np.vstack([walk[0], -walk[0], walk[2:]])),
        "ends where it began": made(start, np.vstack([walk[:2], -walk[1:2], -walk[:1]])),
        "all zero": made(np.zeros(P), np.zeros((T - 1, P))),
        "never moves": made(start, np.zeros((T - 1, P))),
        "one checkpoint": made(start, np.zeros((0, P))),
        "one zero checkpoint": made(np.zeros(P), np.zeros((0, P))),
        "two checkpoints": made(start, walk[:1]),
        "three checkpoints": made(start, walk[:2]),
        "one parameter": made(np.array([2.0]), np.array([[0.5], [-0.25], [0.25], [1.0]])),
    }
    for size in (1e-2, 1e-4, 1e-6):
        cases[f"updates of {size:g}"] = made(start, size * walk)
    return cases


CASES = _cases()
