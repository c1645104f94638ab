"""Report tensors that are stored in another arrangement from some checkpoint on.

The Gram shows where a tensor jumps; only there are values read again (``trajsvc.trajectory.arrangement``). Nothing is
put back: which arrangement is right, only the files' owner knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import release
from storage_schema.models.results import Finding
from trajsvc.anatomy.blocks import Block

JUMP: Final = 0.25
"""Squared update from which on it is a jump, relative to the sum of the squared norms before and after: 1 for two unrelated points of
equal norm, 0.25 for a cosine of 0.75."""
BESIDE: Final = 4.0
"""Times that the squared update is larger than the smaller of those before and after it."""
STEPS: Final = 16
"""Steps that are looked at, those at which a tensor jumps furthest for it."""
FIRST: Final = 8
"""Tensors that are looked at where a step is in question; the rest of those that jump, where one of them is rearranged."""
TENSORS: Final = 256
SHOWN: Final = 4


class Look(Protocol):
    """What reads values of tensors that jump: ``trajsvc.trajectory.arrangement``."""

    def of(self, name: str, before: int, after: int) -> str | None:
        """Say how a tensor is arranged at checkpoint ``after``; None where no arrangement explains it."""

    def exchanged(self, names: Sequence[str], before: int, after: int) -> dict[str, str]:
        """Return tensor at ``after`` → the other one that held its values at ``before``."""


def arrangements(
    blocks: Sequence[Block],
    gram: NDArray[np.float64],
    steps: Sequence[int],
    look: Look,
    matrices: Collection[str],
    vectors: Collection[str] = (),
) -> list[Finding]:
    """Return one warning for each step from which on tensors are arranged otherwise.

    Args:
        gram: (block, T, T) in the update basis.
        look: reads values; see ``Look``.
        matrices: Tensors of two axes or more.
        vectors: Tensors of one axis.
    """
    found = []
    kinds = set(matrices), set(vectors)
    jumps = _jumps(blocks, gram, set().union(*kinds))
    for t in sorted(sorted(jumps, key=lambda t: -max(jumps[t].values()))[:STEPS]):
        said: dict[str, str] = {}
        furthest = sorted(jumps[t], key=lambda n: -jumps[t][n])
        first, rest = ([n for n in furthest if n in kind][:TENSORS] for kind in kinds)
        for names in (first, rest):
            said |= _arranged(names, t, look)
        others = look.exchanged([n for n in first if n not in said], t - 1, t)
        if said or others:
            in_order = {name: said[name] for name in jumps[t] if name in said}
            found.append(_finding(in_order, others, steps[t - 1], steps[t]))
    return found


def _arranged(names: Sequence[str], t: int, look: Look) -> dict[str, str]:
    """Return tensor → how it is arranged at checkpoint ``t``, seen from the one before."""
    said: dict[str, str] = {}
    for k, name in enumerate(names):
        if k == FIRST and not said:
            break
        if how := look.of(name, t - 1, t):
            said[name] = how
    return said


def _jumps(blocks: Sequence[Block], gram: NDArray[np.float64], names: set[str]) -> Mapping[int, dict[str, float]]:
    """Return checkpoint → the tensors that jump to it, each with how many times the usual its squared update is."""
    members: dict[str, list[int]] = {}
    for b, block in enumerate(blocks):
        if block.tensor in names:
            members.setdefault(block.tensor, []).append(b)
    found: dict[int, dict[str, float]] = {}
    for name, group in members.items():
        release(gram)
        whole = gram[group[0]] if len(group) == 1 else np.asarray(sum(gram[b] for b in group))
        if not np.isfinite(whole).all():
            continue
        updates = np.diagonal(whole)[1:]
        norms = np.cumsum(np.cumsum(whole, axis=0), axis=1).diagonal()
        beside = np.full((2, len(updates)), np.inf)
        beside[0, 1:], beside[1, :-1] = updates[:-1], updates[1:]
        usual = beside.min(axis=0)  # one of both may be the way back
        usual[~np.isfinite(usual)] = 0.0
        jumped = (updates >= JUMP * (norms[:-1] + norms[1:])) & (updates > BESIDE * usual) & (updates > 0)
        for t in np.flatnonzero(jumped).tolist():
            found.setdefault(t + 1, {})[name] = float(updates[t] / usual[t]) if usual[t] > 0 else np.inf
    return found


def _finding(said: Mapping[str, str], others: Mapping[str, str], before: int, after: int) -> Finding:
    ways: dict[str, list[str]] = {}
    for name, how in said.items():
        ways.setdefault(how, []).append(name)
    parts = [f"{', '.join(names[:SHOWN])}{_more(names)} {how}" for how, names in ways.items()]
    if others:
        shown = [f"{name} with the values of {other}" for name, other in list(others.items())[:SHOWN]]
        parts.append(f"{', '.join(shown)}{_more(list(others))}{' exchanged likewise' if len(others) > SHOWN else ''}")
    every = {**said, **{name: f"with the values of {other}" for name, other in others.items()}}
    return Finding(
        kind="rearranged",
        message=f"from step {after} on {len(every)} tensor{'s are' if len(every) > 1 else ' is'} stored in another arrangement: "
        f"{'; '.join(parts)}. Distances and angles across that step are of the files, not of training: "
        f"analyse ..{before} and {after}.. apart with --steps, or save the checkpoints of one side as those of the other",
        steps=(before, after),
        tensors=tuple(list(every)[:20]),
        details={"tensors": dict(list(every.items())[:100])},
    )


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
