"""What is known of every Gram before all bytes are read: a scaled sum, and how far it may be off.

A block of n parameters of which s were seen has the estimate Ĝ = (n/s) Σ_seen, exact when s = n. The error is taken from the
first, sampling slabs by the jackknife (Quenouille–Tukey): with r of R replicates left out, Ĝ_(−r); for any number f computed from a group's
Gram, SE² = (R−1)/R Σ_r (f_(−r) − mean f_(−r))². As more than the sample is seen the deviations shrink by the unseen share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trajsvc.gram.partial import GramState


def estimated(state: GramState) -> NDArray[np.float64]:
    """(block, new, T): every block's Gram, scaled up from the part that was seen; NaN for a block not seen at all."""
    sizes = state.plan.block_sizes()
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(state.seen > 0, sizes / state.seen, np.nan)
    return np.where((state.seen == sizes)[:, None, None], state.gram, state.gram * scale[:, None, None])


def block_left_out(state: GramState, block: int) -> NDArray[np.float64] | None:
    """(R, T, T): deviations Ĝ_(−r) − Ĝ of one block's estimate, None when the block is exact."""
    size, seen = int(state.plan.block_sizes()[block]), int(state.seen[block])
    if seen >= size or block not in state.replicates:
        return None
    parts, counts = state.replicates[block], state.counts[block]
    total, all_counts = parts.sum(axis=0), counts.sum()
    rest = np.maximum(all_counts - counts, 1)
    without = (total - parts) * (size / rest)[:, None, None]
    return np.asarray((without - total * (size / all_counts)) * (1.0 - seen / size))


def left_out_grams(state: GramState) -> NDArray[np.float64]:
    """(R, block, T, T): every block's estimate with each replicate left out; equal to the estimate where a block is exact."""
    grams = np.repeat(estimated(state)[None], max(1, state.plan.replicates), axis=0)
    for block in range(state.plan.blocks):
        deviations = block_left_out(state, block)
        if deviations is not None:
            grams[:, block] += deviations
    return grams


def group_replicates(state: GramState, blocks: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A group's estimated Gram (T, T), and (R, T, T) the same with each replicate left out."""
    sizes = state.plan.block_sizes()
    gram = np.zeros((state.plan.rows, state.plan.rows))
    away = np.zeros((max(1, state.plan.replicates), state.plan.rows, state.plan.rows))
    for block in blocks:
        gram += state.gram[block] * (sizes[block] / max(1, int(state.seen[block])))
        deviations = block_left_out(state, block)
        if deviations is not None:
            away += deviations
    return gram, gram + away
