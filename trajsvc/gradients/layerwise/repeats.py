"""Examples that are equal: their gradients are, so they are evaluated once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree


def distinct(examples: Sequence[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Find the distinct examples in order of their first places, and for each example which one it is.

    >>> distinct([np.array([1, 2]), np.array([3, 4]), np.array([1, 2])])
    ([array([1, 2]), array([3, 4])], array([0, 1, 0]))
    """
    found: dict[object, int] = {}
    index = [found.setdefault(_key(example), len(found)) for example in examples]
    first = np.unique(index, return_index=True)[1]
    return [examples[i] for i in first], np.asarray(index, dtype=np.int64)


def _key(example: Any) -> object:
    """Make a key that is equal for equal examples; of what is not known, its identity."""
    leaves, tree = _pytree.tree_flatten(example)
    return str(tree), tuple(_leaf(leaf) for leaf in leaves)


def _leaf(leaf: Any) -> object:
    if isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().cpu().numpy() if leaf.layout == torch.strided and leaf.dtype != torch.bfloat16 else leaf
    if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype != object:
        values = np.ascontiguousarray(leaf)
        return values.dtype.str, values.shape, hashlib.blake2b(values.tobytes(), digest_size=16).digest()
    if isinstance(leaf, bool | int | float | str | bytes) or leaf is None:
        return type(leaf).__name__, repr(leaf)
    return id(leaf)
