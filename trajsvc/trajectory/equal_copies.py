"""Find parameters that were saved twice, such as an output head beside the embedding that it is tied to.

One of the two may have more rows, which fill a vocabulary up to a round number, and may be stored in another type: the rows that both
have are compared, to the rounding of the coarser type. Copies are counted once; what is equal at some checkpoints alone is two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import MANTISSA_BITS
from trajsvc.sources.base import TensorEntry
from trajsvc.trajectory.values import WINDOW, Values, alike

EMBEDDING: Final = re.compile(
    r"(?:.+\.)?(?:embed_in|wte|embed_tokens|(?:word|tok|token)_?embed\w*|shared|embed(?:ding)?s?)\.weight\Z"
)
HEAD: Final = re.compile(
    r"(?:.+\.)?(?:embed_out|lm_head|head|unembed\w*|output|decoder|proj_out|generator\w*)\.weight\Z"
)
FIRST: Final = 16
"""Leading values by which tensors are taken for possible copies."""
COARSE: Final = 2.0**-6
"""Relative difference of values that may be equal to the rounding of any stored type."""
OVER_NETWORK: Final = 64
"""Checkpoints of a source on a network at which a window is compared."""


@dataclass(frozen=True)
class Copies:
    """Copies among the tensors of a run."""

    of: Mapping[str, str] = field(default_factory=dict)
    """tensor → the tensor counted in its place, which it equals at every checkpoint that has both, in the rows that both have"""
    more_rows: frozenset[str] = frozenset()
    """those of ``of`` whose further rows change: parameters that are not counted"""
    own: Mapping[str, str] = field(default_factory=dict)
    """tensor → the one that the config ties it to, whose values are others"""
    at_times: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    """tensor → another that it equals at some checkpoints alone, and their steps; both are counted"""


def equal_copies(values: Values, samples: Mapping[str, NDArray[np.float64]]) -> Copies:
    """Find copies among matrices; ``samples`` are windows of each at the last checkpoint that has it, the leading one first.

    The one kept is the one that more checkpoints have, an embedding rather than a head, the one with more rows, of
    the finer type, or the earlier.
    """
    entries = {n: values.headers[values.having(n)[-1]][1][n] for n in samples}
    usable = {
        n: s
        for n, s in samples.items()  # biases of branches that are added to one another have equal gradients
        if len(entries[n].shape) > 1 and s.size > 1 and np.isfinite(s).all() and np.ptp(s) > 0
    }
    partners = _partners(usable, entries)
    order = sorted(
        (n for n in samples if n in partners),
        key=lambda n: (
            (-len(values.having(n)), bool(HEAD.match(n)), not EMBEDDING.match(n)),
            (-entries[n].shape[0], -MANTISSA_BITS[entries[n].dtype]),
        ),
    )
    place = {n: i for i, n in enumerate(order)}
    found: dict[str, str] = {}
    partly: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in order:
        for other in sorted((n for n in partners[name] if place[n] < place[name]), key=place.__getitem__):
            if other in found or not _change(values, other, name):
                continue
            if _always_equal(values, other, name):
                found[name] = other
                break
            partly.setdefault(name, (other, _steps_equal(values, other, name)))
    for head, embedding in _heads(list(samples)):
        having = values.having(head, embedding)
        known = head in found or embedding in found or head in partly
        if len(having) < 2 or known or not all(_equal_in_windows(values, having[:1], embedding, head)):
            continue
        steps = _steps_equal(values, embedding, head)
        if len(steps) < len(having):
            partly[head] = (embedding, steps)
        elif _change(values, embedding, head) and _always_equal(values, embedding, head):
            found[head] = embedding  # the last checkpoint that has both is not the last of each
    partly = {n: pair for n, pair in partly.items() if n not in found and len(pair[1]) > 1}
    return Copies(found, _with_more_rows(values, found), at_times=partly)


def tied_heads(values: Values, names: Sequence[str], untied: bool) -> Copies:
    """Find output heads that equal an embedding, by their names: what is asked of a source on a network. A window decides whether more
    are read; none is where the config says that a head of the embedding's shape and type is ``untied``: if it is a copy all the same, its
    Gram shows that.
    """
    found: dict[str, str] = {}
    partly: dict[str, tuple[str, tuple[int, ...]]] = {}
    for head, embedding in _heads(names):
        having = values.having(head, embedding)
        if head in found or len(having) < 2 or (untied and _same_kind(values, having[-1], head, embedding)):
            continue
        if not all(_equal_in_windows(values, having[-1:], embedding, head, 1)):
            continue
        looked = having[:: -(-len(having) // OVER_NETWORK)]
        whole = (having[-1], having[len(having) // 2], having[0])
        if all(_equal(values, t, embedding, head) for t in dict.fromkeys(whole)) and all(
            _equal_in_windows(values, looked, embedding, head, 1)
        ):
            found[head] = embedding
        else:
            partly[head] = (embedding, _steps_equal(values, embedding, head, looked))
    return Copies(found, _with_more_rows(values, found), at_times={n: p for n, p in partly.items() if len(p[1]) > 1})


def not_equal(values: Values, pairs: Mapping[str, str]) -> dict[str, str]:
    """Return those of ``pairs`` that do not hold equal values at the first and the last checkpoint that have both."""
    out = {}
    for name, other in pairs.items():
        having = values.having(name, other)
        if not all(_equal(values, t, name, other) for t in dict.fromkeys(having[-1:] + having[:1])):
            out[name] = other
    return out


def common(one: TensorEntry, other: TensorEntry) -> int:
    """Return the number of elements of the rows that two tensors of one width have; 0 where they are no such or one has twice the rows."""
    a, b = one.shape, other.shape
    if a == b:
        return one.size
    if len(a) < 2 or a[1:] != b[1:] or 2 * min(a[0], b[0]) <= max(a[0], b[0]):
        return 0
    return min(a[0], b[0]) * prod(a[1:])


def _partners(samples: Mapping[str, NDArray[np.float64]], entries: Mapping[str, TensorEntry]) -> dict[str, list[str]]:
    """Return tensor → those whose sampled values are equal to rounding, of tensors that have such."""
    alike_widths: dict[tuple[int, ...], list[str]] = {}
    for name in samples:
        alike_widths.setdefault(entries[name].shape[1:], []).append(name)
    found: dict[str, list[str]] = {}
    for names in alike_widths.values():
        if len(names) < 2:
            continue
        first = min(FIRST, *(samples[n].size for n in names))
        leading = np.stack([samples[n][:first] for n in names])
        order = np.argsort(leading[:, 0], kind="stable")
        names, leading = [names[i] for i in order], leading[order]
        beyond = np.searchsorted(leading[:, 0], leading[:, 0] + COARSE * np.abs(leading[:, 0]) + COARSE**4, "right")
        for i, name in enumerate(names):
            near = np.isclose(leading[i + 1 : beyond[i]], leading[i], rtol=COARSE, atol=COARSE**4).all(axis=1)
            for j in (i + 1 + np.flatnonzero(near)).tolist():
                if _samples_equal(samples[name], samples[names[j]], entries[name], entries[names[j]]):
                    found.setdefault(name, []).append(names[j])
                    found.setdefault(names[j], []).append(name)
    return found


def _samples_equal(
    one: NDArray[np.float64], other: NDArray[np.float64], entry: TensorEntry, another: TensorEntry
) -> bool:
    if not common(entry, another):
        return False
    if entry.shape == another.shape:
        return alike(one, other, entry.dtype, another.dtype)
    first = min(WINDOW, one.size, other.size, common(entry, another))
    return alike(one[:first], other[:first], entry.dtype, another.dtype)


def _heads(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of an output head and an embedding, by their names."""
    inputs = [n for n in names if EMBEDDING.match(n)]
    return [(head, name) for head in names if HEAD.match(head) for name in inputs if name != head]


