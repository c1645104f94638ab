"""Θ: a run's checkpoints as one matrix, a row a checkpoint and a column range a tensor, read where the bytes lie.

``open_trajectory`` reads headers only. Checkpoints whose parameters do not have the names and shapes that most have are left
out, each with a finding that says what differs: an explicit gap, never a padded or reshaped row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from storage_schema.models.results import Finding
from trajsvc.anatomy.blocks import Anatomy
from trajsvc.anatomy.dissect import dissect
from trajsvc.errors import DamagedCheckpoint, NotFound, TrajsvcError
from trajsvc.gram.plan import ColumnSpec, Slab
from trajsvc.gram.slab_worker import Part
from trajsvc.sources.base import CheckpointRef, CheckpointSource, CheckpointTensors, NoSource, Piece, TensorEntry
from trajsvc.sources.tensor_names import harmonise

if TYPE_CHECKING:
    from trajsvc.anatomy.architectures import Rules

Signature = frozenset[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Row:
    """One checkpoint of the matrix: where each column's elements lie."""

    checkpoint: CheckpointRef
    entries: tuple[TensorEntry, ...]

    @property
    def step(self) -> int:
        return self.checkpoint.step

    @property
    def label(self) -> str:
        return self.checkpoint.label

    @property
    def dtype(self) -> str:
        """Stored type, ``mixed`` when tensors differ."""
        kinds = {e.dtype for e in self.entries}
        return kinds.pop() if len(kinds) == 1 else "mixed"


@dataclass(frozen=True)
class Excluded:
    """A checkpoint that is not a row, and why."""

    step: int
    label: str
    reason: str


