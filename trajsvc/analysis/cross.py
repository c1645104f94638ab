"""The Gram of two stored runs' checkpoints together, computed once and kept in the store.

The checkpoints of the second run are appended to the first's Gram, after the first's first point once more: so the leg to the second
run's first point, and with it every displacement from a shared base, is a difference that was formed before anything was multiplied.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from storage_schema.errors import RunMissing
from storage_schema.files.roomy import Allocate, disk
from storage_schema.format.arrays import ITEMSIZE
from storage_schema.runs.contents import BlockTable, CheckpointTable, RunContents, TreeTable
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.store import RunStore
from storage_schema.runs.writer import RunWriter
from trajsvc.analysis.matching import Matched, match_blocks
from trajsvc.analysis.observer import NullObserver, Observer
from trajsvc.analysis.options import DEFAULT_SAMPLE, Options
from trajsvc.analysis.pipeline import check_unchanged
from trajsvc.analysis.rebase import Basis, Rebasing, rebased
from trajsvc.analysis.selected import READING
from trajsvc.analysis.stored_rows import Opener, RunRows, open_at_source, open_rows
from trajsvc.anatomy.blocks import Extent
from trajsvc.errors import Refused, UsageError
from trajsvc.gram.engine import SlabPool, compute
from trajsvc.gram.kernels.choose import KernelFactory, workspace
from trajsvc.gram.plan import KERNEL, ColumnSpec, Plan, make_plan
from trajsvc.gram.sums import GramState, appended
from trajsvc.results.cross import cross_name, made_of, runs_of, starts_of
from trajsvc.results.run import run_not_found
from trajsvc.trajectory.joined import JoinedTheta
from trajsvc.version import __version__


@dataclass(frozen=True)
class CrossJob:
    """Two stored runs to be compared: ``runs`` of ``store``, in this order. ``rename`` is applied to the second's tensors; with ``common``
    tensors that only one has are left out."""

    store: Path
    runs: tuple[str, str]
    options: Options
    pool: SlabPool
    rename: tuple[str, ...] = ()
    common: bool = False
    opener: Opener = open_at_source
    observer: Observer = field(default_factory=NullObserver)
    stop: threading.Event = field(default_factory=threading.Event)


def compute_cross(job: CrossJob) -> str:
    """Compute what the store lacks of two runs' cross Gram; return the name under which it is kept.

    It is kept for as long as both runs are what they were; a stopped computation goes on where it was.
    Raises NotFound (``run-not-found``), Refused (``runs-differ``, ``source-gone``, ``checkpoint-changed``, ``run-estimate``), UsageError,
    LimitExceeded (``memory-budget``), TryAgain (``file-changed``, ``store-busy``), Cancelled.
    """
    store = RunStore(job.store)
    runs = tuple(_stored(store, name) for name in job.runs)
    if job.runs[0] == job.runs[1]:
        raise UsageError("runs-needed", "a run is not compared with itself", hint="Name two runs.")
    name = cross_name(job.runs, job.rename, job.common)
    made = made_of((runs[0], runs[1]), job.rename, job.common)
    if _kept(store.cross, name, made):
        return name
    opened = [open_rows(run, job.opener, job.stop.is_set) for run in runs]
    try:
        with store.cross.writer(name) as writer:
            if writer.current is None or runs_of(writer.current.attributes) != made:
                _Joining(job, opened, writer, made).run()
    finally:
        for one in opened:
            one.close()
    return name


def _kept(crosses: RunStore, name: str, made: dict[str, Any]) -> bool:
    try:
        return runs_of(crosses.open(name).attributes) == made
    except RunMissing:
        return False


def _stored(store: RunStore, name: str) -> StoredRun:
    try:
        found = store.open(name)
    except RunMissing as error:
        raise run_not_found(store.root, name) from error
    if found.attributes.get("estimate") is not None:
        words = f"{name} is an estimate from a part of its bytes"
        raise Refused("run-estimate", words, hint="Make it exact with `trajsvc analyze` first.")
    return found


class _Joining:
    """One computation: the rows of both runs, planned, multiplied and committed."""

    def __init__(self, job: CrossJob, opened: Sequence[RunRows], writer: RunWriter, made: dict[str, Any]) -> None:
        self.job, self.first, self.second = job, opened[0], opened[1]
        self.writer, self.made, self.options = writer, made, job.options
        a, b = self.first.run, self.second.run
        self.matched: Matched = match_blocks(
            job.runs, a.blocks, b.blocks, shapes=(self.first.shapes(), self.second.shapes()), rename=job.rename, common=job.common
        )  # fmt: skip
        counts = a.checkpoint_count, b.checkpoint_count
        self.rows = (*((0, t) for t in range(counts[0])), (0, 0), *((1, t) for t in range(counts[1])))
        self.theta = JoinedTheta(
            (self.first.rows, self.second.rows), self.rows, (self.matched.first, self.matched.second)
        )
        dtypes = a.attributes.get("dtype"), b.attributes.get("dtype")
        if dtypes[0] != dtypes[1]:
            words = f"{a.name} was rounded to {dtypes[0] or 'nothing'} and {b.name} to {dtypes[1] or 'nothing'}"
            raise Refused("runs-differ", words, hint="Analyse one of them again with the other's --dtype.")
        self.dtype = dtypes[0]
        usable = a.attributes.get("kernel") == KERNEL and a.attributes.get("precision") == "float64"
        self.known = counts[0] if usable else 0
        self.basis = Basis(starts_of(counts[0], counts[1]), (counts[0],))

    def run(self) -> None:
        """Compute, check and commit. Raises TrajsvcError and Cancelled."""
        plan = self._plan()
        self.job.observer.sized(plan)
        allocate: Allocate = disk(self.writer.work) if plan.on_disk else np.zeros
        told = json.dumps([plan.key(), self.made, [list(b) for b in self.theta.blocks]])
        key = hashlib.sha256(told.encode()).hexdigest()
        journal = self.writer.journal(key)
        observer = self.job.observer
        state = compute(
            self.theta, plan, KernelFactory.of(self.options.device, plan), self.job.pool, journal=journal,
            progress=observer.progress(), stop=self.job.stop, key=key, folder=self.writer.work, allocate=allocate,
        )  # fmt: skip
        old = self._before(allocate)
        work = Rebasing(self.theta, plan, self.options, self.job.pool, self.job.stop, key, self.writer.work, READING)
        trees, left = rebased(work, state, old, observer, self.basis)
        for one in (self.first, self.second):
            if one.trajectory is not None:
                check_unchanged(one.trajectory)
        contents = self._contents(state, old, trees, left, allocate)
        observer.committing()
        self.writer.commit(contents, theta="drop")
        journal.discard()

    def _plan(self) -> Plan:
        sizes = self.first.run.blocks.size
        columns = []
        for number, block in enumerate(self.matched.first):
            size = int(sizes[block])
            item = max(ITEMSIZE[kind] for kind in set(self.theta.dtypes(number)))
            name = self.first.run.blocks.name[block]
            columns.append(ColumnSpec(name, size, item, ((number, Extent(1, size, 0, size)),)))
        rows = len(self.rows)
        return make_plan(
            columns, rows, new=rows - self.known, memory=self.options.memory, reserve=READING, threads=self.options.threads,
            sample_fraction=DEFAULT_SAMPLE, dtype=self.dtype, replicates=0,
            workspace=workspace(self.options.device, rows, "float64"),
        )  # fmt: skip

    def _before(self, allocate: Allocate) -> RunContents | None:
        """Return the first run's Gram of the common blocks, which needs no computing."""
        if not self.known:
            return None
        blocks = list(self.matched.first)
        gram = self.first.run.block_grams(blocks, allocate)
        nothing = np.zeros((len(blocks), self.known))
        return RunContents("", self.first.run.checkpoints, self._blocks(), gram, nothing, nothing.astype(np.int64))

    def _blocks(self) -> BlockTable:
        table, chosen = self.first.run.blocks, list(self.matched.first)
        words = {
            n: tuple(getattr(table, n)[i] for i in chosen) for n in ("name", "tensor", "part", "layer", "component")
        }
        size = table.size[chosen]
        return BlockTable(**words, size=size, offset=np.concatenate([[0], np.cumsum(size)[:-1]]).astype(np.int64))

    def _contents(
        self, state: GramState, old: RunContents | None, trees: TreeTable | None, left: str, allocate: Allocate
    ) -> RunContents:
        blocks = self._blocks()
        gram = state.gram if old is None else appended(old.gram, state.gram, allocate)
        attributes = {
            "cross": self.made, "left_out": list(self.matched.left_out), "version": __version__, "kernel": KERNEL,
            "precision": "float64", "dtype": self.dtype, "not_recomputed": left,
        }  # fmt: skip
        return RunContents(
            name=self.writer.name,
            checkpoints=self._checkpoints(state),
            blocks=blocks,
            gram=gram,
            rounding=np.full((len(blocks.size), len(self.rows)), np.nan),
            nonfinite=state.nonfinite,
            trees=trees,
            attributes=attributes,
        )

    def _checkpoints(self, state: GramState) -> CheckpointTable:
        tables = self.first.run.checkpoints, self.second.run.checkpoints
        words = {n: tuple(getattr(tables[run], n)[t] for run, t in self.rows) for n in ("label", "dtype", "files")}
        step = np.array([int(tables[run].step[t]) for run, t in self.rows], dtype=np.int64)
        return CheckpointTable(step=step, fingerprint=tuple(f"{int(f):016x}" for f in state.fingerprint), **words)
