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
"""Times that the squared update is larger than those before and after it."""
STEPS: Final = 8
"""Steps that are looked at, those at which most tensors jump first."""
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
    for t in sorted(sorted(jumps, key=lambda t: -len(jumps[t]))[:STEPS]):
        said: dict[str, str] = {}
        first, rest = ([n for n in jumps[t] if n in kind][:TENSORS] for kind in kinds)
        for names in (first, rest):
            said |= _arranged(names, t, look)
        others = look.exchanged([n for n in first if n not in said], t - 1, t)
        if said or others:
            found.append(_finding(said, others, steps[t - 1], steps[t]))
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


def _jumps(blocks: Sequence[Block], gram: NDArray[np.float64], names: set[str]) -> Mapping[int, list[str]]:
    """Return checkpoint → the tensors that jump to it."""
    members: dict[str, list[int]] = {}
    for b, block in enumerate(blocks):
        if block.tensor in names:
            members.setdefault(block.tensor, []).append(b)
    found: dict[int, list[str]] = {}
    for name, group in members.items():
        release(gram)
        whole = gram[group[0]] if len(group) == 1 else np.asarray(sum(gram[b] for b in group))
        if not np.isfinite(whole).all():
            continue
        updates = np.diagonal(whole)[1:]
        norms = np.cumsum(np.cumsum(whole, axis=0), axis=1).diagonal()
        beside = np.zeros((2, len(updates)))
        beside[0, 1:], beside[1, :-1] = updates[:-1], updates[1:]
        jumped = (updates >= JUMP * (norms[:-1] + norms[1:])) & (updates > BESIDE * beside.max(axis=0)) & (updates > 0)
        for t in np.flatnonzero(jumped).tolist():
            found.setdefault(t + 1, []).append(name)
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
