"""Which checkpoints and which blocks a measure can use, where values are NaN or infinite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST = 2
"""Checkpoints without which there is no trajectory."""


def usable(counts: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(checkpoints, blocks) that measures use. ``counts`` is (B, T): NaN and infinite values.

    A checkpoint with such values is left out. Where that would leave fewer than two, the blocks that are to blame are left out in its
    place, those that are at fault most often first: first what is finite nowhere, then as many as give two checkpoints. Every group
    that holds one of them is undefined, and the others are answered over the checkpoints that they have. Where no block would be left,
    none but those that are finite nowhere is left out, and the checkpoints are those that are finite.
    """
    bad: NDArray[np.bool_] = counts > 0
    blocks: NDArray[np.bool_] = np.logical_not(bad.all(axis=1)) if bad.shape[1] else np.ones(len(bad), bool)
    if not blocks.any():
        return np.ones(bad.shape[1], bool), blocks
    kept = blocks.copy()
    while kept.any() and _finite(bad[kept]).sum() < min(LEAST, bad.shape[1]):
        kept[np.flatnonzero(kept)[np.argmax(bad[kept].sum(axis=1))]] = False
    if kept.any():
        blocks = kept
    return _finite(bad[blocks]), blocks


def _finite(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The checkpoints at which no block is bad."""
    return np.logical_not(bad.any(axis=0))
