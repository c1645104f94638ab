"""Report tensors that may not be parameters in one warning: those that never change, move like an average or a queue,
hold most of all movement with few elements, or are named like a buffer.

Numbers computed with such a tensor are not wrong, but may not be what was asked for: a table that holds most of the
norm makes every map 1. Known kinds were left out before; about the others the user decides, with the line of
``--exclude`` that is given.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import each, release
from storage_schema.models.results import Finding
from trajsvc.anatomy.blocks import Block
from trajsvc.anatomy.buffers import like_a_buffer, parameter_by_name
from trajsvc.anatomy.patterns import covering
from trajsvc.trajectory.equal_copies import HEAD

WEIGHT: Final = 1e-6
"""Share of the squared norm from which on a tensor that never changes matters."""
LEAST: Final = 64
"""Elements of the smallest queue."""
REPLACED: Final = 0.02
"""Smallest update of a queue, relative to its norm: a row in some thousands."""
MEMORY: Final = 0.4
"""Largest cosine between any two checkpoints of a tensor that keeps nothing of what it was."""
MUCH: Final = 0.1
"""Share of the squared updates of all tensors from which on one may outweigh the others."""
FEW: Final = 20
"""Times that its share of the updates is larger than that of the elements. Adam moves all elements about alike."""
STEADY: Final = 0.05
"""Relative spread of the norm of a queue, whose rows are replaced by others of their kind."""
SHOWN: Final = 5


def suspects(
    blocks: Sequence[Block],
    gram: NDArray[np.float64],
    nonfinite: NDArray[np.int64],
    *,
    averages: Mapping[str, str],
    doubtful: Mapping[str, str],
    matrices: Collection[str] = (),
    others: Sequence[str] = (),
) -> list[Finding]:
    """Return one warning, or none.

    Args:
        gram: (block, T, T) in the update basis.
        nonfinite: (block, T).
        averages: tensor → what it is a moving average of.
        doubtful: tensor → another reason for doubt.
        matrices: Tensors of two axes or more.
        others: Names of tensors that are left out.
    """
    members: dict[str, list[int]] = {}
    for b, block in enumerate(blocks):
        members.setdefault(block.tensor, []).append(b)
    if not members or gram.shape[1] < 2:
        return []
    sizes = {name: sum(blocks[b].size for b in group) for name, group in members.items()}
    norms = {name: _norms(_sum(gram, group)) for name, group in members.items()}
    whole = np.nansum(list(norms.values()), axis=0)
    moved = _movements(gram, members)
    elements = sum(sizes.values())
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = {name: float(np.nanmax(np.append(n / whole, 0.0))) for name, n in norms.items()}
    said: dict[str, str] = {}
    for name, group in members.items():
        found = _sum(gram, group)
        if nonfinite[group].any() or not np.isfinite(found).all():
            continue
        why = (
            _behaviour(found, norms[name], sizes[name])
            or _named(name, averages, doubtful)
            or _outweighs(name, moved[name], sizes[name] / elements)
        )
        if why is not None and (shares[name] >= WEIGHT or why != STILL):
            said[name] = why
    if all(said.get(n) == STILL for n in members):
        said = {}  # nothing changes at all, which is said of the checkpoints
    said |= {
        name: f"always equals {other}"
        for name, other in _equal(gram, {n: members[n] for n in members if n in matrices}, norms, sizes, said).items()
    }
    return [_finding(said, shares, [*members, *others])] if said else []


def _sum(gram: NDArray[np.float64], group: Sequence[int]) -> NDArray[np.float64]:
    """Return the Gram of a tensor: the sum of its blocks'."""
    release(gram)
    return gram[group[0]] if len(group) == 1 else np.asarray(sum(gram[b] for b in group))


