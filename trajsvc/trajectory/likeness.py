"""Find tensors that move as averages of others by their values, whatever they are called.

An exponential moving average lies, at every checkpoint, near a convex combination of what it was and what its model is:
new ≈ old + Σ a_i (other_i − old), a_i ≥ 0, Σ a_i ≤ 1. Updates of tensors that are trained on their own are nearly
orthogonal to any such direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.trajectory.equal_copies import EMBEDDING, HEAD
from trajsvc.trajectory.values import Values

SLACK: Final = 0.05
"""How far the weights of a combination may go beyond 1: the model goes on moving between two checkpoints."""
EXPLAINED: Final = 0.5
"""Share of the squared updates of a tensor that another must explain for it to be called an average."""
UPDATES: Final = 3
"""Updates that are looked at, spread over the run."""
LEAST: Final = 64
"""Elements of the smallest tensor that is looked at: chance explains 2/n of an update."""
ALIKE: Final = 32
"""Tensors of one shape that are all compared; of more, those whose names are alike."""
TENSORS: Final = 1024


def like_averages(values: Values, names: Sequence[str]) -> dict[str, str]:
    """Return tensor → the other tensor of the same shape that it is a moving average of.

    Tested are matrices among ``names`` of ``values``' checkpoints; tensors beside them under the same names follow.
    Raises what the source raises.
    """
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name in names[:TENSORS]:
        entry = values.entry(0, name)
        if entry is not None and len(entry.shape) > 1 and entry.size >= LEAST and entry.strides is None:
            shapes.setdefault(entry.shape, []).append(name)
    found: dict[str, str] = {}
    for alike in shapes.values():
        if len(alike) > 1:
            found |= _one_of_each_pair(_among(values, alike))
    return _with_neighbours(found, values, names)


def _among(values: Values, names: Sequence[str]) -> dict[str, str]:
    """Return the averages among tensors of one shape."""
    chosen = _updates(len(values))
    if not chosen:
        return {}
    partners = _partners(names)
    asked = [n for n in names if partners[n]]
    samples = {(t, n): _sample(values, t, n) for t in sorted({t for pair in chosen for t in pair}) for n in asked}
    found = {}
    for name in asked:
        totals = [(samples[b, name] - samples[a, name]) for a, b in chosen]
        moved = sum(float(u @ u) for u in totals)
        if not np.isfinite(moved) or moved == 0.0:
            continue
        best, by = 0.0, ""
        for other in partners[name]:
            most = sum(
                _most(samples[b, name] - samples[a, name], [samples[t, other] - samples[a, name] for t in (a, b)])
                for a, b in chosen
            )
            if not most >= EXPLAINED * moved * (1.0 - SLACK):
                continue
            explained = [
                explained_by_average(samples[a, name], samples[b, name], [samples[a, other], samples[b, other]])
                for a, b in chosen
            ]
            if sum(explained) > best and _always(explained, [float(u @ u) for u in totals]):
                best, by = sum(explained), other
        if best >= EXPLAINED * moved:
            found[name] = by
    return found


def _one_of_each_pair(found: Mapping[str, str]) -> dict[str, str]:
    """Leave the model out of ``found`` where tensors explain each other, so that not all of them are taken for averages: of a head and its
    embedding, which may be equal at times, the embedding, of others the first.
    """
    kept: dict[str, str] = {}
    for name, other in found.items():
        turned = EMBEDDING.match(name) and HEAD.match(other)
        kept.setdefault(other if turned else name, name if turned else other)
    for name in sorted(found, key=lambda n: (bool(HEAD.match(n)), not EMBEDDING.match(n))):
        seen, other = {name}, kept.get(name, "")
        while other in kept and other not in seen:
            seen.add(other)
            other = kept[other]
        if other == name:
            del kept[name]
    return kept


def _always(explained: Sequence[float], moved: Sequence[float]) -> bool:
    """Return whether the updates but the largest are explained too.

    A tensor that takes another's place once, as where names were exchanged, is no average of it.
    """
    largest = max(range(len(moved)), key=moved.__getitem__)
    rest = [i for i in range(len(moved)) if i != largest]
    return sum(explained[i] for i in rest) >= EXPLAINED * sum(moved[i] for i in rest)


def _updates(checkpoints: int) -> list[tuple[int, int]]:
    """Return pairs of neighbouring checkpoints, spread over the run; none if there are too few to tell."""
    if checkpoints < 3:
        return []
    starts = {t * (checkpoints - 2) // (UPDATES - 1) for t in range(UPDATES)}
    return [(t, t + 1) for t in sorted(starts)]


def _partners(names: Sequence[str]) -> dict[str, list[str]]:
    """Return name → those it is compared with: all others, or if there are many those that differ from it in one part
    that is no number.
    """
    if len(names) <= ALIKE:
        return {n: [o for o in names if o != n] for n in names}
    keys: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        for key in _keys(name):
            keys.setdefault(key, []).append(name)
    found: dict[str, list[str]] = {n: [] for n in names}
    for together in keys.values():
        if 1 < len(together) <= ALIKE:
            for name in together:
                found[name] += [o for o in together if o != name and o not in found[name]]
    return found


def _keys(name: str) -> list[tuple[str, ...]]:
    """Return the name, and the name with each part that is no number replaced by ``*`` and left out."""
    parts = name.split(".")
    words = [i for i, part in enumerate(parts) if not part.isdigit()]
    opened = [(*parts[:i], "*", *parts[i + 1 :]) for i in words]
    return [tuple(parts), *opened, *((*parts[:i], *parts[i + 1 :]) for i in words)]


def _sample(values: Values, checkpoint: int, name: str) -> NDArray[np.float64]:
    return np.concatenate(values.read(values.windows(checkpoint, name)))


def _with_neighbours(found: Mapping[str, str], values: Values, names: Sequence[str]) -> dict[str, str]:
    """Add to ``found`` the other tensors of the same towers: biases and others too small to test by themselves."""
    every = set(names)
    out = dict(found)
    for name, other in found.items():
        mine, theirs = _prefixes(name, other)
        for candidate in names:
            if candidate in out or not candidate.startswith(mine):
                continue
            twin = theirs + candidate[len(mine) :]
            one, two = values.entry(0, candidate), values.entry(0, twin)
            if twin in every and twin not in out and one is not None and two is not None and one.shape == two.shape:
                out[candidate] = twin
    return out


def _prefixes(name: str, other: str) -> tuple[str, str]:
    """Return what two names begin with before their longest common end of whole parts."""
    a, b = name.split("."), other.split(".")
    same = 0
    while same < min(len(a), len(b)) - 1 and a[-1 - same] == b[-1 - same]:
        same += 1
    mine, theirs = ".".join(a[: len(a) - same]), ".".join(b[: len(b) - same])
    return (f"{mine}." if same else mine), (f"{theirs}." if same else theirs)


def _most(update: NDArray[np.float64], directions: Sequence[NDArray[np.float64]]) -> float:
    """Return the part of ‖update‖² in the span of two directions: no combination of them explains more."""
    first, second = directions
    if not all(np.isfinite(v).all() for v in (update, first, second)):
        return 0.0
    total, square = 0.0, float(first @ first)
    if square > 0.0:
        total += float(update @ first) ** 2 / square
        second = second - (float(second @ first) / square) * first
    square = float(second @ second)
    return total + (float(update @ second) ** 2 / square if square > 0.0 else 0.0)


def explained_by_average(
    old: NDArray[np.float64], new: NDArray[np.float64], others: Sequence[NDArray[np.float64]]
) -> float:
    """Return the part of ‖new − old‖² that a convex combination of ``old`` and some of ``others`` explains, by least
    squares.

    0 if no such combination helps.
    """
    update = new - old
    directions = [other - old for other in others]
    return max(_explained(update, chosen) for chosen in (*([d] for d in directions), directions))


def _explained(update: NDArray[np.float64], directions: Sequence[NDArray[np.float64]]) -> float:
    basis = np.stack(directions, axis=1)
    if not np.isfinite(basis).all() or not np.isfinite(update).all():
        return 0.0
    weights = np.linalg.lstsq(basis, update, rcond=None)[0]
    if (weights < 0).any() or weights.sum() > 1.0 + SLACK:
        return 0.0
    rest = update - basis @ weights
    return max(0.0, float(update @ update - rest @ rest))