@dataclass(frozen=True)
class Trajectory:
    """The matrix Θ of one run. ``columns`` are in the order of ``anatomy.blocks``' tensors."""

    source: CheckpointSource
    anatomy: Anatomy
    columns: tuple[ColumnSpec, ...]
    shapes: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    excluded: tuple[Excluded, ...] = ()
    findings: tuple[Finding, ...] = ()
    config: Mapping[str, Any] | None = None
    _dtypes: tuple[tuple[str, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kinds = tuple(tuple(r.entries[c].dtype for r in self.rows) for c in range(len(self.columns)))
        object.__setattr__(self, "_dtypes", kinds)

    @property
    def steps(self) -> NDArray[np.int64]:
        return np.array([r.step for r in self.rows], dtype=np.int64)

    @property
    def parameters(self) -> int:
        return sum(c.size for c in self.columns)

    @cached_property
    def bytes(self) -> int:
        """Bytes of all rows: what one pass reads."""
        return sum(e.size * ITEMSIZE[e.dtype] for r in self.rows for e in r.entries)

    def dtypes(self, column: int) -> Sequence[str]:
        return self._dtypes[column]

    def has_crc(self, column: int, row: int) -> bool:
        return _whole_record(self.rows[row].entries[column])

    def read(self, column: int, row: int, lo: int, hi: int, out: memoryview) -> None:
        """Fill ``out`` with the stored bytes of elements [lo, hi) (C order) of a tensor at one checkpoint."""
        entry = self.rows[row].entries[column]
        try:
            read_elements(self.source, entry, lo, hi, out)
        except TrajsvcError as error:
            raise error.about(tensor=entry.name, step=self.rows[row].step, file=entry.file) from None

    def prepare(self, slabs: Sequence[Slab]) -> None:
        """Nothing: the system reads files ahead."""

    def bare(self) -> Trajectory:
        """The matrix without a source: what is needed to know where its values lie in a copy."""
        return replace(self, source=NoSource(self.source.uri), findings=(), excluded=(), config=None)

    def portable(self) -> Trajectory | None:
        """The same without what only this process needs, where its files can be read by another."""
        source = self.source.portable()
        return None if source is None else replace(self, source=source, findings=(), excluded=(), config=None)

    def load(self, slab: Slab, parts: Sequence[Part], stop: Callable[[], bool]) -> None:
        """``read`` of every part in turn, until ``stop``."""
        for part in parts:
            if stop():
                return
            self.read(part.column, part.row, part.lo, part.hi, part.out)

    def check_crc(self, segments: Sequence[tuple[int, int, int]], crc: NDArray[np.uint32]) -> None:
        """Compare the archives' checksums with those of the bytes read: ``crc`` is (segments, rows).

        Raises DamagedCheckpoint (``checksum-mismatch``) naming file, tensor and step.
        """
        from isal import isal_zlib

        by_column: dict[int, list[tuple[int, int, int]]] = {}
        for number, (column, lo, hi) in enumerate(segments):
            by_column.setdefault(column, []).append((lo, hi, number))
        for column, pieces in by_column.items():
            pieces.sort()
            for row in range(len(self.rows)):
                entry = self.rows[row].entries[column]
                if not _whole_record(entry):
                    continue
                total = 0
                for lo, hi, number in pieces:
                    total = isal_zlib.crc32_combine(total, int(crc[number, row]), (hi - lo) * ITEMSIZE[entry.dtype])
                if total != entry.crc32:
                    raise checksum_mismatch(entry, self.rows[row].step)


def checksum_mismatch(entry: TensorEntry, step: int) -> DamagedCheckpoint:
    """The error for bytes that do not have the checksum that their archive keeps."""
    return DamagedCheckpoint(
        "checksum-mismatch",
        f"the bytes of {entry.name} do not have the checksum that {entry.file} keeps for them",
        hint="The file is damaged: fetch or copy it again, or leave the checkpoint out with --steps.",
        file=entry.file, tensor=entry.name, step=step,
    )  # fmt: skip


def _whole_record(entry: TensorEntry) -> bool:
    """Whether the archive's checksum covers exactly this tensor's elements in order."""
    return (
        entry.crc32 is not None
        and entry.strides is None
        and entry.pieces is None
        and entry.offset == entry.storage_offset
        and entry.size * ITEMSIZE[entry.dtype] == entry.storage_nbytes
    )


def read_elements(source: CheckpointSource, entry: TensorEntry, lo: int, hi: int, out: memoryview) -> None:
    """Elements [lo, hi) of a tensor in C order, whatever its layout in the file."""
    item = ITEMSIZE[entry.dtype]
    if entry.pieces is not None:
        _read_pieces(source, entry.pieces, item, lo, hi, out)
    elif entry.strides is None:
        source.read(entry.file, entry.offset + lo * item, out)
    else:
        raw = np.empty(strided_bytes(entry), np.uint8)
        source.read(entry.file, entry.offset, raw.data)
        out[:] = gathered(entry, raw, lo, hi)


def strided_bytes(entry: TensorEntry) -> int:
    """Bytes from the first to the last element of a tensor with strides."""
    return (1 + sum((d - 1) * s for d, s in zip(entry.shape, entry.strides or (), strict=True))) * ITEMSIZE[entry.dtype]


def gathered(entry: TensorEntry, raw: NDArray[np.uint8], lo: int, hi: int) -> memoryview:
    """Elements [lo, hi) in C order of a tensor with strides, from the bytes that it spans."""
    item = ITEMSIZE[entry.dtype]
    strides = [s * item for s in entry.strides or ()]
    view = np.lib.stride_tricks.as_strided(raw.view(f"u{item}"), entry.shape, strides, writeable=False)
    return np.ascontiguousarray(view).reshape(-1)[lo:hi].view(np.uint8).data


def _read_pieces(
    source: CheckpointSource, pieces: Sequence[Piece], item: int, lo: int, hi: int, out: memoryview
) -> None:
    for piece in pieces:
        begin, end = max(lo, piece.lo), min(hi, piece.hi)
        if begin < end:
            source.read(
                piece.file, piece.offset + (begin - piece.lo) * item, out[(begin - lo) * item : (end - lo) * item]
            )


@dataclass(frozen=True)
class _Candidate:
    checkpoint: CheckpointRef
    tensors: Mapping[str, TensorEntry]
    anatomy: Anatomy
    config: Mapping[str, Any] | None

    @cached_property
    def signature(self) -> Signature:
        return frozenset((b.tensor, self.tensors[b.tensor].shape) for b in self.anatomy.blocks)


def open_trajectory(
    source: CheckpointSource,
    *,
    steps: str | Sequence[int] | None = None,
    rules: Rules | None = None,
    heads: int | None = None,
    skip_damaged: bool = False,
) -> Trajectory:
    """Read the headers of ``source``'s checkpoints (those of ``steps``) and lay their parameters side by side.

    Raises what the source raises for a damaged checkpoint, unless ``skip_damaged`` leaves it out with a finding;
    NotFound (``no-checkpoints``) when none is left.
    """
    chosen = source.checkpoints(steps)
    findings = list(source.findings())
    excluded: list[Excluded] = []
    headers = _headers(source, chosen, skip_damaged, excluded, findings)
    candidates = _dissected(headers, rules, heads)
    if not candidates:
        raise NotFound(
            "no-checkpoints",
            f"no checkpoint of {source.uri} can be read",
            hint="See the findings with `trajsvc plan --skip-damaged`, or choose others with --steps.",
        )
    reference = _reference(candidates)
    rows: list[Row] = []
    names = list(dict.fromkeys(b.tensor for b in reference.anatomy.blocks))
    for candidate in candidates:
        if candidate.signature == reference.signature:
            rows.append(Row(candidate.checkpoint, tuple(candidate.tensors[n] for n in names)))
        else:
            finding = _difference(candidate, reference)
            findings.append(finding)
            excluded.append(Excluded(candidate.checkpoint.step, candidate.checkpoint.label, finding.message))
    findings.extend(same_digests(rows))
    return Trajectory(
        source=source,
        anatomy=_all_left_out(reference.anatomy, candidates),
        columns=_columns(reference.anatomy, names, rows),
        shapes=tuple(reference.tensors[n].shape for n in names),
        rows=tuple(rows),
        excluded=tuple(sorted(excluded, key=lambda e: e.step)),
        findings=tuple(findings),
        config=reference.config,
    )


def same_digests(rows: Sequence[Row]) -> list[Finding]:
    """Checkpoints that are copies of each other by the checksums that their files keep: known before a tensor is read."""
    same: dict[tuple[object, ...], list[int]] = {}
    for row in rows:
        digests: tuple[object, ...] = tuple(f.sha256 for f in row.checkpoint.files)
        if None in digests:
            digests = tuple((e.crc32, e.dtype) if _whole_record(e) else None for e in row.entries)
        if digests and None not in digests:
            same.setdefault(digests, []).append(row.step)
    return [
        Finding(
            kind="identical",
            message=f"steps {_listed(steps)} hold identical parameters, by the checksums of their files",
            steps=tuple(steps),
            details={"by": "digest"},
        )
        for steps in same.values()
        if len(steps) > 1
    ]


def _listed(steps: Sequence[int]) -> str:
    shown = ", ".join(map(str, steps[:8]))
    return f"{shown} … {steps[-1]} ({len(steps)} checkpoints)" if len(steps) > 9 else ", ".join(map(str, steps))


def _headers(
    source: CheckpointSource,
    chosen: Sequence[CheckpointRef],
    skip_damaged: bool,
    excluded: list[Excluded],
    findings: list[Finding],
) -> list[tuple[CheckpointRef, CheckpointTensors]]:
    headers = []
    for checkpoint in chosen:
        try:
            tensors = source.tensors(checkpoint)
        except TrajsvcError as error:
            error.about(step=checkpoint.step)
            if not skip_damaged:
                raise
            excluded.append(Excluded(checkpoint.step, checkpoint.label, error.message))
            findings.append(
                Finding(kind="unreadable", severity="error", message=str(error), steps=(checkpoint.step,),
                        details={"error": error.kind})
            )  # fmt: skip
            continue
        findings.extend(tensors.findings)
        headers.append((checkpoint, tensors))
    return headers


def _dissected(
    headers: Sequence[tuple[CheckpointRef, CheckpointTensors]], rules: Rules | None, heads: int | None
) -> list[_Candidate]:
    config = next((h.config for _, h in reversed(headers) if h.config), None)
    harmonised = harmonise([h.tensors for _, h in headers], config)
    seen: dict[str, Anatomy] = {}
    candidates = []
    for (checkpoint, header), tensors in zip(headers, harmonised, strict=True):
        tied = _tied(tensors)
        key = json.dumps([[n, e.shape, e.dtype] for n, e in tensors.items()] + [sorted(tied.items())])
        if key not in seen:
            kinds = {n: (e.shape, e.dtype) for n, e in tensors.items()}
            try:
                seen[key] = dissect(kinds, header.config or config, rules=rules, heads=heads, tied=tied)
            except TrajsvcError as error:
                raise error.about(step=checkpoint.step, file=checkpoint.files[0].path) from None
        candidates.append(_Candidate(checkpoint, tensors, seen[key], header.config or config))
    return candidates


def _tied(tensors: Mapping[str, TensorEntry]) -> dict[str, str]:
    """Tensor → the first tensor that shares its bytes."""
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, entry in tensors.items():
        if entry.storage is None or entry.size == 0:
            continue
        place = (entry.storage, entry.offset, entry.shape, entry.strides)
        if place in first:
            tied[name] = first[place]
        else:
            first[place] = name
    return tied


def _reference(candidates: Sequence[_Candidate]) -> _Candidate:
    """A checkpoint with the parameters that most have (of the later ones when two are as frequent)."""
    counts = Counter(c.signature for c in candidates)
    most = max(counts.values())
    signature = next(c.signature for c in reversed(candidates) if counts[c.signature] == most)
    return next(c for c in candidates if c.signature == signature)


def _difference(candidate: _Candidate, reference: _Candidate) -> Finding:
    mine, theirs = dict(candidate.signature), dict(reference.signature)
    reshaped = sorted(n for n in mine.keys() & theirs.keys() if mine[n] != theirs[n])
    missing, extra = sorted(theirs.keys() - mine.keys()), sorted(mine.keys() - theirs.keys())
    parts = [f"{n} has shape {list(mine[n])} instead of {list(theirs[n])}" for n in reshaped[:3]]
    parts += [f"{n} is missing" for n in missing[:3]] + [f"{n} is new" for n in extra[:3]]
    more = len(reshaped) + len(missing) + len(extra) - len(parts)
    text = "; ".join(parts) + (f"; {more} more" if more > 0 else "")
    return Finding(
        kind="shape-change" if reshaped else "name-change",
        severity="warning",
        message=f"step {candidate.checkpoint.step} is left out: {text}",
        steps=(candidate.checkpoint.step,),
        tensors=tuple(reshaped + missing + extra)[:20],
    )


def _all_left_out(anatomy: Anatomy, candidates: Sequence[_Candidate]) -> Anatomy:
    left: dict[str, str] = {}
    for candidate in candidates:
        left.update(candidate.anatomy.left_out)
    return replace(anatomy, left_out=left)


def _columns(anatomy: Anatomy, names: Sequence[str], rows: Sequence[Row]) -> tuple[ColumnSpec, ...]:
    blocks: dict[str, list[int]] = {}
    for index, block in enumerate(anatomy.blocks):
        blocks.setdefault(block.tensor, []).append(index)
    return tuple(
        ColumnSpec(
            name,
            rows[0].entries[c].size,
            max(ITEMSIZE[r.entries[c].dtype] for r in rows),
            tuple((i, anatomy.blocks[i].extent) for i in blocks[name]),
        )
        for c, name in enumerate(names)
    )
