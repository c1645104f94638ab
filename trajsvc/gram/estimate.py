"""Estimate every Gram before all bytes are read: exact for what was read, scaled from the sample for the rest.

The sample of a block lies in strata of the block, in order; those of one jackknife replicate are neighbours. The rest
is read from the block's beginning to its end, so what is still unread is its end, and only the strata there are used to
estimate it (the rows of an embedding for frequent tokens say nothing of those for rare ones). With U elements unread,
u_r of them in stratum r, and S_r the sum over its s_r sampled elements, the estimate is Ĝ = Σ_seen + Σ_r (u_r / s_r)
S_r: (n/s) Σ_seen right after the sample, and exact when U = 0.

The error is estimated by the delete-one-group jackknife (Quenouille–Tukey): with the sampled granules of replicate r
left out of all blocks Ĝ_(−r), and for any number f computed from a group's Gram SE² = (R−1)/R Σ_r (f_(−r) − mean
f_(−r))². A granule is left out or kept as a whole, because neighbouring parameters are alike. Strata that differ from
each other make the estimated error too large, never too small. The deviations are widened by √(1 + s_u/U), s_u being
the sample among the strata that are not yet read: the unread elements scatter too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import release
from trajsvc.gram.pairs import matrices
from trajsvc.gram.sums import GramState


def estimated(state: GramState) -> NDArray[np.float64]:
    """Estimate every block's Gram, with its unread part scaled from the sample, (block, new, T).

    NaN for a block of which nothing was read.
    """
    out = state.gram
    for block in np.flatnonzero(state.seen < state.plan.block_sizes()):
        out[block] = block_estimate(state, int(block))
        release(out)
    return out


def block_estimate(state: GramState, block: int) -> NDArray[np.float64]:
    """Estimate one block's Gram, (new, T)."""
    seen, size = int(state.seen[block]), int(state.plan.block_sizes()[block])
    gram = state.block_gram(block)
    if seen >= size:
        return gram
    if not seen:
        return np.full_like(gram, np.nan)
    unread = _unread(state, block)
    if unread is None:
        return np.asarray(gram * (size / seen))
    rest = np.tensordot(unread / np.maximum(1, state.counts[block]), state.replicates[block], 1)
    return np.asarray(gram + matrices(rest, state.plan.rows, state.plan.new))


def _unread(state: GramState, block: int) -> NDArray[np.float64] | None:
    """Return how many elements are unread in the strata of each replicate, (R,).

    None for a block without replicates.
    """
    size, counts = int(state.plan.block_sizes()[block]), state.counts[block]
    if block not in state.replicates or not counts.any():
        return None
    capacity = counts * (size / counts.sum() - 1.0)
    unread, left = np.zeros(len(counts)), float(size - state.seen[block])
    for r in reversed(state.plan.stratum_order(block)):
        unread[r] = min(capacity[r], left)
        left -= unread[r]
    return unread


def block_left_out(state: GramState, block: int) -> NDArray[np.float64] | None:
    """Return the deviations Ĝ_(−r) − Ĝ of one block's estimate, (R, T, T); None when the block is exact."""
    if state.seen[block] >= state.plan.block_sizes()[block]:
        return None
    unread = _unread(state, block)
    if unread is None:
        return None
    sums, counts, total = state.replicates[block], state.counts[block], float(unread.sum())
    means = sums / np.maximum(1, counts)[:, None]
    guess = np.tensordot(unread, means, 1)
    out = np.zeros_like(sums)
    for r in np.flatnonzero(unread):
        others = np.where(np.arange(len(unread)) == r, 0.0, unread)
        if not others.any():  # the last stratum: all others speak for it
            others = np.where(np.arange(len(unread)) == r, 0.0, counts)
        if others.any():
            out[r] = np.tensordot(others * (total / others.sum()), means, 1) - guess
    out *= np.sqrt(1.0 + counts[unread > 0].sum() / total)
    return matrices(out, state.plan.rows, state.plan.rows)


def left_out_grams(state: GramState) -> NDArray[np.float64]:
    """Return every block's estimate with each replicate left out, (R, block, T, T); equal to the estimate where a block
    is exact.
    """
    grams = np.repeat(estimated(state)[None], max(1, state.plan.replicates), axis=0)
    for block in range(state.plan.blocks):
        deviations = block_left_out(state, block)
        if deviations is not None:
            grams[:, block] += deviations
    return grams


def group_replicates(state: GramState, blocks: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a group's estimated Gram (T, T), and the same with each replicate left out, (R, T, T)."""
    gram = np.zeros((state.plan.new, state.plan.rows))
    for block in blocks:
        gram += block_estimate(state, block)
    away = np.zeros((max(1, state.plan.replicates), state.plan.rows, state.plan.rows))
    for block in blocks:
        deviations = block_left_out(state, block)
        if deviations is not None:
            away += deviations
    return gram, gram + away
