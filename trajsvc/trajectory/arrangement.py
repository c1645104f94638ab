"""Find by its values whether a tensor is stored in another arrangement than at the checkpoint before: transposed, with its rows or
columns in another order, under another tensor's name, or less 1.

Names and shapes say nothing of it: a square matrix that was saved as [in, out] and is now [out, in] fits, and so does a fused
projection whose halves changed places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.trajectory.values import CHUNK, Values, Window

Array = NDArray[np.float64]

EXPLAINED: Final = 0.25
"""Share of the squared distance that may be left when a tensor is put back as it was."""
SHIFTED: Final = 0.01
"""The same of a vector to which 1 is added. A gain that grows from 0 towards 1 has more."""
SHORTEST: Final = 8
"""Elements of the shortest vector of which anything is said."""
LEAST: Final = 64
"""Elements of the smallest tensor of which anything is said."""
MOST: Final = 2**26
"""Elements of the largest tensor whose rows are looked for."""
WHOLE: Final = 2**20
"""Elements up to which a tensor is read whole, so that columns too can be looked for."""
SIDE: Final = 256
"""Rows and columns of the corner of a matrix that is compared with its transpose."""
ROWS: Final = 48
"""Rows that are looked for."""
PARTS: Final = (2, 3, 4, 6, 8)
"""Equal parts whose order is told."""


class Arrangements:
    """What values say of the arrangement of tensors that jump from one checkpoint to the next; see ``analysis.arrangements.Look``."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def of(self, name: str, before: int, after: int) -> str | None:
        """Say how tensor ``name`` at ``after`` is arranged, seen from ``before``; None where nothing explains it."""
        return rearranged(self.values, name, before, after)

    def exchanged(self, names: Sequence[str], before: int, after: int) -> dict[str, str]:
        """Return tensor at ``after`` → the other of ``names`` whose values it had at ``before``."""
        return exchanged(self.values, names, before, after)


def exchanged(values: Values, names: Sequence[str], before: int, after: int) -> dict[str, str]:
    """Return tensor at checkpoint ``after`` → the other of ``names`` that held its values at ``before``.

    Compared are windows of tensors of one shape: b_j holds a_i where ‖b_j − a_i‖² ≤ ``EXPLAINED``·‖b_j − a_j‖², i is nearest of all,
    and nearest to no other. Raises what the source raises.
    """
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        first, second = values.entry(before, name), values.entry(after, name)
        if first is not None and second is not None and first.shape == second.shape and first.size >= LEAST:
            shapes.setdefault(first.shape, []).append(name)
    found: dict[str, str] = {}
    for alike in shapes.values():
        if len(alike) > 1:
            a, b = (np.stack([_sample(values, t, n) for n in alike]) for t in (before, after))
            found |= {alike[j]: alike[i] for j, i in _exchanges(a, b)}
    return found


