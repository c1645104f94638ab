"""The integrity report: faults of a sequence of checkpoints that its Grams, fingerprints and counts show.

Published trajectories have faults: revisions that are copies of others, shards of another step, values lost to
rounding. Everything here is computed from the Gram and the fingerprints, so that it needs no further pass over the
bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import each
from storage_schema.models.results import Finding
from storage_schema.runs.contents import TreeTable
from trajsvc.anatomy.blocks import Block
from trajsvc.anatomy.patterns import covering
from trajsvc.measures.base import certain, error_of
from trajsvc.measures.finite import usable
from trajsvc.measures.trees import Tree

ZERO_SHARE = 0.25
OUTLIER_RATIO = 0.25
OUTLIER_JUMP = 4.0
SHOWN = 6


def report(
    *,
    steps: NDArray[np.int64],
    blocks: Sequence[Block],
    gram: NDArray[np.float64],
    nonfinite: NDArray[np.int64],
    fingerprints: Sequence[str],
    zeros: NDArray[np.int64],
    columns: Sequence[tuple[str, int]],
    precision: str = "float64",
    trees: TreeTable | None = None,
    left: str = "",
) -> list[Finding]:
    """Return the findings of one run.

    Args:
        gram: (block, T, T) in the update basis.
        nonfinite: (block, T).
        zeros: (column, T), counts of zero values.
        columns: (tensor, size).
        trees: Blocks in other bases.
        left: Why blocks that lost digits were not computed in other bases, if they were not.
    """
    return [
        *identical(steps, fingerprints),
        *non_finite(steps, blocks, nonfinite),
        *zero_updates(steps, blocks, gram, nonfinite),
        *mostly_zero(steps, columns, zeros),
        *outliers(steps, blocks, gram),
        *lost_digits(steps, blocks, gram, nonfinite, error_of(precision), trees, left),
    ]


def identical(steps: NDArray[np.int64], fingerprints: Sequence[str]) -> list[Finding]:
    """Report checkpoints whose parameters are the same bytes."""
    same: dict[str, list[int]] = {}
    for step, fingerprint in zip(steps.tolist(), fingerprints, strict=True):
        same.setdefault(fingerprint, []).append(step)
    return [
        Finding(
            kind="identical",
            message=f"steps {_listed(group)} hold identical parameters",
            steps=tuple(group),
            details={"fingerprint": fingerprint},
        )
        for fingerprint, group in same.items()
        if len(group) > 1
    ]


def non_finite(steps: NDArray[np.int64], blocks: Sequence[Block], counts: NDArray[np.int64]) -> list[Finding]:
    """Report checkpoints with NaN or infinite values, and tensors that are undefined because they would leave no
    trajectory.

    Such checkpoints are stored and left out of every measure unless they are asked for.
    """
    steps_used, blocks_used = usable(counts)
    found = _undefined(steps, blocks, counts, blocks_used)
    for t in np.flatnonzero(~steps_used):
        bad = np.flatnonzero((counts[:, t] > 0) & blocks_used)
        tensors = list(dict.fromkeys(blocks[b].tensor for b in bad.tolist()))
        total = int(counts[bad, t].sum())
        found.append(
            Finding(
                kind="non-finite",
                severity="error",
                message=f"step {steps[t]} has {total} NaN or infinite values in {len(tensors)} tensors "
                f"({_listed(tensors)}); it is left out of the measures",
                steps=(int(steps[t]),),
                tensors=tuple(tensors[:20]),
            )
        )
    return found


def _undefined(
    steps: NDArray[np.int64], blocks: Sequence[Block], counts: NDArray[np.int64], used: NDArray[np.bool_]
) -> list[Finding]:
    if used.all():
        return []
    tensors = list(dict.fromkeys(blocks[b].tensor for b in np.flatnonzero(~used).tolist()))
    affected = int((counts[~used] > 0).any(axis=0).sum())
    finite = steps[~(counts > 0).any(axis=0)].tolist()
    where = f"at {affected} of {len(steps)} checkpoints"
    whole = (
        f"only {'steps' if len(finite) > 1 else 'step'} {_listed(finite)} {'are' if len(finite) > 1 else 'is'} finite in all tensors"
        if finite
        else "no checkpoint is finite in all tensors"
    )
    rest = len({b.tensor for b in blocks} - set(tensors))
    said = (
        f"{rest} other tensors are answered"
        if rest > 1
        else "1 other tensor is answered"
        if rest
        else "nothing is left"
    )
    return [
        Finding(
            kind="undefined-tensors",
            severity="error",
            message=f"{_listed(tensors)} {'have' if len(tensors) > 1 else 'has'} NaN or infinite values {where}, and {whole}: undefined, "
            f"as is every group that holds {'one of them' if len(tensors) > 1 else 'it'} (the network among them); {said}. "
            f"To have the groups without: {' '.join(f'--exclude {shlex.quote(p)}' for p in covering(tensors, {b.tensor for b in blocks}))}",
            tensors=tuple(tensors[:20]),
            details={"tensors": len(tensors), "finite": finite[:100]},
        )
    ]


def zero_updates(
    steps: NDArray[np.int64], blocks: Sequence[Block], gram: NDArray[np.float64], nonfinite: NDArray[np.int64]
) -> list[Finding]:
    """Report steps at which some blocks did not change at all: their update is the zero vector and has no direction."""
    diagonal = diagonals(gram)
    still = (diagonal[:, 1:] == 0) & ~np.isnan(diagonal[:, 1:])
    if len(steps) > 2 and not still.all():  # blocks that never change are reported once, by tensor
        still[still.all(axis=1)] = False
    tainted = ~usable(nonfinite)[0]
    found = []
    for t in range(still.shape[1]):
        if not still[:, t].any() or tainted[t] or tainted[t + 1]:
            continue
        names = [blocks[b].name for b in np.flatnonzero(still[:, t]).tolist()]
        between = f"between steps {steps[t]} and {steps[t + 1]}"
        everything = bool(still[:, t].all())
        found.append(
            Finding(
                kind="zero-update",
                severity="warning" if everything else "info",
                message=f"no parameter changed {between}"
                if everything
                else f"{len(names)} of {len(blocks)} blocks did not change {between}: {_listed(names)}",
                steps=(int(steps[t]), int(steps[t + 1])),
                tensors=tuple(names[:20]),
                details={"blocks": len(names)},
            )
        )
    return found


def diagonals(gram: NDArray[np.float64], above: int = 0) -> NDArray[np.float64]:
    """Return the diagonal of every block's Gram, or that so many places ``above`` it, (block, T − above)."""
    return np.array([np.diagonal(products, above).copy() for products in each(gram)])


