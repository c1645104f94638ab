"""Compute blocks again whose digits are lost in the update basis, along a tree of differences that serves each of them.

Lost are the digits of a block where a checkpoint is far larger than those around it, or far smaller than those before, and where squares
are beyond what float64 holds. The certificate of its Gram says so (``trajsvc.measures.base.certain``). Its bytes are then read twice more:
for the inner products of its points, from which the tree is chosen (``trajsvc.gram.spanning``), and for those of the tree's legs. Blocks
that a tree serves alike share it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import Allocate, disk, pages_of, release, roomy
from storage_schema.runs.contents import RunContents, TreeTable
from trajsvc.analysis.observer import Observer
from trajsvc.analysis.options import Options
from trajsvc.errors import LimitExceeded
from trajsvc.gram import spanning
from trajsvc.gram.engine import SlabPool, compute
from trajsvc.gram.kernels.choose import KernelFactory, workspace
from trajsvc.gram.kernels.tree import TreeFactory
from trajsvc.gram.plan import ColumnSpec, Plan, make_plan
from trajsvc.gram.slab_worker import Theta
from trajsvc.gram.sums import GramState, appended
from trajsvc.measures.base import DOUBLE_ERROR, certain, error_of, limit_of
from trajsvc.measures.geometry import squared_distances
from trajsvc.measures.trees import Tree

Array = NDArray[np.float64]

MARGIN: Final = 2.0**-5
"""Blocks are held to this share of the error that is allowed in float64, so that sums of them keep to it and cosines to 1e-12."""
SINGLE_MARGIN: Final = 0.5
"""The same in float32, where a second pass should be rare."""
SMALL: Final = 1e-200
"""Squared norms below this have squared updates that float64 does not hold."""
SHARE: Final = 16
"""The points of the blocks that are computed again together, and the trees of all, take one in so many parts of the budget in memory."""
RESCALED: Final = 768
"""Power of two by which values are scaled whose squares exceed the range of float64: all scaled float64 values have squares within it."""


@dataclass(frozen=True)
class Basis:
    """A tree whose legs are those of the update basis, begun elsewhere; the points ``unused`` are no part of the trajectory."""

    starts: NDArray[np.int64]
    unused: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rebasing:
    """The inputs for computing blocks again; ``key`` names the work."""

    theta: Theta
    plan: Plan
    options: Options
    pool: SlabPool
    stop: threading.Event
    key: str
    folder: Path
    reserve: int

    def trees(self, blocks: Sequence[int]) -> TreeTable | None:
        """Compute ``blocks`` along trees; None if there are none.

        Raises what reading raises, LimitExceeded and Cancelled.
        """
        if not blocks:
            return None
        order, rows = sorted(blocks), self.plan.rows
        place = {block: i for i, block in enumerate(order)}
        start, scale = np.zeros((len(order), rows), np.int64), np.zeros(len(order), np.int64)
        grams = self.allocate((len(order), rows, rows))
        for i in range(0, len(order), self._at_once):
            for block, starts, exponent, gram in self._batch(order[i : i + self._at_once]):
                start[place[block]], scale[place[block]], grams[place[block]] = starts, exponent, gram
                release(grams)
        return TreeTable(np.array(order), start, scale, grams)

    @property
    def _at_once(self) -> int:
        """How many blocks are computed together: their points take a sixteenth of the budget."""
        return max(1, self.options.memory // (SHARE * 8 * self.plan.rows**2))

    @property
    def allocate(self) -> Allocate:
        """Where trees of blocks lie: in a file if they take more than a share of the budget."""
        return roomy(self.folder, self.options.memory // SHARE)

    def _batch(self, blocks: Sequence[int]) -> Iterator[tuple[int, NDArray[np.int64], int, Array]]:
        exponents, points = self._points(blocks)
        for exponent in sorted(set(exponents.values())):
            mine = [b for b in blocks if exponents[b] == exponent]
            for starts, served in spanning.shared([spanning.distances(points[b]) for b in mine]):
                tree = [mine[i] for i in served]
                grams = self._pass(tree, starts, exponent)
                for block, gram in zip(tree, grams, strict=True):
                    yield block, starts, -exponent, gram

    def _points(self, blocks: Sequence[int]) -> tuple[dict[int, int], dict[int, Array]]:
        """Return, for every block, the exponent of the power of two that its values are multiplied by, and its points'
        inner products.
        """
        star = np.zeros(self.plan.rows, dtype=np.int64)
        points = dict(zip(blocks, self._pass(blocks, star, 0), strict=True))
        exponents = {b: _exponent(gram) for b, gram in points.items()}
        for exponent in {e for e in exponents.values() if e}:
            moved = [b for b in blocks if exponents[b] == exponent]
            points |= dict(zip(moved, self._pass(moved, star, exponent), strict=True))
        return exponents, points

    def _pass(self, blocks: Sequence[int], starts: NDArray[np.int64], exponent: int) -> Array:
        """Compute inner products of the legs of one tree, for ``blocks``, (n, T, T)."""
        plan, options = self.plan, self.options
        again = make_plan(
            _columns(plan.columns, blocks),
            plan.rows,
            memory=options.memory,
            reserve=self.reserve + 3 * 8 * plan.rows**2 * self._at_once,
            threads=options.threads,
            dtype=plan.dtype,
            replicates=0,
            workspace=2 * workspace(options.device, plan.rows, "float64"),
        )
        return compute(
            self.theta,
            again,
            TreeFactory(KernelFactory.of(options.device, again), tuple(starts.tolist()), exponent),
            self.pool,
            stop=self.stop,
            key=f"{again.key()[:16]}-{_hash(starts, exponent)}-{self.key}",
            folder=self.folder,
            allocate=disk(self.folder) if again.on_disk else np.zeros,
        ).gram


def _hash(starts: NDArray[np.int64], exponent: int) -> str:
    """Return a short name of a basis."""
    return hashlib.sha256(starts.tobytes() + str(exponent).encode()).hexdigest()[:12]


def rebased(
    work: Rebasing,
    state: GramState,
    old: RunContents | None,
    observer: Observer,
    basis: Basis | None = None,
) -> tuple[TreeTable | None, str]:
    """Compute the blocks of a run that the update basis does not serve along trees; None if it serves all.

    Blocks that do not fit the memory budget are left as they are, and the second value says so, and what would be
    enough. What the sums hold of the budget is not the passes'. They are computed again in float64, whatever the precision of the run
    is, and held to what it promises. ``basis``, where given, is the tree that the sums are read along instead of the path of updates.
    """
    if not state.exact:
        return None, ""
    lost = lost_blocks(work.theta, state, old, basis)
    if not lost:
        return None, ""
    observer.note(
        f"computing again, in another basis: blocks whose digits are lost in that of the updates ({len(lost)})"
    )
    try:
        return replace(work, reserve=work.reserve + held(state, old)).trees(lost), ""
    except LimitExceeded as error:
        said = f"to compute these blocks again does not fit the memory budget of {work.options.memory >> 20} MiB: {error.hint}"
        observer.note(f"not computed again ({len(lost)} blocks): {said}")
        return None, said


def held(state: GramState, old: RunContents | None) -> int:
    """Return the bytes of memory that the sums of a run, and its Grams before an append, keep."""
    kept = [state.sums] if old is None else [state.sums, old.gram]
    return sum(values.nbytes for values in kept if pages_of(values) is None)


def lost_blocks(theta: Theta, state: GramState, old: RunContents | None, basis: Basis | None = None) -> list[int]:
    """Return the blocks whose digits are lost in the update basis, or in another ``basis``, at any two points."""
    _, same = np.unique(state.fingerprint, return_inverse=True)
    column_of = {block: number for number, c in enumerate(state.plan.columns) for block, _ in c.blocks}
    found = []
    for block in range(state.plan.blocks):
        column = column_of[block]
        size = state.plan.columns[column].size
        tiny = "float64" in theta.dtypes(column) and (state.zeros[column] < size).any()
        rows = state.block_gram(block)
        gram = rows if old is None else appended(old.gram[block : block + 1], rows[None])[0]
        if _is_lost(gram, same, error_of(state.plan.precision), small=bool(tiny), basis=basis):
            found.append(block)
    return found


def _is_lost(
    gram: Array, same: NDArray[np.int64], error: float, *, small: bool = False, basis: Basis | None = None
) -> bool:
    """Return whether a block loses digits in the update basis; ``small``: its values are not all zero, and may be tiny."""
    squares = np.diagonal(gram)
    if not np.isfinite(gram).all():
        return True
    if squares.max() == 0.0:
        return small
    limit = (MARGIN if error <= DOUBLE_ERROR else SINGLE_MARGIN) * limit_of(error)
    lengths = squared_distances(gram, error, same, limit) if basis is None else _along(basis, gram, same, error, limit)
    return bool(np.isnan(lengths).any() or (small and lengths[0].max() < SMALL))


def _along(basis: Basis, gram: Array, same: NDArray[np.int64], error: float, limit: float) -> Array:
    """Return the squared distances between the stations of a tree that are used, NaN where they are lost."""
    sums, terms = Tree(basis.starts, gram).distances
    returned = np.zeros_like(sums, dtype=bool)
    returned[1:, 1:] = same[:, None] == same[None, :]
    lengths = certain(sums, terms, error, returned, limit)
    used = np.delete(np.arange(len(lengths)), [point + 1 for point in basis.unused])
    return lengths[np.ix_(used, used)]


def _exponent(points: Array) -> int:
    """Return the exponent of the power of two that brings the squares of most points of a block into the range of
    float64.
    """
    squares = np.diagonal(points)
    squares = np.where(np.isnan(squares), np.inf, squares)[squares != 0.0]
    usual = float(np.median(squares)) if squares.size else 1.0
    if usual > 1.0 / SMALL:
        return -RESCALED
    return RESCALED if usual < SMALL else 0


def _columns(columns: Sequence[ColumnSpec], blocks: Sequence[int]) -> list[ColumnSpec]:
    """Return all columns, of which those without ``blocks`` are empty; the blocks are renumbered."""
    number = {block: i for i, block in enumerate(blocks)}
    found = []
    for column in columns:
        own = tuple((number[block], extent) for block, extent in column.blocks if block in number)
        found.append(replace(column, blocks=own) if own else replace(column, blocks=(), size=0))
    return found
