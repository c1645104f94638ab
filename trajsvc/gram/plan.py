"""The planner: (columns, T, memory) → slabs. A pure function; it reads nothing and knows no device.

A *column* is one tensor of the run for all checkpoints. A column is divided into *granules*, runs of elements whose length
depends on the tensor's size alone, so that the fingerprints and samples of two plans are comparable. A *segment* is a range of
granules of one column; a *slab* is a list of segments that is read, multiplied and made durable as one piece of work.

The first slabs are a stratified sample: granules from every block, at least ``LEAST_GRANULES``, so that every group's map has an
estimate, and its error an estimate too, after about 1 % of the bytes. Small blocks are read whole there. The remaining slabs read the
rest in order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Extent
from trajsvc.errors import LimitExceeded
from trajsvc.gram.pairs import pair_count

KERNEL = "fused-1"
"""Version of the arithmetic of a run's Grams; new checkpoints are not added to Grams of another version."""
GRANULE_MIN = 2**12
GRANULE_MAX = 2**16
LEAST_GRANULES = 4
"""granules of a block in the sample, if it has that many: neighbouring elements are alike (rows of an embedding that no token uses), so
that a single granule says little about the variation between granules"""
REPLICATES = 8
"""Parts of the sample for the jackknife; halved while they would take more than half the memory budget."""
MIB = 2**20
ON_DISK = 16
"""times the memory budget: what sums may take in files where they do not fit into the budget"""
WORKED_ON = 8
"""matrices of T × T in memory at once, where those of all blocks lie in files"""
ROW_NORMS = 3
"""Numbers that are kept of a row of a matrix at a checkpoint: squared norms of its update, its displacement, its weights."""
SLABS_WANTED = 96
SLAB_MIN = 16 * MIB
SLAB_MAX = 128 * MIB


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """What the planner needs of one tensor: its size, widest stored item, and the blocks it holds."""

    name: str
    size: int
    itemsize: int
    blocks: tuple[tuple[int, Extent], ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Elements [lo, hi) of one column. ``replicate`` is the jackknife replicate that a sampled granule belongs to, −1 where the tensor
    is read whole or the granule is no sample."""

    column: int
    lo: int
    hi: int
    replicate: int = -1

    @property
    def size(self) -> int:
        return self.hi - self.lo


@dataclass(frozen=True, slots=True)
class Slab:
    index: int
    segments: tuple[Segment, ...]
    sample: bool

    @property
    def elements(self) -> int:
        return sum(s.size for s in self.segments)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the result: slabs in order, rows, precision.

    ``new`` is the number of trailing checkpoints whose rows are computed (T for a new run, fewer for an append).
    """

    columns: tuple[ColumnSpec, ...]
    blocks: int
    rows: int
    new: int
    slabs: tuple[Slab, ...]
    slab_bytes: int
    threads: int
    replicates: int
    precision: str
    projected_memory: int
    row_bytes: int
    dtype: str | None = None
    """type that values are rounded to before anything is differenced; None: as they are stored"""
    known: int = 0
    """leading checkpoints whose fingerprints, zeros and rounding are known from a stored run, so that they are not looked at again"""
    sample_fraction: float = 0.0
    on_disk: bool = False
    """whether the blocks' sums and Grams lie in files while they are made, since the budget does not hold them"""
    row_widths: tuple[int, ...] = ()
    """of every block the width of its matrix's rows, whose norms are summed too, 0 where it has none; empty: no block's are"""

    @property
    def bytes(self) -> int:
        return self.row_bytes * self.rows

    @property
    def sample_slabs(self) -> int:
        return sum(s.sample for s in self.slabs)

    @property
    def file_bytes(self) -> int:
        """Bytes of the files in which sums and Grams lie while they are made; 0 where the budget holds them."""
        if not self.on_disk:
            return 0
        return file_bytes(self.blocks, self.rows, self.new) + rows_memory(self.matrix_rows, self.rows, self.new)

    def slab_read_bytes(self, slab: Slab) -> int:
        """Return the bytes read for one slab over all checkpoints (an upper bound when checkpoints differ in stored
        type).
        """
        return self.rows * sum(s.size * self.columns[s.column].itemsize for s in slab.segments)

    def block_sizes(self) -> np.ndarray:
        """Return the elements of every block; not to be changed."""
        return self._block_sizes

    @cached_property
    def _block_sizes(self) -> np.ndarray:
        sizes = np.zeros(self.blocks, dtype=np.int64)
        for column in self.columns:
            for block, extent in column.blocks:
                sizes[block] = extent.size
        return sizes

    @property
    def matrix_rows(self) -> int:
        """How many rows there are in all blocks whose rows are counted apart."""
        return int(self.row_places[-1])

    @cached_property
    def row_places(self) -> NDArray[np.int64]:
        """Where the rows of every block begin among those of all, and their total."""
        counts = [size // w if w else 0 for size, w in zip(self.block_sizes().tolist(), self.row_widths, strict=False)]
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def stratum_order(self, block: int) -> list[int]:
        """Return the replicates in the order in which their strata lie in a block."""
        column = self._column_of[block]
        return [(r + column) % self.replicates for r in range(self.replicates)]

    @cached_property
    def _column_of(self) -> dict[int, int]:
        return {block: index for index, column in enumerate(self.columns) for block, _ in column.blocks}

    def looked_at(self, slab: Slab, segment: Segment) -> list[tuple[int, int]]:
        """Return the columns [lo, hi) of a segment whose values are looked at for their rounding: those of the sample, which has slabs of
        its own unless checkpoints are added to a stored run.
        """
        if slab.sample:
            return [(segment.lo, segment.hi)]
        if not self.known:
            return []
        g = granule(self.columns[segment.column].size)
        chosen = self._sampled[segment.column]
        return [(k * g, min(segment.hi, (k + 1) * g)) for k in chosen if segment.lo <= k * g < segment.hi]

    @cached_property
    def _sampled(self) -> list[list[int]]:
        """The sampled granules of every column, in order."""
        return [list(sample_granules(c, self.sample_fraction)) for c in self.columns]

    def key(self) -> str:
        """Return a digest of all that the result's bits depend on; a journal written under another key is not resumed."""
        facts = {
            "columns": [asdict(c) for c in self.columns],
            "slabs": [[s.sample, [(g.column, g.lo, g.hi, g.replicate) for g in s.segments]] for s in self.slabs],
            "rows": [self.rows, self.new],
            "kernel": [KERNEL, self.replicates, self.precision, self.dtype],
            "counted": ["changes", self.known, *self.row_widths],
        }
        return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()


def granule(size: int) -> int:
    """Return the length of a granule of a tensor with ``size`` elements: a power of two near size/512, within 2^12 …
    2^16.
    """
    return min(GRANULE_MAX, max(GRANULE_MIN, 1 << (size // 512).bit_length()))


def make_plan(
    columns: Sequence[ColumnSpec],
    rows: int,
    *,
    new: int | None = None,
    known: int = 0,
    memory: int = 512 * MIB,
    threads: int = 2,
    sample_fraction: float = 0.01,
    precision: str = "float64",
    dtype: str | None = None,
    replicates: int = REPLICATES,
    workspace: int = 0,
    slab: int | None = None,
    reserve: int = 0,
    row_widths: Sequence[int] = (),
) -> Plan:
    """Cut ``columns`` × ``rows`` checkpoints into slabs that ``threads`` workers can hold within ``memory`` bytes.

    ``reserve`` bytes of the budget are left to the caller; every worker's kernel takes ``workspace`` bytes. ``slab`` (bytes) overrides
    what the budget suggests. With ``known`` (see ``Plan``) the sample has no slabs of its own: nothing is estimated, and columns are cut
    into fewer segments. ``row_widths``: see ``Plan``.
    Raises LimitExceeded (``memory-budget``) when even the smallest slabs do not fit; the message says what would.
    """
    columns = tuple(columns)
    new = rows if new is None else new
    blocks = 1 + max((b for c in columns for b, _ in c.blocks), default=-1)
    sampled = [sample_granules(c, sample_fraction) for c in columns]
    partial = _partly_sampled(columns, sampled)
    if partial == 0 or new < rows:
        replicates = 0
    row_bytes = sum(c.size * c.itemsize for c in columns)
    items = [_item_bytes(c, rows, new, row_widths) for c in columns]
    smallest = max((min(c.size, granule(c.size)) * item for c, item in zip(columns, items, strict=True)), default=0)
    counted = rows_memory(_matrix_rows(columns, row_widths), rows, new)
    wanted = max(slab or max(SLAB_MIN, rows * row_bytes // SLABS_WANTED), smallest)
    sums = _Sums(blocks, partial, rows, new)
    fit = _Room(memory, reserve + counted, threads, workspace, smallest, wanted).fit(sums, replicates, on_disk=False)
    if not fit.fits and file_bytes(blocks, rows, new) + counted <= ON_DISK * memory:
        fit = _Room(memory, reserve, threads, workspace, smallest, wanted).fit(sums, 0, on_disk=True)
    if not fit.fits:
        need = fit.fixed + threads * workspace + (threads + 1) * (smallest * 4 // 3 + 3 * fit.one_result)
        raise LimitExceeded(
            "memory-budget",
            f"{rows} checkpoints of {len(columns)} tensors do not fit the memory budget of {memory // MIB} MiB",
            hint=f"Give --memory {math.ceil(need / MIB) + 1}MiB, fewer --threads, or fewer checkpoints with --steps.",
        )
    most_blocks = max(1, min(blocks, fit.result_bytes // (2 * fit.one_result)))
    packer = _Packer(columns, items, fit.slab_bytes, most_blocks)
    apart: Sequence[Mapping[int, tuple[int, int]]] = [{}] * len(columns) if known else sampled
    slabs = packer.pack(_sample_segments(columns, apart, fit.replicates), sample=True)
    slabs += packer.pack(_rest_segments(columns, apart), sample=False, first=len(slabs))
    return Plan(
        columns, blocks, rows, new, tuple(slabs), fit.slab_bytes, threads, fit.replicates, precision,
        projected_memory=fit.fixed
        + threads * workspace
        + (threads + 1) * (fit.slab_bytes + 2 * fit.one_result * most_blocks), row_bytes=row_bytes, dtype=dtype,
        known=known, sample_fraction=sample_fraction, on_disk=fit.on_disk, row_widths=tuple(row_widths),
    )  # fmt: skip


@dataclass(frozen=True)
class _Sums:
    """What the sums are of: all ``blocks``, ``partial`` of which are read in part by the sample."""

    blocks: int
    partial: int
    rows: int
    new: int

    @property
    def one(self) -> int:
        return pair_count(self.rows, self.new) * 8


@dataclass(frozen=True)
class _Fit:
    """How the budget is shared out: what does not change, and the bytes of a slab and of its results."""

    fixed: int
    slab_bytes: int
    result_bytes: int
    one_result: int
    replicates: int
    fits: bool
    on_disk: bool


@dataclass(frozen=True)
class _Room:
    """The memory budget, and what takes of it whatever the slabs are."""

    memory: int
    reserve: int
    threads: int
    workspace: int
    smallest: int
    wanted: int

    def fit(self, sums: _Sums, replicates: int, *, on_disk: bool) -> _Fit:
        """Share the budget out, with fewer replicates where more would leave too little for the slabs."""
        while True:
            found = self._share(sums, replicates, on_disk=on_disk)
            if (found.fits and found.fixed <= self.memory // 2) or replicates <= 2:
                return found
            replicates //= 2

    def _share(self, sums: _Sums, replicates: int, *, on_disk: bool) -> _Fit:
        fixed = self.reserve + _fixed_memory(sums, replicates, on_disk=on_disk)
        share = (self.memory - fixed - self.threads * self.workspace) // (self.threads + 1)
        one_result = (2 + replicates) * sums.one
        slab_bytes = min(max(SLAB_MAX, self.smallest), self.wanted, share * 3 // 4, share - 2 * one_result)
        result_bytes = share - slab_bytes
        fits = slab_bytes >= self.smallest and result_bytes >= 2 * one_result
        return _Fit(fixed, slab_bytes, result_bytes, one_result, replicates, fits, on_disk)


def sample_granules(column: ColumnSpec, fraction: float) -> dict[int, tuple[int, int]]:
    """Choose the granules of the first pass, in order: for every block at random within equal strata of the block.

    The choice depends on the tensor's name, size and blocks alone. Returns granule → (its stratum, the number of strata
    of its block).
    """
    g = granule(column.size)
    total = -(-column.size // g)
    if total <= LEAST_GRANULES or fraction >= 1.0:
        return dict.fromkeys(range(total), (0, 1))
    seed = int.from_bytes(hashlib.blake2b(column.name.encode(), digest_size=8).digest(), "big")
    rng = np.random.default_rng(seed)
    chosen: dict[int, tuple[int, int]] = {}
    for _, extent in column.blocks:
        wanted = min(total, max(LEAST_GRANULES, round(fraction * extent.size / g)))
        places = ((np.arange(wanted) + rng.random(wanted)) / wanted * extent.size).astype(np.int64)
        outer, inner = np.divmod(np.minimum(places, extent.size - 1), extent.length)
        for stratum, k in enumerate(((outer * extent.stride + extent.start + inner) // g).tolist()):
            chosen.setdefault(k, (stratum, wanted))
    return dict(sorted(chosen.items()))


def replicate_of(stratum: int, strata: int, replicates: int, column: int) -> int:
    """Return the replicate of a sampled granule.

    Neighbouring strata go together. Every column begins at another replicate, so that columns with few strata use all
    replicates between them.
    """
    return (stratum * min(strata, replicates) // strata + column) % replicates


def _partly_sampled(columns: Sequence[ColumnSpec], sampled: Sequence[Mapping[int, object]]) -> int:
    return sum(len(c.blocks) for c, s in zip(columns, sampled, strict=True) if len(s) < -(-c.size // granule(c.size)))


def _fixed_memory(sums: _Sums, replicates: int, *, on_disk: bool) -> int:
    """Return the bytes of the sums and a copy of them while they are written, and of the jackknife's replicates, twice.

    Of sums on disk, those of the matrices of one block that are worked on.
    """
    if on_disk:
        return WORKED_ON * sums.rows * sums.rows * 8
    kept = 0 if sums.new == sums.rows else 2 * sums.blocks * sums.rows * sums.rows * 8
    return sums_memory(sums.blocks, sums.rows, sums.new) + kept + 2 * replicates * sums.partial * sums.one


def file_bytes(blocks: int, rows: int, new: int) -> int:
    """Return the bytes that the sums of the blocks, and the Grams that are made of them, take in files."""
    grams = blocks * rows * rows * 8
    return 2 * blocks * pair_count(rows, new) * 8 + (grams if new == rows else 2 * grams + blocks * new * rows * 8)


def sums_memory(blocks: int, rows: int, new: int | None = None) -> int:
    """Return the bytes that the sums of ``blocks`` take at least in memory, for ``new`` of ``rows`` checkpoints; all by default."""
    return 4 * blocks * pair_count(rows, rows if new is None else new) * 8


def rows_memory(count: int, rows: int, new: int) -> int:
    """Return the bytes that the norms of ``count`` rows of matrices take while they are made: the sums and a copy of them while they are
    written, and in an append those of the old checkpoints beside all of them.
    """
    return 8 * ROW_NORMS * count * (2 * new if new == rows else 2 * new + 2 * rows)


def _matrix_rows(columns: Sequence[ColumnSpec], widths: Sequence[int]) -> int:
    return sum(extent.size // widths[b] for c in columns for b, extent in c.blocks if widths and widths[b])


def _item_bytes(column: ColumnSpec, rows: int, new: int, widths: Sequence[int]) -> int:
    """Return the bytes that one element of a column takes in a slab: as stored at all checkpoints, and its share of the rows' norms."""
    narrowest = min((widths[b] for b, _ in column.blocks if widths and widths[b]), default=0)
    return column.itemsize * rows + (-(-8 * ROW_NORMS * new // narrowest) if narrowest else 0)


def _sample_segments(
    columns: Sequence[ColumnSpec], sampled: Sequence[Mapping[int, tuple[int, int]]], replicates: int
) -> list[Segment]:
    segments = []
    for index, (column, chosen) in enumerate(zip(columns, sampled, strict=True)):
        g = granule(column.size)
        whole = len(chosen) * g >= column.size
        for k, (stratum, strata) in chosen.items():
            replicate = -1 if whole or not replicates else replicate_of(stratum, strata, replicates, index)
            segments.append(Segment(index, k * g, min(column.size, (k + 1) * g), replicate))
    return segments


def _rest_segments(columns: Sequence[ColumnSpec], sampled: Sequence[Iterable[int]]) -> list[Segment]:
    segments = []
    for index, (column, chosen) in enumerate(zip(columns, sampled, strict=True)):
        g = granule(column.size)
        at = 0
        for k in [*chosen, -(-column.size // g)]:
            end = min(column.size, k * g)
            if end > at:
                segments.append(Segment(index, at, end))
            at = (k + 1) * g
    return segments


class _Packer:
    """Fills slabs with segments in order, cutting long ones at granules."""

    def __init__(self, columns: Sequence[ColumnSpec], items: Sequence[int], slab_bytes: int, max_blocks: int) -> None:
        self.columns, self.items, self.slab_bytes, self.max_blocks = columns, items, slab_bytes, max_blocks

    def pack(self, segments: Sequence[Segment], *, sample: bool, first: int = 0) -> list[Slab]:
        slabs: list[Slab] = []
        held: list[Segment] = []
        room, blocks = self.slab_bytes, 0
        for segment in segments:
            column = self.columns[segment.column]
            g = granule(column.size)
            item = self.items[segment.column]
            at = segment.lo
            while at < segment.hi:
                fits = room // item
                take = segment.hi - at if segment.hi - at <= fits else fits // g * g
                if held and (take <= 0 or blocks + len(column.blocks) > self.max_blocks):
                    slabs.append(Slab(first + len(slabs), tuple(held), sample))
                    held, room, blocks = [], self.slab_bytes, 0
                    continue
                take = take or min(g, segment.hi - at)
                held.append(Segment(segment.column, at, at + take, segment.replicate))
                at += take
                room -= take * item
                blocks += len(column.blocks)
        if held:
            slabs.append(Slab(first + len(slabs), tuple(held), sample))
        return slabs
