"""Find the checkpoints and the blocks that a measure can use if some values are NaN or infinite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST = 2
"""Checkpoints without which there is no trajectory."""


def usable(counts: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (checkpoints, blocks) that measures use, as masks.

    ``counts`` is (B, T): numbers of NaN and infinite values.

    A checkpoint with such values is left out. If fewer than two would remain, blocks are left out instead: first those
    that are finite at no checkpoint, then those with the most bad checkpoints until two checkpoints are finite. Every
    group that holds one of them is undefined, and the others are computed over the checkpoints that they have. If no
    block would remain, only those that are finite at no checkpoint are left out, and the checkpoints are those that are
    finite.
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
    """Return the checkpoints at which no block is bad."""
    return np.logical_not(bad.any(axis=0))
