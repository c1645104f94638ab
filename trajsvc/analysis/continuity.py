"""Report where checkpoints do not continue the ones before them: steps of several runs or in another order, breaks, tensors that jump.

Everything is computed from the Gram, so that it holds for any source and needs no further pass over the bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import each
from storage_schema.models.results import Finding
from trajsvc.anatomy.blocks import Block

Array = NDArray[np.float64]

NEARER: Final = 2.0
"""Times that an earlier checkpoint is nearer than the one before, from which on a checkpoint is said to continue the earlier one."""
EVENTS: Final = 3
"""Checkpoints that continue an earlier one, from which on the order of all is in question."""
BROKEN: Final = 4.0
"""Times that an update is longer, per step, than both beside it, from which on it is a break."""
APART: Final = 0.25
"""Squared update of a tensor, relative to the sum of its squared norms before and after, from which on it is a jump: a cosine of 0.75."""
RESCALED: Final = 0.05
"""How far from 1 a factor is told."""
RESIDUAL: Final = 1 / 16
"""Squared distance that a factor must leave at most of the squared update that it explains."""
SHOWN: Final = 4
LEAST: Final = 4
"""Checkpoints without which nothing is said of their order."""


def continuity(
    blocks: Sequence[Block],
    gram: NDArray[np.float64],
    steps: Sequence[int],
    used: NDArray[np.bool_],
    explained: Mapping[int, Collection[str]],
) -> list[Finding]:
    """Return one finding for the order of the checkpoints and one for every interval that breaks the trajectory.

    Args:
        gram: (block, T, T) in the update basis, all blocks in one unit.
        steps: (T,).
        used: (T,): checkpoints that are finite.
        explained: step → tensors of which it is known how they are stored otherwise from there on.
    """
    if len(steps) < LEAST:
        return []
    whole = np.zeros(gram.shape[1:])
    jumps: dict[int, dict[str, str]] = {}
    spans = np.diff(np.asarray(steps, np.float64))
    for tensor, products in _tensors(blocks, gram):
        if not np.isfinite(products).all():
            continue
        whole += products
        for t, how in _jumps(products, spans, used).items():
            if tensor not in explained.get(steps[t], ()):
                jumps.setdefault(t, {})[tensor] = how
    breaks = _breaks(whole, spans, used)
    distances, at = _distances(whole, used)
    order = _order(distances, [int(steps[t]) for t in at], {at.index(t) for t in breaks if t in at})
    if order is not None:
        return [order]
    return [
        _jump(jumps.get(t, {}), breaks.get(t), steps[t - 1], steps[t], _back(distances, at, t, steps))
        for t in sorted({*jumps, *breaks})
        if t in jumps or steps[t] not in explained
    ]


def _tensors(blocks: Sequence[Block], gram: NDArray[np.float64]) -> Iterator[tuple[str, Array]]:
    """Yield each tensor with its Gram, the sum over its blocks, which lie beside each other."""
    name, total = "", np.zeros(0)
    for block, products in zip(blocks, each(gram), strict=True):
        if block.tensor == name:
            total = total + products
            continue
        if name:
            yield name, total
        name, total = block.tensor, products
    if name:
        yield name, total


def _breaks(products: Array, spans: Array, used: NDArray[np.bool_]) -> dict[int, float]:
    """Return checkpoint → how many times longer, per step, the update to it is than the longer of those beside it."""
    lengths = np.sqrt(np.maximum(np.diagonal(products)[1:], 0.0)) / spans
    beside = np.maximum(lengths[:-2], lengths[2:])
    broken = (beside > 0.0) & (lengths[1:-1] > BROKEN * beside)
    whole = used[:-3] & used[1:-2] & used[2:-1] & used[3:]
    return {int(k) + 2: float(lengths[k + 1] / beside[k]) for k in np.flatnonzero(broken & whole)}


def _jumps(products: Array, spans: Array, used: NDArray[np.bool_]) -> dict[int, str]:
    """Return checkpoint → how a tensor breaks there: the factor that explains it, or how many times further than beside it it moves."""
    broken = _breaks(products, spans, used)
    if not broken:
        return {}
    inner = products.cumsum(axis=0).cumsum(axis=1)
    found = {}
    for t, ratio in broken.items():
        before, after, both = inner[t - 1, t - 1], inner[t, t], inner[t - 1, t]
        moved = products[t, t]
        factor = both / before if before > 0.0 else 1.0
        if abs(factor - 1.0) >= RESCALED and after - factor * both <= RESIDUAL * moved:
            found[t] = f"is multiplied by {factor:.4g}"
        elif moved >= APART * (before + after):
            found[t] = f"moves {ratio:.3g} times as far as in the intervals beside it"
    return found


def _order(distances: Array, steps: Sequence[int], breaks: Collection[int]) -> Finding | None:
    """Report checkpoints that continue an earlier one than the one before."""
    sequences: list[list[int]] = []
    nearer: dict[int, float] = {}
    back: set[int] = set()
    for t in range(len(steps)):
        nearest, times = _nearest(distances, t)
        if times > NEARER:
            nearer[t] = times
            back.add(t - nearest)
        elif t in breaks:
            nearest = t  # the first of another sequence
        else:
            nearest = t - 1
        for members in sequences:
            if members[-1] == nearest:
                members.append(t)
                break
        else:
            sequences.append([t])
    if len(nearer) < max(EVENTS, len(steps) / 20):
        return None
    named = [[steps[t] for t in members] for members in sorted(sequences, key=lambda s: -len(s))]
    swings = ", or a training that swings back and forth at every checkpoint" if back == {2} else ""
    rest = len(named) - SHOWN
    more = f" and {rest} more sequence{'s' if rest > 1 else ''}" if rest > 0 else ""
    return Finding(
        kind="order",
        message=f"{len(nearer)} of {len(steps)} checkpoints lie nearer to an earlier one than to the one before (median: "
        f"{np.median(list(nearer.values())):.3g} times): steps of several runs in one folder, or not in the order of training{swings}. "
        f"Steps that continue each other: {'; '.join(_brief(members) for members in named[:SHOWN])}{more}. "
        "Analyse one sequence with --steps, or say how steps are named with --step-pattern",
        steps=tuple(steps[t] for t in sorted(nearer))[:100],
        details={"sequences": [members[:1000] for members in named[:20]]},
    )


def _nearest(distances: Array, t: int) -> tuple[int, float]:
    """Return the nearest checkpoint before ``t``, and how many times nearer it is than the last before ``t``."""
    if t == 0:
        return 0, 1.0
    nearest = int(distances[t, :t].argmin())
    last, least = float(distances[t, t - 1]), float(distances[t, nearest])
    return nearest, last / least if least > 0.0 else float("inf")


def _back(distances: Array, at: Sequence[int], t: int, steps: Sequence[int]) -> int | None:
    """Return the step of the earlier checkpoint that checkpoint ``t`` continues; None: the one before."""
    if t not in at:
        return None
    nearest, times = _nearest(distances, at.index(t))
    return int(steps[at[nearest]]) if times > NEARER else None


def _distances(products: Array, used: NDArray[np.bool_]) -> tuple[Array, list[int]]:
    """Return distances between the checkpoints that are used and differ from the one before, and which they are."""
    updates = products.copy()
    updates[0] = updates[:, 0] = 0.0
    inner = updates.cumsum(axis=0).cumsum(axis=1)
    squares = np.diagonal(inner)
    at = [t for t in np.flatnonzero(used).tolist() if t == 0 or updates[t, t] > 0.0]
    found = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2.0 * inner, 0.0))
    return found[np.ix_(at, at)], at


def _jump(tensors: Mapping[str, str], ratio: float | None, before: int, after: int, back: int | None) -> Finding:
    ways: dict[str, list[str]] = {}
    for name, how in tensors.items():
        ways.setdefault(how if "multiplied" in how else "", []).append(name)
    moved = ways.pop("", [])
    parts = [f"{_names(names)} {how}" for how, names in ways.items()]
    if moved:
        parts.append(f"{_names(moved)} jump{'s' if len(moved) == 1 else ''}")
    if ratio is not None:
        parts.append(f"the network moves {ratio:.3g} times as far per step as in the intervals beside it")
    if back is not None:
        parts.append(f"to near step {back}, from which training may have gone on")
    return Finding(
        kind="jump",
        message=f"from step {before} to {after} {', '.join(parts)}: another run's checkpoints, a restart, values that were reset "
        "or rescaled, or a sudden change of training itself. "
        f"If it is not training, analyse ..{before} and {after}.. apart with --steps",
        steps=(before, after),
        tensors=tuple(list(tensors)[:20]),
        details={"tensors": dict(list(tensors.items())[:100]), "times": ratio, "near": back},
    )


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _brief(steps: Sequence[int]) -> str:
    shown = [str(s) for s in steps]
    if len(shown) > 5:
        shown = [*shown[:3], "…", shown[-1]]
    return f"{' '.join(shown)} ({len(steps)})"
