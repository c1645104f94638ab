"""The results of a slab and their running sum, as plain arrays that a journal can keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import Allocate, release
from trajsvc.gram.extents import position
from trajsvc.gram.pairs import add_exactly, matrices, pair_count
from trajsvc.gram.plan import ROW_NORMS, Plan, Slab
from trajsvc.gram.rounding import ValueStatistics

Arrays = dict[str, NDArray[np.generic]]

AT_ONCE: Final = 2**22
"""Bytes of Grams that are made of sums together."""


@dataclass
class SlabResult:
    """Partial sums of the blocks that one slab covers; first axis: ``blocks``, each block once."""

    slab: int
    blocks: NDArray[np.int64]
    sums: NDArray[np.float64]
    """(nb, 2, pairs): sums of products, and what they lost"""
    seen: NDArray[np.int64]
    """(nb,) elements added"""
    nonfinite: NDArray[np.int64]
    """(nb, T)"""
    rounding: NDArray[np.float64]
    """(nb, T, 2) sums of ``rounding.observe``; (0, T, 2) where nothing is looked at"""
    looked: NDArray[np.int64]
    """(nb,) elements that those are of"""
    statistics: ValueStatistics
    fingerprint: NDArray[np.uint64]
    """(T,) sum over granules of a 64-bit hash of their bytes, modulo 2^64: no order, so any plan gives the same"""
    crc: NDArray[np.uint32]
    """(segments, T) CRC-32 of each segment's bytes, 0 where the archive keeps none"""
    zeros: NDArray[np.int64]
    """(segments, T) values that are zero"""
    changes: NDArray[np.int64]
    """(nb, T, 2) values whose stored bits changed, and those that changed twice in succession: ``kernels.changes``"""
    replicates: NDArray[np.float64]
    """(nb, R, pairs)"""
    counts: NDArray[np.int64]
    """(nb, R) elements in each replicate"""
    row_ranges: NDArray[np.int64]
    """(m, 2): of every segment's part of a matrix the first of its rows among those of the plan, and how many; ``row_ranges_of``"""
    row_norms: NDArray[np.float64]
    """(rows of all ranges, 3, new) sums of ``kernels.rows``"""

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.arrays().values())

    def arrays(self) -> Arrays:
        out = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        stats = self.statistics
        return out | {"bits": stats.bits, "largest": stats.largest, "beyond": stats.beyond_float32}

    @classmethod
    def from_arrays(cls, slab: int, arrays: Mapping[str, NDArray[np.generic]]) -> SlabResult:
        rest = dict(arrays)
        return cls(slab=slab, statistics=_statistics(rest), **rest)  # type: ignore[arg-type]


