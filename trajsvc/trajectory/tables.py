"""The tables of a run's blocks and checkpoints, as they are stored with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from storage_schema.runs.contents import BlockTable, CheckpointTable
from trajsvc.trajectory.matrix import Row, Trajectory


def checkpoint_table(rows: Sequence[Row], fingerprints: Sequence[str]) -> CheckpointTable:
    return CheckpointTable(
        step=np.array([r.step for r in rows], dtype=np.int64),
        label=tuple(r.label for r in rows),
        fingerprint=tuple(fingerprints),
        dtype=tuple(r.dtype for r in rows),
        files=tuple(files_json(r) for r in rows),
    )


def files_json(row: Row) -> str:
    """Return what a row was read from, as stable text: equal text, equal files."""
    return json.dumps([asdict(f) for f in row.checkpoint.files], sort_keys=True)


def block_table(trajectory: Trajectory) -> BlockTable:
    blocks = trajectory.anatomy.blocks
    sizes = np.array([b.size for b in blocks], dtype=np.int64)
    return BlockTable(
        name=tuple(b.name for b in blocks),
        tensor=tuple(b.tensor for b in blocks),
        part=tuple(b.part for b in blocks),
        layer=tuple(b.layer for b in blocks),
        component=tuple(b.component for b in blocks),
        size=sizes,
        offset=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
    )


def rows_digest(rows: Sequence[Row]) -> str:
    """Return a digest that identifies the bytes that a job reads: files with size and time, and where every tensor lies
    in them.
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(files_json(row).encode())
        digest.update(repr([(e.file, e.offset, e.dtype, e.strides) for e in row.entries]).encode())
        encoded = [(c, e.encoding) for c, e in enumerate(row.entries) if e.encoding is not None]
        digest.update(repr(encoded).encode() if encoded else b"")
    return digest.hexdigest()


def axis_of(trajectory: Trajectory) -> str:
    """Return what the run's steps count: ``step``, ``epoch``, ``tokens``, or ``index`` if they only count checkpoints."""
    kinds = {str(r.checkpoint.extra.get("kind", "step")) for r in trajectory.rows}
    return kinds.pop() if len(kinds) == 1 else "step"