def mostly_zero(
    steps: NDArray[np.int64], columns: Sequence[tuple[str, int]], zeros: NDArray[np.int64]
) -> list[Finding]:
    """Report tensors a large part of which is zero at a checkpoint, and not at most others: a sign of data lost in
    writing.

    A tensor that is zero as a whole (a bias at initialisation) is not reported; nor is one that is equally sparse
    throughout.
    """
    by_step: dict[int, list[str]] = {}
    for c, (name, size) in enumerate(columns):
        share = zeros[c] / max(1, size)
        sparse = (share >= ZERO_SHARE) & (share < 1)
        if size < 16 or not sparse.any() or np.median(share) >= ZERO_SHARE:
            continue
        for t in np.flatnonzero(sparse):
            by_step.setdefault(int(t), []).append(name)
    return [
        Finding(
            kind="mostly-zero",
            message=f"step {steps[t]}: {len(names)} tensors are zero in {ZERO_SHARE:.0%} or more of their values ({_listed(names)})",
            steps=(int(steps[t]),),
            tensors=tuple(names[:20]),
        )
        for t, names in sorted(by_step.items())
    ]


def outliers(steps: NDArray[np.int64], blocks: Sequence[Block], gram: NDArray[np.float64]) -> list[Finding]:
    """Report checkpoints that lie far from both neighbours while these are near each other: a swapped or foreign file
    or shard.

    For a block, step t is an outlier when ‖θ_{t+1} − θ_{t−1}‖ < 1/4 min(‖U_t‖, ‖U_{t+1}‖) and both updates are over 4 times the
    median of the block's. In training, consecutive updates are never so nearly opposite and so large at once.
    """
    diagonal = diagonals(gram)[:, 1:]
    if diagonal.shape[1] < 3:
        return []
    cross = diagonals(gram, 1)[:, 1:]
    left, right = diagonal[:, :-1], diagonal[:, 1:]
    with np.errstate(invalid="ignore"):
        around = np.maximum(left + 2 * cross + right, 0.0)
        nearest = np.minimum(left, right)
        median = np.nanmedian(diagonal, axis=1, keepdims=True)
        away = (around < OUTLIER_RATIO**2 * nearest) & (nearest > OUTLIER_JUMP**2 * median) & (median > 0)
    found = []
    for t in np.flatnonzero(away.any(axis=0)):
        names = list(dict.fromkeys(blocks[b].tensor for b in np.flatnonzero(away[:, t]).tolist()))
        ratio = float(np.sqrt(np.nanmax(nearest[away[:, t], t] / median[away[:, t], 0])))
        found.append(
            Finding(
                kind="outlier",
                message=f"step {steps[t + 1]} lies far from both neighbours in {len(names)} tensors ({_listed(names)}): "
                f"{ratio:.1f} times a usual update away and back",
                steps=(int(steps[t + 1]),),
                tensors=tuple(names[:20]),
                details={"blocks": int(away[:, t].sum()), "of": len(blocks)},
            )
        )
    return found


