"""Sparsity of updates: how many stored values an update leaves as they were, and how alike successive sets of changed values are.

Counted in the pass that multiplies, from the stored bits (``trajsvc.gram.kernels.changes``), for successive stored
checkpoints only: where a selection leaves out a checkpoint between two others, nothing is known, and the value is NaN.
"""

from __future__ import annotations

import numpy as np

from trajsvc.measures.base import Array, GroupGram


def update_sparsity(gram: GroupGram) -> Array:
    """Share of the stored values whose bits θ_{t+1} and θ_t have in common, for t = 0 … T − 2, (T − 1).

    0 where every value changed, 1 where none did. NaN where it was not counted, and for an empty group.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((gram.parameters - _counts(gram)[1:, 0]) / np.float64(gram.parameters))


def update_overlap(gram: GroupGram) -> Array:
    """|A_t ∩ A_{t+1}| / |A_t ∪ A_{t+1}| of the sets of values that successive updates change, for t = 1 … T − 2, (T − 2).

    1 where both change the same values. NaN where it was not counted, and where neither changes any.
    """
    counts = _counts(gram)
    both = counts[2:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(both / (counts[1:-1, 0] + counts[2:, 0] - both))


def update_overlap_chance(gram: GroupGram) -> Array:
    """pq / (p + q − pq), the ``update_overlap`` of two random sets with the shares p and q of the values, (T − 2).

    NaN where ``update_overlap`` is.
    """
    changed = 1.0 - update_sparsity(gram)
    p, q = changed[:-1], changed[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = p * q / (p + q - p * q)
    return np.where(np.isnan(update_overlap(gram)), np.nan, expected)


def _counts(gram: GroupGram) -> Array:
    return np.full((len(gram.steps), 2), np.nan) if gram.changes is None else gram.changes