def _norms(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared norms of the points, (T,)."""
    return np.maximum(np.cumsum(np.cumsum(gram, axis=0), axis=1).diagonal(), 0.0)


STILL: Final = "never changes"
QUEUE: Final = "is replaced piece by piece, like a queue"


def _behaviour(gram: NDArray[np.float64], norms: NDArray[np.float64], size: int) -> str | None:
    """Describe how a tensor moves, by its Gram; None if it moves like a parameter."""
    updates = np.diagonal(gram)[1:]
    if not updates.any():
        return STILL if norms.max() > 0 else None
    return QUEUE if size >= LEAST and (_disjoint(gram, norms) or _forgetful(gram, norms)) else None


def _disjoint(gram: NDArray[np.float64], norms: NDArray[np.float64]) -> bool:
    """Return whether a tensor moves like a queue whose rows are replaced in turn.

    Each update changes other rows, so that one update and the next are orthogonal to the last bit.
    """
    updates = np.diagonal(gram)[1:]
    both = (updates[1:] > 0) & (updates[:-1] > 0)
    if both.sum() < 2 or np.median(updates[updates > 0] / norms[:-1][updates > 0].clip(min=1e-300)) < REPLACED**2:
        return False
    return not np.diagonal(gram, 1)[1:][both].any()


def _forgetful(gram: NDArray[np.float64], norms: NDArray[np.float64]) -> bool:
    """Return whether a tensor moves like a queue all of whose rows were replaced: it is uncorrelated with its past at a
    constant norm.
    """
    if len(norms) < 3 or norms.min() <= 0 or np.ptp(np.sqrt(norms)) > STEADY * np.sqrt(norms).mean():
        return False
    cosines = np.abs(np.cumsum(np.cumsum(gram, axis=0), axis=1) / np.sqrt(np.outer(norms, norms)))
    near, far = np.diagonal(cosines, 1), cosines[np.triu_indices(len(norms), 2)]
    return bool(near.max() <= MEMORY and far.max() <= MEMORY) or bool(near.max() <= 0.6 and far.max() <= 0.05)


def _movements(gram: NDArray[np.float64], members: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return each tensor's share of the sum of the squared updates of all; what is not finite counts for nothing."""
    diagonal = np.array([part.diagonal()[1:].copy() for part in each(gram)])
    moved = {name: float(np.nansum(diagonal[group][np.isfinite(diagonal[group])])) for name, group in members.items()}
    total = sum(moved.values())
    return {name: own / total if total > 0 else 0.0 for name, own in moved.items()}


def _outweighs(name: str, moved: float, elements: float) -> str | None:
    """Describe a tensor that holds much of all movement with few of the elements, as a counter or a statistic does.

    Weights, biases and parameters that are known to be few and large (``logit_scale``, ``A_log``) are no such.
    """
    if moved < MUCH or moved < FEW * elements or parameter_by_name(name):
        return None
    return f"moves more than all others of its size: {_percent(moved)} of all movement in {_percent(elements)} of the elements"


def _named(name: str, averages: Mapping[str, str], doubtful: Mapping[str, str]) -> str | None:
    if name in averages:
        return f"moves like an average of {averages[name]}"
    return doubtful.get(name) or ("is named like a buffer" if like_a_buffer(name) else None)


def _equal(
    gram: NDArray[np.float64],
    members: Mapping[str, Sequence[int]],
    norms: Mapping[str, NDArray[np.float64]],
    sizes: Mapping[str, int],
    said: Mapping[str, str],
) -> dict[str, str]:
    """Return tensor → another of its size whose Gram is the same: a copy.

    Biases are left out by the caller: those of branches that are added to one another have equal gradients, and stay
    equal.
    """
    order = sorted((n for n in members if n not in said and len(norms[n]) > 2), key=lambda n: (sizes[n], norms[n][-1]))
    found: dict[str, str] = {}
    for one, other in pairwise(order):
        if sizes[one] != sizes[other] or sizes[one] < 2:
            continue
        a, b = _sum(gram, members[one]), _sum(gram, members[other])
        if np.diagonal(a)[1:].all() and np.allclose(a, b, rtol=1e-6, atol=0.0):
            first, second = sorted((one, other), key=lambda n: (bool(HEAD.match(n)), list(members).index(n)))
            found[second] = first
    return found


def _finding(said: Mapping[str, str], shares: Mapping[str, float], names: Sequence[str]) -> Finding:
    order = sorted(said, key=lambda n: -shares[n])
    total = sum(shares[n] for n in order)
    patterns = covering(order, names)
    line = " ".join(f"--exclude {shlex.quote(p)}" for p in patterns)
    shown = "; ".join(f"{n} {said[n]} ({_percent(shares[n])} of the squared norm)" for n in order[:SHOWN])
    more = f"; and {len(order) - SHOWN} more, together {_percent(min(1.0, total))}" if len(order) > SHOWN else ""
    tensors = f"{len(order)} tensors may be no parameters" if len(order) > 1 else "1 tensor may be no parameter"
    return Finding(
        kind="suspect-tensors",
        message=f"{tensors}, and {'are' if len(order) > 1 else 'is'} counted: {shown}{more}. If so, leave "
        f"{'them' if len(order) > 1 else 'it'} out: {line}",
        tensors=tuple(order[:20]),
        details={"exclude": patterns, "tensors": {n: {"why": said[n], "share": shares[n]} for n in order[:100]}},
    )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{share:.1e}"
