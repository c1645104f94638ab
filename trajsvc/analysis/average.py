"""Write an average of a run's checkpoints as a checkpoint: weights in the types of the last one, its configuration, its tokenizer.

One pass over the averaged checkpoints, a piece of a tensor at a time within the memory budget: values are widened to float64, summed in
the order of the steps, and rounded once. What is no parameter (buffers, counters, what was left out of the run) is that of the last
checkpoint.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.durable import make_dir, sync_dir
from storage_schema.files.outputs import beside, writing_result
from storage_schema.format.arrays import FLOAT_TYPES, ITEMSIZE
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.theta_rows import ThetaFiles
from trajsvc.analysis.average_weights import Weights
from trajsvc.analysis.companions import companions
from trajsvc.analysis.pipeline import check_unchanged
from trajsvc.analysis.rounding import stored_bytes
from trajsvc.analysis.stored_rows import Opener, open_at_source, trajectory_of_run
from trajsvc.analysis.written_checkpoint import ITEM, SHARD, CheckpointWriter, TensorSpec
from trajsvc.anatomy.blocks import TIED
from trajsvc.errors import Cancelled, Refused
from trajsvc.sources.base import TensorEntry, never
from trajsvc.trajectory.copy import CopiedTheta
from trajsvc.trajectory.elements import read_elements
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.values import as_floats

PARTS: Final = 32
"""bytes of memory that an element of a piece takes: as it is stored, widened, summed and rounded"""


@dataclass(frozen=True)
class Written:
    """What was written: ``averaged`` and ``kept`` (as in the last checkpoint) tensors, and files."""

    folder: Path
    weights: Weights
    averaged: tuple[str, ...]
    kept: tuple[str, ...]
    files: tuple[str, ...]
    nbytes: int


@dataclass(frozen=True)
class AverageJob:
    """An average to be written to ``folder``, which must not exist."""

    run: StoredRun
    weights: Weights
    folder: Path
    memory: int
    opener: Opener = open_at_source
    shard: int = SHARD
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    stop: Callable[[], bool] = never


def write_average(job: AverageJob) -> Written:
    """Write the average; the folder appears whole or not at all.

    Raises Refused (``output-exists``, ``source-gone``, ``checkpoint-changed``, ``unsupported-tensor``), Cancelled, TrajsvcError
    (``cannot-write``), DiskFull, and what reading raises.
    """
    target = job.folder
    if os.path.lexists(target):
        raise Refused(
            "output-exists",
            f"{target} exists",
            hint="Name a folder that does not exist; nothing is replaced.",
            file=target,
        )
    trajectory = trajectory_of_run(job.run, job.opener, job.stop)
    partial = beside(target)
    try:
        with writing_result(target, partial):
            make_dir(target.parent)
            partial.mkdir()
            written = _Averaging(job, trajectory, partial).run()
            check_unchanged(trajectory)
            if os.path.lexists(target):
                raise Refused("output-exists", f"{target} was made meanwhile", hint="Name another folder.", file=target)
            partial.rename(target)
            sync_dir(target.parent)
        return written
    finally:
        trajectory.source.close()
        shutil.rmtree(partial, ignore_errors=True)


class _Averaging:
    """One average: what is read from which checkpoint, and how it is written."""

    def __init__(self, job: AverageJob, trajectory: Trajectory, folder: Path) -> None:
        self.job, self.trajectory, self.folder = job, trajectory, folder
        place = {row.step: number for number, row in enumerate(trajectory.rows)}
        self.rows = [place[step] for step in job.weights.steps]
        self.last = self.rows[-1]
        source = trajectory.source
        self.entries: dict[str, TensorEntry] = dict(source.tensors(trajectory.rows[self.last].checkpoint).tensors)
        copied = job.run.has_theta and source.remote is not None
        self.theta: Trajectory | CopiedTheta = trajectory
        if copied and job.run.theta is not None:
            files = ThetaFiles(job.run.theta, job.run.path, job.run.theta.rows, job.run.path)
            self.theta = CopiedTheta(files, trajectory)
        self.columns = self._columns()
        self.tied = {
            name: why.removeprefix(TIED)
            for name, why in trajectory.anatomy.left_out.items()
            if why.startswith(TIED) and name in self.entries
        }

    def _columns(self) -> dict[str, int]:
        """Return the column of Θ of every tensor of the last checkpoint that is one, by its name in the file."""
        row = self.trajectory.rows[self.last]
        by_place = {_place(entry): number for number, entry in enumerate(row.entries)}
        by_name = {column.name: number for number, column in enumerate(self.trajectory.columns)}
        found = {}
        for name, entry in self.entries.items():
            number = by_name.get(name, by_place.get(_place(entry)))
            if number is not None and _place(row.entries[number]) == _place(entry):
                found[name] = number
        return found

    def run(self) -> Written:
        specs = [self._spec(name, entry) for name, entry in self.entries.items()]
        total = sum(spec.nbytes for spec in specs)
        writer = CheckpointWriter(self.folder, specs, self.job.shard)
        averaged, done = [], 0
        try:
            for spec in specs:
                moved = self._averaged_rows(spec)
                pieces = self._kept(spec) if moved is None else moved
                for at, data in pieces:
                    if self.job.stop():
                        raise Cancelled
                    writer.write(spec.name, at, data)
                    done += len(data)
                    self.job.progress(done, total)
                if moved is not None:
                    averaged.append(spec.name)
            writer.finish()
        finally:
            writer.close()
        beside = self._companions()
        kept = tuple(spec.name for spec in specs if spec.name not in set(averaged))
        return Written(self.job.folder, self.job.weights, tuple(averaged), kept, (*writer.files, *beside), total)

    def _spec(self, name: str, entry: TensorEntry) -> TensorSpec:
        number = self.columns.get(name)
        if number is not None:  # with the type of the values where the file has codes and scales
            decoded = self.trajectory.rows[self.last].entries[number]
            return TensorSpec(name, decoded.dtype, entry.shape)
        return TensorSpec(name, entry.dtype, entry.shape)

    def _averaged_rows(self, spec: TensorSpec) -> Iterator[tuple[int, memoryview]] | None:
        """Return the pieces of a tensor that is averaged, (byte, data); None for one that is kept as it is.

        A tied tensor that the file holds once more is averaged as the one that it is tied to; rows that only it has are those of the last
        checkpoint.
        """
        number = self.columns.get(spec.name)
        if number is None and spec.name in self.tied:
            named = {column.name: n for n, column in enumerate(self.trajectory.columns)}
            number = named.get(self.tied[spec.name])
            if number is not None and spec.dtype in FLOAT_TYPES and self.trajectory.shapes[number] != spec.shape:
                return self._common_rows(number, spec)
        if number is None or spec.dtype not in FLOAT_TYPES:
            return None
        shape = self.trajectory.shapes[number]
        if shape != self.entries[spec.name].shape:
            return None  # rows were added to it during training: the last checkpoint's
        return self._pieces(number, spec)

    def _common_rows(self, column: int, spec: TensorSpec) -> Iterator[tuple[int, memoryview]] | None:
        """Return the pieces of a tensor that has fewer or more rows than the one that it is tied to, as a padded head has."""
        shape, entry = self.trajectory.shapes[column], self.entries[spec.name]
        if shape[1:] != spec.shape[1:] or not entry.plain or entry.pieces is not None:
            return None
        size = min(math.prod(shape), spec.size)
        return itertools.chain(self._pieces(column, spec, size), self._kept(spec, size))

    def _pieces(self, column: int, spec: TensorSpec, end: int | None = None) -> Iterator[tuple[int, memoryview]]:
        width = max(1, self.job.memory // PARTS)
        item = ITEMSIZE[spec.dtype]
        end = spec.size if end is None else end
        for lo in range(0, end, width):
            hi = min(end, lo + width)
            yield lo * item, stored_bytes(self._mean(column, lo, hi), spec.dtype)

    def _mean(self, column: int, lo: int, hi: int) -> NDArray[np.float64]:
        """Σ_t w_t θ_t of elements [lo, hi), in float64; of equal weights (Σ_t θ_t) / n."""
        weights = self.job.weights
        total = np.zeros(hi - lo)
        with np.errstate(invalid="ignore", over="ignore"):
            for row, weight in zip(self.rows, weights.values, strict=True):
                if self.job.stop():
                    raise Cancelled
                dtype = self.theta.dtypes(column)[row]
                raw = np.empty((hi - lo) * ITEMSIZE[dtype], np.uint8)
                self.theta.read(column, row, lo, hi, raw.data)
                values = as_floats(raw, dtype)
                if not weights.equal:
                    values *= weight
                total = values if row == self.rows[0] else np.add(total, values, out=total)
            return total / len(self.rows) if weights.equal else total

    def _kept(self, spec: TensorSpec, begin: int = 0) -> Iterator[tuple[int, memoryview]]:
        """Yield the bytes of a tensor of the last checkpoint, of a plain one from element ``begin`` on."""
        entry, item = self.entries[spec.name], ITEM[spec.dtype]
        source = self.trajectory.source
        if not entry.plain or entry.pieces is not None:
            yield 0, _whole(self.trajectory, entry, item)
            return
        width = max(1, self.job.memory // PARTS)
        for lo in range(begin, spec.size, width):
            out = bytearray((min(spec.size, lo + width) - lo) * item)
            source.read(entry.file, entry.offset + lo * item, memoryview(out))
            yield lo * item, memoryview(out)

    def _companions(self) -> tuple[str, ...]:
        """Copy the configuration and the tokenizer of the last checkpoint; return the files' names."""
        row = self.trajectory.rows[self.last]
        found: Mapping[str, bytes] = companions(self.trajectory.source, row.checkpoint)
        config = self.trajectory.source.tensors(row.checkpoint).config
        if "config.json" not in found and config:
            found = {**found, "config.json": (json.dumps(dict(config), indent=2) + "\n").encode()}
        for name, data in found.items():
            (self.folder / name).write_bytes(data)
        return tuple(found)


def _place(entry: TensorEntry) -> tuple[object, ...]:
    return entry.file, entry.offset, entry.shape, entry.strides


def _whole(trajectory: Trajectory, entry: TensorEntry, item: int) -> memoryview:
    """Return a tensor whose elements are not in one place, or not in order, as plain bytes."""
    if entry.dtype in ITEMSIZE:
        out = bytearray(entry.size * item)
        read_elements(trajectory.source, entry, 0, entry.size, memoryview(out))
        return memoryview(out)
    if entry.pieces is not None:
        out = bytearray(entry.size * item)
        for piece in entry.pieces:
            trajectory.source.read(piece.file, piece.offset, memoryview(out)[piece.lo * item : piece.hi * item])
        return memoryview(out)
    strides: Sequence[int] = entry.strides or ()
    span = 1 + sum((d - 1) * s for d, s in zip(entry.shape, strides, strict=True))
    raw = np.empty(span * item, np.uint8)
    trajectory.source.read(entry.file, entry.offset, raw.data)
    view = np.lib.stride_tricks.as_strided(
        raw.view(f"V{item}"), entry.shape, [s * item for s in strides], writeable=False
    )
    return memoryview(np.ascontiguousarray(view).tobytes())
