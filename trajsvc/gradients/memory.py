"""What sets hold of memory beside the vectors that are multiplied: further vectors of the network's size, in float64.

The network itself, and what a checkpoint's values take while they are read, are not counted: they are there for any set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trajsvc.gradients.options import GradientOptions, SetKind

_FORMING: Final[Mapping[SetKind, int]] = {
    "example": 0, "batch": 2, "full": 4, "path": 10, "points": 3, "anchored": 4, "weights": 7, "inputs": 3, "input_gradients": 0,
}  # fmt: skip
"""vectors beside those of a pass: parameters that are put back, moves, gradients that are differenced, another checkpoint's
network; as measured with 10⁷ parameters (``benchmarks/gradient_cost.py``), with what the allocator keeps"""
_AFTER: Final[Mapping[SetKind, int]] = {"batch": 5, "path": 5, "weights": 5, "anchored": 5, "inputs": 5}
"""vectors when no pass is held: sums over coordinates, the noise floor"""


def beside(kind: SetKind, parameters: int, options: GradientOptions) -> int:
    """Bytes that are held beside the vectors of a pass."""
    count = 2 if kind == "example" and options.mask is not None else _FORMING[kind]
    return 8 * count * parameters


def least(kind: SetKind, parameters: int, largest: int, options: GradientOptions) -> int:
    """Bytes that a set takes at the least: with the vectors of one tensor, of ``largest`` bytes, in a pass."""
    return max(largest + beside(kind, parameters, options), 8 * _AFTER.get(kind, 0) * parameters)


def room(kind: SetKind, parameters: int, options: GradientOptions) -> int:
    """Bytes that are left for the vectors of a pass."""
    return max(0, options.memory - beside(kind, parameters, options))
