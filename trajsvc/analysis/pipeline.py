"""Analyse a source into a committed run: open, plan, compute, check, commit.

Resumes what was interrupted; appends what is new.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import Any

import numpy as np

from storage_schema.files.journal import SlabJournal
from storage_schema.files.roomy import Allocate, disk, each
from storage_schema.runs.archive import archive_theta, restore_theta
from storage_schema.runs.contents import RunContents, TreeTable
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.writer import RunWriter
from trajsvc.analysis import assemble, identity
from trajsvc.analysis.arrangements import Look
from trajsvc.analysis.job import AnalysisJob, OpenedJob, open_job
from trajsvc.analysis.observer import Outcome
from trajsvc.analysis.options import Options
from trajsvc.analysis.rebase import Rebasing, rebased
from trajsvc.analysis.selected import READING, plan_of
from trajsvc.errors import TrajsvcError, TryAgain
from trajsvc.gram.engine import compute
from trajsvc.gram.kernels.choose import KernelFactory, must_compile
from trajsvc.gram.plan import KERNEL, Plan
from trajsvc.gram.sums import GramState
from trajsvc.trajectory import tables
from trajsvc.trajectory.arrangement import Arrangements
from trajsvc.trajectory.copy import ThetaSink
from trajsvc.trajectory.likeness import like_averages
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.open_theta import Reading, read_from
from trajsvc.trajectory.values import Values
from trajsvc.version import __version__

COMPILING = "compiling the kernel for this processor: a second or two, once"


def run_analysis(job: AnalysisJob) -> Outcome:
    """Analyse the job's source into its store; the same job resumes. A checkpoint that changes while it is read fails the attempt,
    which is made once more from the start. Raises TrajsvcError; gram.slabs.Cancelled when ``job.stop`` is set."""
    job.pool.ready(job.options.device)
    for attempt in (1, 2):
        try:
            return _attempt(job)
        except TryAgain as error:
            if error.kind not in ("file-changed", "hub-file-changed") or attempt == 2:
                raise
            job.source.refresh()
    raise AssertionError("not reached")


def _attempt(job: AnalysisJob) -> Outcome:
    opened = open_job(job)
    if opened.complete is not None:
        _renew(opened)
        return opened.outcome()
    rows = None if opened.continued is None else opened.continued.has_rows
    plan = plan_of(
        opened.trajectory, opened.options, new=opened.new, known=opened.known, sample=opened.sample, rows=rows
    )
    job.observer.planned(opened.trajectory, plan, appended=0 if opened.continued is None else opened.new)
    _note(opened)
    with opened.runs.writer(opened.run) as writer:
        opened.check_current(writer)
        _Computation(opened, plan, writer).run()
    return opened.outcome()


def _renew(opened: OpenedJob) -> None:
    """Record what is new about a complete run: where its files are, if they have moved, and what the trainer has logged since."""
    if opened.complete is None:
        return
    contents = identity.relocated(opened.complete, opened.trajectory, opened.moved) if opened.moved else None
    logged = _logged_since(opened.trajectory, opened.complete)
    if contents is None and not logged:
        return
    contents = contents or opened.complete.contents()
    with opened.runs.writer(opened.run) as writer:
        opened.check_current(writer)
        writer.commit(replace(contents, attributes={**contents.attributes, **logged}))


def _logged_since(trajectory: Trajectory, run: StoredRun) -> dict[str, Any]:
    """Return what the logs beside the checkpoints say that the run does not; of a remote source, only if they were never read."""
    if trajectory.source.remote is not None and "logged" in run.attributes:
        return {}
    if [r.step for r in trajectory.rows] != run.checkpoints.step.tolist():
        return {}
    found = assemble.logged(trajectory)
    return found if any(found[key] != run.attributes.get(key) for key in found) else {}


def _note(opened: OpenedJob) -> None:
    options = opened.options
    compiling = COMPILING if must_compile(options.device, options.precision) else ""
    for message in (opened.ahead.anew, compiling):
        if message:
            opened.job.observer.note(message)


class _Computation:
    """The slabs of an opened job, computed and committed by one writer."""

    def __init__(self, opened: OpenedJob, plan: Plan, writer: RunWriter) -> None:
        self.opened, self.plan, self.writer = opened, plan, writer
        self.trajectory, self.options = opened.trajectory, opened.options
        self.copying = self.options.keeps_copy
        self.allocate: Allocate = disk(writer.work) if plan.on_disk else np.zeros
        self.before = opened.contents(self.allocate)
        told = f"{plan.key()} {tables.rows_digest(self.trajectory.rows)} {self.copying}"
        self.key = hashlib.sha256(told.encode()).hexdigest()

    def run(self) -> None:
        """Compute, check, commit; what was read for it is dropped when the run is exact. Raises TrajsvcError and Cancelled."""
        sink = self._copy()
        journal = self._journal(sink)
        reading = self._reading(sink)
        try:
            state = self._compute(reading, journal)
            trees, left = self._rebased(reading, state)
            self._check(reading, state)
        except TrajsvcError as error:
            if error.kind in ("file-changed", "checksum-mismatch"):
                self._forget(journal)
            raise
        finally:
            reading.close()
        self._commit(state, trees, left)
        if state.exact:
            self._forget(journal)
            reading.clear()
            if self.options.archive:
                archive_theta(self.writer)

    def _copy(self) -> ThetaSink | None:
        """Return the sink to which the parameters are copied as they are read; None if no copy is kept."""
        if not self.copying:
            return None
        current = self.writer.current
        if self.opened.continued is not None and current is not None and not current.has_theta:
            restore_theta(self.writer)
        return ThetaSink(self.writer, self.trajectory, self.plan.rows - self.plan.new, self.key)

    def _journal(self, sink: ThetaSink | None) -> SlabJournal:
        """Return the journal of finished slabs.

        If the copy begins anew, the slabs that would have written it are discarded.
        """
        journal = self.writer.journal(self.key)
        if sink is None or sink.resumed:
            return journal
        journal.discard()
        return self.writer.journal(self.key)

    def _reading(self, sink: ThetaSink | None) -> Reading:
        return read_from(
            self.trajectory,
            self.plan,
            self.writer,
            sink,
            key=self.key,
            preview=self.options.preview is not None,
            elsewhere=self.opened.job.pool.elsewhere,
        )

    def _compute(self, reading: Reading, journal: SlabJournal) -> GramState:
        job = self.opened.job
        reading.begin(job.observer.copied, job.stop)
        state = compute(
            reading.theta,
            self.plan,
            KernelFactory.of(self.options.device, self.plan),
            job.pool,
            journal=journal,
            sink=reading.sink,
            progress=job.observer.progress(),
            stop=job.stop,
            until=self.plan.sample_slabs if self.options.preview else None,
            key=self.key,
            folder=self.writer.work,
            allocate=self.allocate,
        )
        if self.plan.known and self.before is not None and self.before.zeros is not None:
            prints = [int(f, 16) for f in self.before.checkpoints.fingerprint]
            state.recall(prints[: self.plan.known], self.before.zeros[:, : self.plan.known])
        return state

    def _rebased(self, reading: Reading, state: GramState) -> tuple[TreeTable | None, str]:
        """Compute the blocks whose digits are lost in the update basis in other bases; see ``rebased``."""
        job = self.opened.job
        work = Rebasing(reading.again, self.plan, self.options, job.pool, job.stop, self.key, self.writer.work, READING)
        return rebased(work, state, self.before, job.observer)

    def _check(self, reading: Reading, state: GramState) -> None:
        """Raise TryAgain (``file-changed``) or DamagedCheckpoint (``checksum-mismatch``) if the bytes read are not
        those listed.
        """
        check_unchanged(self.trajectory)
        if state.exact and not reading.proved:
            self.trajectory.check_crc(state.segments_done(), state.crc_rows())

    def _commit(self, state: GramState, trees: TreeTable | None, left: str) -> None:
        opened = self.opened
        contents = assemble.run_contents(
            self.writer.name,
            self.trajectory,
            state,
            facts_of(self.trajectory, self.plan, state, self.options, self.before),
            old=self.before,
            averages=_averages(self.trajectory),
            look=_look(self.trajectory),
            trees=trees,
            left=left,
        )
        known = identity.recorded(self.trajectory, opened.continued, self.options.state, _moved(contents))
        contents = replace(contents, attributes={**contents.attributes, identity.ATTRIBUTE: known})
        opened.job.observer.committing()
        self.writer.commit(contents, theta="auto" if self.copying and state.exact else "drop")

    def _forget(self, journal: SlabJournal) -> None:
        """Drop the slabs that are kept for a resumption, those of processes elsewhere too."""
        journal.discard()
        shutil.rmtree(self.writer.work / "slabs", ignore_errors=True)


def facts_of(
    trajectory: Trajectory, plan: Plan, state: GramState, options: Options, old: RunContents | None = None
) -> dict[str, Any]:
    """Describe how the sums in ``state`` were made, for the run's attributes; ``old`` is the run that they are added to."""
    facts: dict[str, Any] = {
        "version": __version__,
        "kernel": KERNEL,
        "precision": options.precision,
        "dtype": options.dtype,
        "device": options.device,
        "carried": assemble.carried_types(trajectory, state, old),
        "plan": {"slabs": len(plan.slabs), "threads": plan.threads, "memory": options.memory},
        "bytes": trajectory.bytes,
    }
    if chosen := options.choices():
        facts["choices"] = chosen
    if not state.exact:
        facts["estimate"] = {"fraction": state.fraction, "sample": options.preview, "replicates": plan.replicates}
    return facts