def _same_kind(values: Values, checkpoint: int, *names: str) -> bool:
    entries = [values.headers[checkpoint][1][n] for n in names]
    return len({(e.shape, e.dtype) for e in entries}) == 1


def _change(values: Values, one: str, other: str) -> bool:
    """Return whether both tensors change, and two checkpoints or more have both."""
    having = values.having(one, other)
    ends = (having[0], having[-1]) if having else (0, 0)
    return len(having) > 1 and not any(values.equal((ends[0], n), (ends[1], n)) for n in (one, other))


def _always_equal(values: Values, one: str, other: str) -> bool:
    """Return whether two tensors are equal at every checkpoint: whole at the first and the last, in windows between."""
    having = values.having(one, other)
    return all(_equal(values, t, one, other) for t in (having[-1], having[0])) and all(
        _equal_in_windows(values, having[1:-1], one, other)
    )


def _steps_equal(values: Values, one: str, other: str, checkpoints: Sequence[int] | None = None) -> tuple[int, ...]:
    looked = values.having(one, other) if checkpoints is None else checkpoints
    same = _equal_in_windows(values, looked, one, other)
    return tuple(values.step(t) for t, equal in zip(looked, same, strict=True) if equal)


def _equal(values: Values, checkpoint: int, one: str, other: str) -> bool:
    first, second = (values.headers[checkpoint][1][n] for n in (one, other))
    size = common(first, second)
    return size > 0 and values.equal((checkpoint, one), (checkpoint, other), (0, size))


def _equal_in_windows(values: Values, checkpoints: Sequence[int], one: str, other: str, count: int = 4) -> list[bool]:
    """Return for each of ``checkpoints`` whether two tensors are equal in ``count`` windows, which are asked for at once."""
    sizes = [common(*(values.headers[t][1][n] for n in (one, other))) for t in checkpoints]
    wanted = [
        [w for n in (one, other) for w in values.windows(t, n, count, (0, size))] if size else []
        for t, size in zip(checkpoints, sizes, strict=True)
    ]
    found = iter(values.read([w for windows in wanted for w in windows]))
    out = []
    for t, windows in zip(checkpoints, wanted, strict=True):
        read = [next(found) for _ in windows]
        half = len(read) // 2
        kinds = [values.headers[t][1][n].dtype for n in (one, other)]
        out.append(half > 0 and all(alike(a, b, *kinds) for a, b in zip(read[:half], read[half:], strict=True)))
    return out


def _with_more_rows(values: Values, found: Mapping[str, str]) -> frozenset[str]:
    """Return the copies with rows beyond those that are counted, which change."""
    out = set()
    for name, other in found.items():
        having = values.having(name, other)
        ends = having[0], having[-1]
        size = {common(*(values.headers[t][1][n] for n in (name, other))) for t in ends}
        whole = {values.headers[t][1][name].size for t in ends}
        beyond = (min(size), max(whole))
        steady = len(size) == len(whole) == 1 and beyond[0] < beyond[1]
        if steady and not values.equal((ends[0], name), (ends[1], name), beyond):
            out.add(name)
    return frozenset(out)
