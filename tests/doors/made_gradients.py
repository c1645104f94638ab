"""Sets of gradients made from explicit vectors, beside a run of ``made_runs``: every answer can be recomputed from the vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made_runs import Array, Made

from storage_schema.runs.gradient_writer import GradientWriter
from storage_schema.runs.store import RunStore
from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.gradients.set_grams import SetGrams

STEPS = [0, 4, 64]
EXAMPLES, BATCH, MOVES = 8, 2, 3
SPEC: dict[str, Any] = {"probe": "made", "data": "d" * 64, "examples": EXAMPLES, "length": 8}
OF_KIND: dict[str, dict[str, Any]] = {"batch": {"batch": BATCH}, "weights": {"eta": 1e-3}, "anchored": {"anchor": 0}}


@dataclass(frozen=True)
class Gradients:
    """The vectors of every set of a run: kind → step → block → (n, size)."""

    run: str
    sets: Mapping[str, Mapping[int, list[Array]]]
    blocks: list[tuple[str, str, str, str, str]]
    weights: float = 5.0

    def vectors(self, kind: str, step: int, **wanted: str) -> Array:
        """(n, P): the columns of all blocks whose ``layer``, ``component`` … are as wanted."""
        names = ("name", "tensor", "part", "layer", "component")
        rows = self.sets[kind][step]
        return np.concatenate(
            [
                v
                for b, v in zip(self.blocks, rows, strict=True)
                if wanted.items() <= dict(zip(names, b, strict=True)).items()
            ],
            axis=1,
        )


def make_gradients(made: Made, seed: int = 0) -> Gradients:
    """Per-example gradients, means of pairs of them, differences to the first step, and of perturbed weights."""
    rng = np.random.default_rng(seed)
    sizes = [p.shape[1] for p in made.points]
    example = {step: [rng.normal(size=(EXAMPLES, s)) + 0.5 for s in sizes] for step in STEPS}
    for values in example[0]:
        values[3] = 0.0
        values[6] = values[5]
    batch = {s: [v.reshape(-1, BATCH, v.shape[1]).mean(axis=1) for v in values] for s, values in example.items()}
    anchored = {s: [v - a for v, a in zip(values, example[0], strict=True)] for s, values in example.items()}
    weights = {
        step: [np.vstack([rng.normal(size=(1, s)), 1e-4 * rng.normal(size=(2 * MOVES, s))]) for s in sizes]
        for step in STEPS
    }
    sets = {"example": example, "batch": batch, "anchored": anchored, "weights": weights}
    return Gradients(made.name, sets, made.blocks)


def moves(blocks: int) -> Array:
    """‖ω_k‖² by block, (blocks, 2 · MOVES)."""
    return np.outer(np.arange(1, blocks + 1), [1.0, 2.0, 3.0, 0.01, 0.02, 0.03]) * 1e-6


def set_grams(found: Gradients, kind: str, step: int) -> SetGrams:
    rows = found.sets[kind][step]
    blocks = tuple(Block(*b, Extent(1, v.shape[1], 0, v.shape[1])) for b, v in zip(found.blocks, rows, strict=True))
    same = np.stack([np.unique(v + 0.0, axis=0, return_inverse=True)[1].reshape(-1) for v in rows])
    scalars: dict[str, Array] = {}
    facts: dict[str, Any] = {"seed": 0}
    if kind == "weights":
        share = np.full(len(blocks), found.weights / len(blocks))
        scalars = {"weight_squares": share, "perturbation_squares": moves(len(blocks))}
        facts |= {"directions": MOVES, "etas": [1e-3, 1e-4]}
    return SetGrams(kind, blocks, np.stack([v @ v.T for v in rows]), (), same=same, scalars=scalars, facts=facts)


def store_gradients(root: Path, found: Gradients, *kinds: str) -> None:
    """Put sets, by default all, beside the run."""
    with GradientWriter(root, RunStore(root).open(found.run)) as writer:
        for kind in kinds or found.sets:
            writer.begin(kind, {"kind": kind, **SPEC, **OF_KIND.get(kind, {})})
            for step in STEPS:
                writer.put(kind, step, set_grams(found, kind, step), uses=(0,) if kind == "anchored" else ())