def _exchanges(a: Array, b: Array) -> list[tuple[int, int]]:
    """Return (row of ``b``, another row of ``a`` that it is nearest to)."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return []
    distance = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2.0 * a @ b.T
    nearest, least = distance.argmin(axis=0), distance.min(axis=0)
    found = [(j, int(i)) for j, i in enumerate(nearest) if i != j and max(0.0, least[j]) <= EXPLAINED * distance[j, j]]
    taken = [i for _, i in found]
    return [(j, i) for j, i in found if taken.count(i) == 1]


def _sample(values: Values, checkpoint: int, name: str) -> Array:
    return np.concatenate(values.read(values.windows(checkpoint, name)))


def _shifted(values: Values, name: str, before: int, after: int) -> str | None:
    """Say whether a vector is stored less 1, as the weights of normalisations that multiply by 1 + w are; or no more so.

    A constant is at its initialisation: nothing is said of it.
    """
    a, b = (_sample(values, t, name) for t in (before, after))
    if a.size < SHORTEST or not np.isfinite(a).all() or np.ptp(a) == 0.0:
        return None
    for shift, how in ((-1.0, "with 1 taken from every element"), (1.0, "with 1 added to every element")):
        if _explains(a + shift, a, b, SHIFTED):
            return how
    return None


def rearranged(values: Values, name: str, before: int, after: int) -> str | None:
    """Say how tensor ``name`` at checkpoint ``after`` is arranged as seen from checkpoint ``before``; None where nothing explains it.

    An arrangement P explains it where ‖b − P(a)‖² ≤ ``EXPLAINED``·‖b − a‖² over what is looked at, in float64.
    Raises what the source raises.
    """
    first, second = values.entry(before, name), values.entry(after, name)
    if first is None or second is None or first.shape != second.shape:
        return None
    if len(first.shape) == 1:
        return _shifted(values, name, before, after)
    if len(first.shape) < 2 or first.size < LEAST:
        return None
    if first.size > MOST:
        return None
    if first.size <= WHOLE:
        a, b = values.read([Window(t, name, 0, first.size) for t in (before, after)])
        return _of_whole(a.reshape(first.shape), b.reshape(first.shape))
    rows = first.shape[0]
    if len(first.shape) == 2 and rows == first.shape[1]:
        side = min(rows, SIDE)
        corners = values.read([Window(t, name, 0, side * rows) for t in (before, after)])
        a, b = (c.reshape(side, rows)[:, :side] for c in corners)
        if _explains(a.T, a, b):
            return TRANSPOSED
    return _of_rows(_some_rows(values, before, name, rows), _chunks(values, after, name, rows), rows, "rows")


TRANSPOSED: Final = "transposed"


def _of_whole(a: Array, b: Array) -> str | None:
    for one, other in ((-2, -1), (0, 1)):
        if a.shape[one] == a.shape[other] and _explains(a.swapaxes(one, other), a, b):
            return TRANSPOSED
    for axis, what in enumerate(("rows", "columns") if a.ndim == 2 else ("first axis", "second axis")):
        x, y = (np.ascontiguousarray(v.swapaxes(0, axis)).reshape(v.shape[axis], -1) for v in (a, b))
        wanted = _spread(len(x))
        if said := _of_rows({i: x[i] for i in wanted}, iter([(0, y)]), len(x), what):
            return said
    if a.ndim == 2 and a.shape[0] == a.shape[1]:
        x = np.ascontiguousarray(a.T)
        if said := _of_rows({i: x[i] for i in _spread(len(x))}, iter([(0, b)]), len(x), "rows"):
            return f"{TRANSPOSED}, and {said}"
    if a.ndim > 2:
        turned = tuple(range(2, a.ndim))
        if turned and _explains(np.flip(a, turned), a, b):
            return "with its kernels turned round"
        x, y = (v.reshape(-1, v.shape[-1]) for v in (a, b))
        return _of_rows({i: x[i] for i in _spread(len(x))}, iter([(0, y)]), len(x), "rows")
    return None


def _explains(moved: Array, a: Array, b: Array, share: float = EXPLAINED) -> bool:
    rest, whole = float(np.sum((b - moved) ** 2)), float(np.sum((b - a) ** 2))
    return bool(np.isfinite(whole)) and whole > 0.0 and rest <= share * whole


def _spread(rows: int) -> list[int]:
    """Return rows all over a matrix."""
    return sorted({round(k * (rows - 1) / (ROWS - 1)) for k in range(ROWS)})


def _some_rows(values: Values, checkpoint: int, name: str, rows: int) -> dict[int, Array]:
    entry = values.entry(checkpoint, name)
    assert entry is not None
    width = entry.size // rows
    wanted = _spread(rows)
    found = values.read([Window(checkpoint, name, i * width, (i + 1) * width) for i in wanted])
    return dict(zip(wanted, found, strict=True))


def _chunks(values: Values, checkpoint: int, name: str, rows: int) -> Iterator[tuple[int, Array]]:
    entry = values.entry(checkpoint, name)
    assert entry is not None
    width = entry.size // rows
    step = max(1, CHUNK // width)
    for low in range(0, rows, step):
        high = min(rows, low + step)
        (found,) = values.read([Window(checkpoint, name, low * width, high * width)])
        yield low, found.reshape(high - low, width)


def _of_rows(wanted: dict[int, Array], chunks: Iterator[tuple[int, Array]], count: int, what: str) -> str | None:
    """Look for each of the ``wanted`` rows among all ``count`` rows of the other checkpoint, by the least distance.

    The nearest must be that near to what is second too: of many rows of few columns one is near to any row by chance.
    """
    index = list(wanted)
    mine = np.stack([wanted[i] for i in index])
    if count < 4 or mine.shape[1] < 2 or not np.isfinite(mine).all():
        return None
    squares = (mine**2).sum(axis=1)
    same, place = np.full(len(index), np.inf), np.zeros(len(index), np.int64)
    nearest = np.full((len(index), 2), np.inf)
    for low, theirs in chunks:
        if not np.isfinite(theirs).all():
            return None
        distance = np.maximum(squares[:, None] + (theirs**2).sum(axis=1) - 2.0 * mine @ theirs.T, 0.0)
        best, least = distance.argmin(axis=1), distance.min(axis=1)
        place = np.where(least < nearest[:, 0], low + best, place)
        nearest = np.sort(
            np.hstack([nearest, np.partition(distance, 1, axis=1)[:, :2] if len(theirs) > 1 else distance])
        )[:, :2]
        for k, i in enumerate(index):
            if low <= i < low + len(theirs):
                same[k] = distance[k, i - low]
    found, second = nearest.sum(axis=0)
    moved = place.tolist() != index and len(set(place.tolist())) == len(index)
    if not moved or found > EXPLAINED * min(float(same.sum()), float(second)):
        return None
    return f"with its {what} {_order(index, place.tolist(), count)}"


def _order(index: list[int], place: list[int], count: int) -> str:
    """Say in words which order takes each row of ``index`` to its ``place``."""
    for parts in PARTS:
        if count % parts:
            continue
        size = count // parts
        moved = {i // size: p // size for i, p in zip(index, place, strict=True)}
        if all(moved[i // size] * size + i % size == p for i, p in zip(index, place, strict=True)):
            if parts == 2:
                return "in halves that changed places"
            order = ", ".join(str(part + 1) for part in sorted(moved, key=moved.__getitem__))
            return f"in {parts} equal parts, now in the order {order}"
    for parts in PARTS[:3]:
        if count % parts:
            continue
        size = count // parts
        if all(p == i % size * parts + i // size for i, p in zip(index, place, strict=True)):
            return f"of {parts} equal parts taken in turn, one of each"
        if all(p == i % parts * size + i // parts for i, p in zip(index, place, strict=True)):
            return f"in {parts} equal parts, where they were taken in turn, one of each"
    return "in another order"
