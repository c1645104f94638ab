"""Small sets of gradients whose values say which step they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SPEC = {"probe": "causal-lm", "data": "a" * 64, "examples": 5}


@dataclass(frozen=True)
class Block:
    name: str
    tensor: str
    part: str
    layer: str
    component: str
    size: int


BLOCKS = tuple(Block(f"h.{i}.w", f"h.{i}.w", "", str(i), "mlp.in", 10 + i) for i in range(3))


@dataclass(frozen=True)
class Found:
    """A set at a step, in memory."""

    gram: np.ndarray[Any, np.dtype[np.float64]]
    kind: str = "example"
    blocks: tuple[Block, ...] = BLOCKS
    labels: tuple[str, ...] = ()
    error: float = 2.0**-50
    same: np.ndarray[Any, np.dtype[np.int64]] | None = None
    scalars: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def made(seed: int, n: int = 5) -> Found:
    rows = [np.random.default_rng((seed, b)).normal(size=(n, block.size)) for b, block in enumerate(BLOCKS)]
    return Found(np.stack([g @ g.T for g in rows]), facts={"seed": seed})