def lost_digits(
    steps: NDArray[np.int64],
    blocks: Sequence[Block],
    gram: NDArray[np.float64],
    nonfinite: NDArray[np.int64],
    error: float,
    trees: TreeTable | None = None,
    left: str = "",
) -> list[Finding]:
    """Report checkpoints with blocks whose norm is lost, in the sum of updates or in the tree of the block.

    It is undefined.
    """
    lost: dict[int, list[str]] = {}
    rebased = (
        {}
        if trees is None
        else {int(b): Tree(s, g) for b, s, g in zip(trees.block, trees.start, trees.gram, strict=True)}
    )
    for number, (block, products) in enumerate(zip(blocks, each(gram), strict=True)):
        tree = rebased.get(number)
        if tree is not None:
            undefined = _lost_in(tree, error)
        elif np.isfinite(products).all():
            norms, terms = (np.diagonal(m.cumsum(axis=0).cumsum(axis=1)) for m in (products, np.abs(products)))
            undefined = np.isnan(certain(norms, terms, error, np.zeros(len(norms), dtype=bool)))
        else:
            undefined = np.isinf(np.diagonal(products))  # NaN: of an estimate, a block that was not seen yet
        for t in np.flatnonzero(undefined & (nonfinite.sum(axis=0) == 0)):
            lost.setdefault(int(t), []).append(block.name)
    if not lost:
        return []
    names = list(dict.fromkeys(n for found in lost.values() for n in found))
    at = [int(steps[t]) for t in sorted(lost)]
    return [
        Finding(
            kind="lost-digits",
            message=f"steps {_listed(at)}: {len(names)} blocks ({_listed(names)}) change so much in size that their norms there have "
            "no digits left; what depends on them is undefined. Leave out the steps that are too large or too small with --steps"
            + (f"; {left}" if left else ""),
            steps=tuple(at),
            tensors=tuple(names[:20]),
            details={"blocks": len(names)},
        )
    ]


def _lost_in(tree: Tree, error: float) -> NDArray[np.bool_]:
    """Return the points whose norm is lost, and those whose distance from another point is lost, as a mask (T,)."""
    lengths = np.isnan(certain(*tree.distances, error, np.zeros((len(tree.gram) + 1,) * 2, dtype=bool)))
    gone = lengths[0, 1:]
    apart = lengths[1:, 1:] & ~gone[:, None] & ~gone[None, :]
    return np.asarray(gone | apart.any(axis=1))


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(str(i) for i in items[:SHOWN])
    return shown + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