@dataclass
class GramState:
    """Sums over the slabs done so far, in the plan's order: the same slabs give the same bits, interrupted or not."""

    plan: Plan
    cursor: int = 0
    allocate: Allocate = np.zeros
    """where what grows with the blocks and the square of T lies: in memory, or in files"""
    sums: NDArray[np.float64] = field(init=False)
    """(block, 2, pairs)"""
    seen: NDArray[np.int64] = field(init=False)
    nonfinite: NDArray[np.int64] = field(init=False)
    rounding: NDArray[np.float64] = field(init=False)
    sampled: NDArray[np.int64] = field(init=False)
    statistics: ValueStatistics = field(init=False)
    fingerprint: NDArray[np.uint64] = field(init=False)
    crc: list[NDArray[np.uint32]] = field(default_factory=list)
    zeros: NDArray[np.int64] = field(init=False)
    """(column, T)"""
    changes: NDArray[np.int64] = field(init=False)
    """(block, T, 2)"""
    replicates: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    counts: NDArray[np.int64] = field(init=False)
    row_norms: NDArray[np.float64] = field(init=False)
    """(rows of all matrices, 3, new)"""

    def __post_init__(self) -> None:
        b, t, new = self.plan.blocks, self.plan.rows, self.plan.new
        self.sums = self.allocate((b, 2, pair_count(t, new)))
        self.seen = np.zeros(b, np.int64)
        self.sampled = np.zeros(b, np.int64)
        self.nonfinite = np.zeros((b, t), np.int64)
        self.rounding = np.zeros((b, t, 2))
        self.statistics = ValueStatistics(t)
        self.fingerprint = np.zeros(t, np.uint64)
        self.zeros = np.zeros((len(self.plan.columns), t), np.int64)
        self.changes = np.zeros((b, t, 2), np.int64)
        self.counts = np.zeros((b, self.plan.replicates), np.int64)
        self.row_norms = self.allocate((self.plan.matrix_rows, ROW_NORMS, new))

    def add(self, result: SlabResult) -> None:
        """Add the next slab in order."""
        if result.slab != self.cursor:
            raise ValueError(f"slab {result.slab} does not follow slab {self.cursor - 1}")
        sample = self.plan.slabs[result.slab].sample
        for i, block in enumerate(result.blocks):
            add_exactly(self.sums[block], *result.sums[i])
            release(self.sums)
            self.seen[block] += result.seen[i]
            self.nonfinite[block] += result.nonfinite[i]
            self.changes[block] += result.changes[i]
            if len(result.rounding):
                self.rounding[block] += result.rounding[i]
                self.sampled[block] += result.looked[i]
        for i, block in enumerate(result.blocks if self.plan.replicates and sample else ()):
            if not result.counts[i].any():
                continue
            self.counts[block] += result.counts[i]
            held = self.replicates.get(int(block))
            if held is None:
                self.replicates[int(block)] = result.replicates[i].copy()
            else:
                held += result.replicates[i]
        at = 0
        for first, count in result.row_ranges.tolist():
            self.row_norms[first : first + count] += result.row_norms[at : at + count]
            at += count
        release(self.row_norms)
        self.statistics.merge(result.statistics)
        self.fingerprint += result.fingerprint
        self.crc.append(result.crc)
        for segment, zeros in zip(self.plan.slabs[result.slab].segments, result.zeros, strict=True):
            self.zeros[segment.column] += zeros
        self.cursor += 1

    def recall(self, fingerprints: Sequence[int], zeros: NDArray[np.int64]) -> None:
        """Take over what is known of the plan's ``known`` checkpoints: their fingerprints, and zeros (column, known)."""
        known = self.plan.known
        self.fingerprint[:known] = fingerprints
        self.zeros[:, :known] = zeros

    @property
    def nbytes(self) -> int:
        """Bytes of the sums that grow with the checkpoints."""
        return self.sums.nbytes + self.row_norms.nbytes

    @property
    def fraction(self) -> float:
        """Share of the parameters that is in the sums."""
        total = int(self.plan.block_sizes().sum())
        return float(self.seen.sum()) / total if total else 1.0

    @property
    def exact(self) -> bool:
        return self.cursor == len(self.plan.slabs)

    @property
    def gram(self) -> NDArray[np.float64]:
        """(block, new, T): inner products of the last ``new`` vectors of the update basis with all, made anew at every call."""
        found = self.allocate((self.plan.blocks, self.plan.new, self.plan.rows))
        at_once = max(1, AT_ONCE // (8 * self.plan.new * self.plan.rows))
        for first in range(0, self.plan.blocks, at_once):
            some = slice(first, first + at_once)
            with np.errstate(invalid="ignore"):
                found[some] = matrices(self.sums[some].sum(axis=1), self.plan.rows, self.plan.new)
            release(self.sums)
            release(found)
        return found

    def block_gram(self, block: int) -> NDArray[np.float64]:
        """Return the inner products of one block as they were added, (new, T)."""
        with np.errstate(invalid="ignore"):
            total = self.sums[block].sum(axis=0)
        release(self.sums)
        return matrices(total, self.plan.rows, self.plan.new)

    def arrays(self) -> Arrays:
        ids = np.array(sorted(self.replicates), dtype=np.int64)
        held = np.zeros((0, self.plan.replicates, self.sums.shape[-1]))
        if len(ids):
            held = np.stack([self.replicates[i] for i in ids])
        stats = self.statistics
        return {
            "sums": self.sums, "seen": self.seen, "sampled": self.sampled, "nonfinite": self.nonfinite,
            "rounding": self.rounding, "fingerprint": self.fingerprint,
            "counts": self.counts, "zeros": self.zeros, "changes": self.changes,
            "crc": self.crc_rows(), "row_norms": self.row_norms,
            "replicate_blocks": ids, "replicates": held,
            "bits": stats.bits, "largest": stats.largest, "beyond": stats.beyond_float32,
        }  # fmt: skip

    @classmethod
    def from_arrays(
        cls, plan: Plan, cursor: int, arrays: Mapping[str, NDArray[np.generic]], allocate: Allocate = np.zeros
    ) -> GramState:
        rest = dict(arrays)
        state = cls(plan, cursor, allocate)
        state.sums[...] = rest.pop("sums")
        state.row_norms[...] = rest.pop("row_norms")
        state.statistics = _statistics(rest)
        ids, held = rest.pop("replicate_blocks"), rest.pop("replicates")
        state.replicates = {int(i): np.array(h) for i, h in zip(ids, held, strict=True)}
        state.crc = [np.array(rest.pop("crc"))]
        for name, value in rest.items():
            setattr(state, name, np.array(value))
        return state

    def crc_rows(self) -> NDArray[np.uint32]:
        """Return the CRC-32 of every segment in the sums, (segments, T)."""
        return np.concatenate(self.crc) if self.crc else np.zeros((0, self.plan.rows), np.uint32)

    def segments_done(self) -> list[tuple[int, int, int]]:
        """Return (column, lo, hi) of every segment in the sums, in the order of the rows of ``crc``."""
        return [(s.column, s.lo, s.hi) for slab in self.plan.slabs[: self.cursor] for s in slab.segments]


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows of a matrix that one segment of a slab holds, in whole or in part."""

    segment: int
    block: int
    first: int
    """among the rows of all matrices of the plan"""
    count: int
    place: int
    """of the first in the slab's result"""


def row_ranges_of(plan: Plan, slab: Slab) -> list[RowRange]:
    """Return the rows of matrices that a slab's segments hold, in the order of the segments and their blocks."""
    found: list[RowRange] = []
    at = 0
    for number, segment in enumerate(slab.segments if plan.row_widths else ()):
        for block, extent in plan.columns[segment.column].blocks:
            width = plan.row_widths[block]
            begin, end = position(extent, segment.lo), position(extent, segment.hi)
            if width and end > begin:
                first, count = begin // width, -(-end // width) - begin // width
                found.append(RowRange(number, block, int(plan.row_places[block]) + first, count, at))
                at += count
    return found


def empty_result(plan: Plan, slab: Slab) -> SlabResult:
    """Return a result of zeros for the blocks that ``slab`` may touch."""
    blocks = np.array(sorted({b for s in slab.segments for b, _ in plan.columns[s.column].blocks}), dtype=np.int64)
    nb, t, r = len(blocks), plan.rows, plan.replicates if slab.sample else 0
    looked = nb if slab.sample or plan.known else 0
    pairs = pair_count(t, plan.new)
    ranges = np.array([(r.first, r.count) for r in row_ranges_of(plan, slab)], np.int64).reshape(-1, 2)
    return SlabResult(
        slab=slab.index, blocks=blocks, sums=np.zeros((nb, 2, pairs)), seen=np.zeros(nb, np.int64),
        nonfinite=np.zeros((nb, t), np.int64), rounding=np.zeros((looked, t, 2)), looked=np.zeros(looked, np.int64),
        statistics=ValueStatistics(t), fingerprint=np.zeros(t, np.uint64),
        crc=np.zeros((len(slab.segments), t), np.uint32),
        zeros=np.zeros((len(slab.segments), t), np.int64), changes=np.zeros((nb, t, 2), np.int64),
        replicates=np.zeros((nb, r, pairs)), counts=np.zeros((nb, r), np.int64),
        row_ranges=ranges, row_norms=np.zeros((int(ranges[:, 1].sum()), ROW_NORMS, plan.new)),
    )  # fmt: skip


def _statistics(arrays: dict[str, NDArray[np.generic]]) -> ValueStatistics:
    stats = ValueStatistics(len(arrays["bits"]))
    stats.bits = np.array(arrays.pop("bits"), np.int32)
    stats.largest = np.array(arrays.pop("largest"), np.float64)
    stats.beyond_float32 = np.array(arrays.pop("beyond"), np.bool_)
    return stats


def appended(old: NDArray[np.float64], rows: NDArray[np.float64], allocate: Allocate = np.zeros) -> NDArray[np.float64]:
    """Build the Gram of T vectors from that of the first T − k (block, T−k, T−k) and the last k rows (block, k, T)."""
    b, k, t = rows.shape
    gram = allocate((b, t, t))
    for whole, before, last in zip(gram, old, rows, strict=True):
        whole[: t - k, : t - k] = before
        whole[t - k :] = last
        whole[: t - k, t - k :] = last[:, : t - k].T
        for values in (gram, old, rows):
            release(values)
    return gram
