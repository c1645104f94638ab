"""A requested analysis, and what is known of it before a slab is read: its checkpoints, the stored run, how much of it
can be kept.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage_schema.errors import RunMissing
from storage_schema.files.roomy import Allocate
from storage_schema.models.results import Finding
from storage_schema.runs.contents import RunContents
from storage_schema.runs.store import RunStore, StoredRun, run_name
from storage_schema.runs.writer import RunWriter
from trajsvc.analysis import identity
from trajsvc.analysis.observer import NullObserver, Observer, Outcome
from trajsvc.analysis.options import DEFAULT_SAMPLE, Options
from trajsvc.analysis.resume import Continuation, continue_from
from trajsvc.analysis.selected import trajectory_of
from trajsvc.errors import TryAgain, UsageError
from trajsvc.gram.engine import SlabPool
from trajsvc.sources.base import CheckpointSource
from trajsvc.trajectory.elements import whole_record
from trajsvc.trajectory.matrix import Trajectory


@dataclass(frozen=True)
class AnalysisJob:
    """A requested analysis.

    ``source`` is what is analysed, ``store`` and ``name`` (None: the source's own) where the run is stored; ``options``
    and ``pool`` say how and on what it is computed; ``observer`` receives progress, and ``stop`` can stop it.
    """

    source: CheckpointSource
    store: Path
    name: str | None
    options: Options
    pool: SlabPool
    observer: Observer = field(default_factory=NullObserver)
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class OpenedJob:
    """A job whose checkpoints are listed and whose stored run, if any, has been compared."""

    job: AnalysisJob
    run: str
    trajectory: Trajectory
    options: Options
    """those of the job, with the copy decided"""
    stored: StoredRun | None
    """what the store has under the name"""
    old: StoredRun | None
    """the stored run where it is this one and is not to be computed anew"""
    moved: frozenset[int]
    """steps whose files are the stored ones in another place"""
    ahead: Continuation

    @property
    def runs(self) -> RunStore:
        return RunStore(self.job.store)

    @property
    def complete(self) -> StoredRun | None:
        """The stored run where it has all checkpoints already."""
        return self.old if self.ahead.complete else None

    @property
    def continued(self) -> StoredRun | None:
        """The stored run that new checkpoints are added to."""
        return self.old if self.ahead.kept else None

    @property
    def new(self) -> int:
        """How many checkpoints are computed: the last ones."""
        return len(self.trajectory.rows) - self.ahead.kept

    @property
    def known(self) -> int:
        """How many leading checkpoints need not be looked at again: what is kept of them is all that a run needs."""
        old = self.continued
        return 0 if old is None or old.zeros() is None else self.ahead.kept

    @property
    def sample(self) -> float:
        """The share of values that the first slabs sample: that of an earlier preview, so that its bytes are not read again."""
        if self.options.preview is None and self.old is not None and self.old.attributes.get("estimate"):
            return float(self.old.attributes["estimate"].get("sample", DEFAULT_SAMPLE))
        return DEFAULT_SAMPLE

    def contents(self, allocate: Allocate) -> RunContents | None:
        """Return what the run that is continued holds, its Grams where ``allocate`` puts them."""
        return None if self.continued is None else self.continued.contents(allocate)

    def check_current(self, writer: RunWriter) -> None:
        """Raise TryAgain (``store-changed``) where the run was written since it was looked at."""
        now = None if writer.current is None else writer.current.generation
        if now != (None if self.stored is None else self.stored.generation):
            raise TryAgain(
                "store-changed", f"another process wrote the run {writer.name}", hint="Run the same command again."
            )

    def outcome(self) -> Outcome:
        """Return the outcome of the finished job."""
        left_out = tuple(e.step for e in self.trajectory.excluded)
        if self.complete is not None:
            return Outcome(self.run, self.job.store, "unchanged", (), left_out)
        action = "estimated" if self.options.preview else "appended" if self.continued is not None else "computed"
        steps = tuple(r.step for r in self.trajectory.rows[self.ahead.kept :])
        return Outcome(self.run, self.job.store, action, steps, left_out)


def open_job(job: AnalysisJob) -> OpenedJob:
    """List the checkpoints of ``job`` and find out which of them the store has.

    Raises what listing and reading headers raise, RunExists (``run-exists``), Refused (``checkpoints-gone``) and UsageError
    (``preview-copy``, ``preview-over-run``).
    """
    runs = RunStore(job.store)
    runs.check(missing=True)
    run = identity.name_in(runs, job.source) if job.name is None else run_name(job.name)
    stored = _stored(runs, run)
    trajectory = trajectory_of(job.source, job.options, whole=stored is None)
    job.observer.opened(trajectory)
    known = None
    if stored is not None:
        known = identity.check(stored, trajectory, state=job.options.state, replace=job.options.replace)
    old = None if job.options.recompute or known is None else stored
    moved = frozenset() if known is None else known.moved
    options = _with_copy(job.options, old, job.source)
    if options.preview and options.copy_parameters:
        raise UsageError("preview-copy", "a preview reads too little for a copy", hint="Leave out --preview or --copy.")
    ahead = Continuation() if old is None else continue_from(old, trajectory, options, moved)
    if not ahead.complete and job.source.remote is not None and not options.keeps_copy:
        trajectory = replace(trajectory, findings=(*trajectory.findings, *_unproved(trajectory)))
    return OpenedJob(job, run, trajectory, options, stored, old, moved, ahead)


def _stored(runs: RunStore, run: str) -> StoredRun | None:
    try:
        return runs.open(run)
    except RunMissing:
        return None


def _with_copy(options: Options, old: StoredRun | None, source: CheckpointSource) -> Options:
    """Decide whether a copy is kept.

    The user's choice holds; else a stored run goes on as it was; else a run from a network is copied. A run that keeps
    a copy, or an archive, goes on keeping it.
    """
    if options.preview:
        return options
    if old is not None and old.attributes.get("estimate") is None:
        archive = options.archive or old.has_archive
        return options.with_(copy_parameters=options.copy_parameters or old.has_theta, archive=archive)
    wanted = options.copy_parameters
    return options.with_(copy_parameters=source.remote is not None if wanted is None else wanted)


def _unproved(trajectory: Trajectory) -> list[Finding]:
    """Report files that were read by ranges and have no checksums of their own."""
    open_files = {
        e.file for r in range(len(trajectory.rows)) for e in trajectory.rows[r].entries if not whole_record(e)
    }
    if not open_files:
        return []
    message = (
        f"{len(open_files)} files were read in ranges, which their SHA-256 does not prove, and have no checksums of their own; "
        "--copy reads and proves whole files"
    )
    return [Finding(kind="unproved", severity="info", message=message, details={"files": len(open_files)})]