def _averages(trajectory: Trajectory) -> dict[str, str]:
    """Find tensors that move as averages of others, if the files are on this machine."""
    if trajectory.source.remote is not None:
        return {}
    return like_averages(_values(trajectory), [c.name for c in trajectory.columns])


def _moved(contents: RunContents) -> list[str]:
    """Return the tensors that change in a run, in order."""
    changed = [bool(part.diagonal()[1:].any()) for part in each(contents.gram)]
    return list(dict.fromkeys(t for t, c in zip(contents.blocks.tensor, changed, strict=True) if c))


def _look(trajectory: Trajectory) -> Look | None:
    """Return what says how a tensor is arranged, if the files are on this machine."""
    if trajectory.source.remote is not None:
        return None
    return Arrangements(_values(trajectory))


def _values(trajectory: Trajectory) -> Values:
    names = [c.name for c in trajectory.columns]
    rows = [(r.checkpoint, dict(zip(names, r.entries, strict=True))) for r in trajectory.rows]
    return Values(trajectory.source, rows)


def check_unchanged(trajectory: Trajectory) -> None:
    """Raise TryAgain (``file-changed``) if a file is not what it was when it was listed."""
    for row in trajectory.rows:
        if not trajectory.source.unchanged(row.checkpoint):
            raise TryAgain(
                "file-changed",
                f"{row.checkpoint.files[0].path} changed while it was read",
                hint="Wait until the checkpoint is complete, then run the same command again.",
                step=row.step,
                file=row.checkpoint.files[0].path,
            )
