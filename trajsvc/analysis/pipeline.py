"""From a source to a committed run: open, plan, compute, check, commit. Resumes what was interrupted; appends what is new."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage_schema.errors import RunMissing
from storage_schema.models.results import Finding
from storage_schema.runs.archive import archive_theta, restore_theta
from storage_schema.runs.contents import RunContents
from storage_schema.runs.store import RunStore, RunWriter, StoredRun, run_name
from trajsvc.analysis import assemble, identity
from trajsvc.analysis.observer import NullObserver, Observer, Outcome
from trajsvc.analysis.options import DEFAULT_SAMPLE, Options, RunOptions
from trajsvc.analysis.resume import Continuation, continue_from
from trajsvc.anatomy.rules_toml import parse_rules
from trajsvc.errors import TrajsvcError, TryAgain, UsageError
from trajsvc.gram.engine import SlabPool, compute
from trajsvc.gram.kernels.choose import KernelFactory, must_compile, workspace
from trajsvc.gram.plan import KERNEL, Plan, make_plan
from trajsvc.gram.sums import GramState
from trajsvc.sources.base import CheckpointSource, never
from trajsvc.sources.resolve import open_named
from trajsvc.trajectory import tables
from trajsvc.trajectory.copy import ThetaSink
from trajsvc.trajectory.likeness import like_averages
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.open_theta import read_from
from trajsvc.trajectory.opening import open_trajectory
from trajsvc.trajectory.values import Values
from trajsvc.version import __version__

COMPILING = "compiling the kernel for this processor: a second or two, once"
READING = 8 * 2**20
"""Bytes of the budget that are kept for what reading takes beside the slabs: connections, and where every tensor lies in every file."""


def run_analysis(
    source: CheckpointSource,
    store: Path,
    name: str | None,
    options: Options,
    pool: SlabPool,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Analyse ``source`` into ``store``; the same call resumes. A checkpoint that changes while it is read fails the attempt,
    which is made once more from the start. Raises TrajsvcError; gram.slabs.Cancelled when ``stop`` is set."""
    observer = observer or NullObserver()
    pool.ready(options.device)
    for attempt in (1, 2):
        try:
            return _attempt(source, store, name, options, pool, observer, stop or threading.Event())
        except TryAgain as error:
            if error.kind not in ("file-changed", "hub-file-changed") or attempt == 2:
                raise
            source.refresh()
    raise AssertionError("not reached")


def _attempt(
    source: CheckpointSource,
    store: Path,
    name: str | None,
    options: Options,
    pool: SlabPool,
    observer: Observer,
    stop: threading.Event,
) -> Outcome:
    trajectory = trajectory_of(source, options)
    observer.opened(trajectory)
    runs = RunStore(store)
    run = identity.name_in(runs, source) if name is None else run_name(name)
    left_out = tuple(e.step for e in trajectory.excluded)
    stored = _stored(runs, run)
    known = (
        identity.check(stored, trajectory, state=options.state, replace=options.replace) if stored is not None else None
    )
    old = None if options.recompute or known is None else stored
    options = _copying(options, old, source)
    if options.preview and options.copy_parameters:
        raise UsageError("preview-copy", "a preview reads too little for a copy", hint="Leave out --preview or --copy.")
    ahead = Continuation()
    if old is not None and known is not None:
        ahead = continue_from(
            old,
            trajectory,
            precision=options.precision,
            dtype=options.dtype,
            copying=options.keeps_copy,
            preview=options.preview is not None,
            selected=options.steps is not None,
            moved=known.moved,
            replacing=options.replace,
        )
    if ahead.complete and old is not None:
        if known is not None and known.moved:
            with runs.writer(run) as writer:
                _check_current(writer, stored)
                writer.commit(identity.relocated(old, trajectory, known.moved))
        return Outcome(run, store, "unchanged", (), left_out)
    contents = old.contents() if old is not None and ahead.kept else None
    new = len(trajectory.rows) - ahead.kept
    plan = plan_of(trajectory, options, new=new, sample=_sample_fraction(old, options))
    if source.remote and not options.keeps_copy:
        trajectory = replace(trajectory, findings=(*trajectory.findings, *_unproved(trajectory)))
    observer.planned(trajectory, plan, appended=new if contents is not None else 0)
    for message in (ahead.anew, COMPILING if must_compile(options.device, options.precision) else ""):
        if message:
            observer.note(message)
    with runs.writer(run) as writer:
        _check_current(writer, stored)
        kept_identity = old if contents is not None else None
        _compute_and_commit(writer, trajectory, plan, options, contents, kept_identity, pool, observer, stop)
    action = "estimated" if options.preview else "appended" if contents is not None else "computed"
    return Outcome(run, store, action, tuple(r.step for r in trajectory.rows[len(trajectory.rows) - new :]), left_out)


def _check_current(writer: RunWriter, seen: StoredRun | None) -> None:
    """Raise TryAgain (``store-changed``) where the run was written since it was looked at."""
    now = None if writer.current is None else writer.current.generation
    if now != (None if seen is None else seen.generation):
        raise TryAgain(
            "store-changed", f"another process wrote the run {writer.name}", hint="Run the same command again."
        )


def source_of(
    source: str | Path,
    options: RunOptions,
    store: Path | None = None,
    stop: Callable[[], bool] = never,
    pins: Mapping[str, str] | None = None,
) -> CheckpointSource:
    """The source that a user names, opened with ``options``; see ``open_named``. What is read ahead lies in a folder of ``store``."""
    here = options if isinstance(options, Options) else None
    return open_named(
        source,
        store,
        options.revisions,
        options.commits,
        cache=here.cache if here else None,
        connections=here.connections if here else None,
        stop=stop,
        pins=pins,
        state=options.state,
        step_pattern=options.step_pattern,
    )


def trajectory_of(source: CheckpointSource, options: RunOptions) -> Trajectory:
    """The checkpoints of ``source`` that ``options`` choose, side by side. Raises what reading headers raises."""
    rules = None if options.rules is None else parse_rules(options.rules, "the rules file")
    return open_trajectory(
        source,
        steps=options.steps,
        rules=rules,
        heads=options.heads,
        skip_damaged=options.skip_damaged,
        exclude=options.exclude,
        rename=options.rename,
    )


def facts_of(trajectory: Trajectory, plan: Plan, state: GramState, options: Options) -> dict[str, Any]:
    """How the sums in ``state`` were made, for the run's attributes."""
    facts: dict[str, Any] = {
        "version": __version__,
        "kernel": KERNEL,
        "precision": options.precision,
        "dtype": options.dtype,
        "device": options.device,
        "carried": assemble.carried_types(trajectory, state),
        "plan": {"slabs": len(plan.slabs), "threads": plan.threads, "memory": options.memory},
        "bytes": trajectory.bytes,
    }
    if not state.exact:
        facts["estimate"] = {"fraction": state.fraction, "sample": options.preview, "replicates": plan.replicates}
    return facts


def plan_of(
    trajectory: Trajectory, options: Options, *, new: int | None = None, sample: float = DEFAULT_SAMPLE
) -> Plan:
    """The slabs of an analysis with ``options``. Raises LimitExceeded (``memory-budget``)."""
    return make_plan(
        trajectory.columns,
        len(trajectory.rows),
        new=new,
        memory=options.memory,
        reserve=READING,
        threads=options.threads,
        sample_fraction=options.preview or sample,
        precision=options.precision,
        dtype=options.dtype,
        workspace=workspace(options.device, len(trajectory.rows), options.precision),
    )


def _stored(runs: RunStore, run: str) -> StoredRun | None:
    try:
        return runs.open(run)
    except RunMissing:
        return None


def _copying(options: Options, old: StoredRun | None, source: CheckpointSource) -> Options:
    """With ``copy`` decided: what the user said; else a stored run goes on as it was; else a run from a network is copied. A run that
    keeps a copy, or an archive, goes on keeping it."""
    if options.preview:
        return options
    if old is not None and old.attributes.get("estimate") is None:
        archive = options.archive or old.has_archive
        return options.with_(copy_parameters=options.copy_parameters or old.has_theta, archive=archive)
    return options.with_(copy_parameters=source.remote if options.copy_parameters is None else options.copy_parameters)


def _unproved(trajectory: Trajectory) -> list[Finding]:
    """What reading by ranges leaves open: files without checksums of their own."""
    open_files = {
        e.file
        for r in range(len(trajectory.rows))
        for c, e in enumerate(trajectory.rows[r].entries)
        if not trajectory.has_crc(c, r)
    }
    if not open_files:
        return []
    message = (
        f"{len(open_files)} files were read in ranges, which their SHA-256 does not prove, and have no checksums of their own; "
        "--copy reads and proves whole files"
    )
    return [Finding(kind="unproved", severity="info", message=message, details={"files": len(open_files)})]


def _sample_fraction(old: StoredRun | None, options: Options) -> float:
    """The share that the first slabs sample: that of an earlier preview, so that its bytes are not read again."""
    if options.preview is None and old is not None and old.attributes.get("estimate"):
        return float(old.attributes["estimate"].get("sample", DEFAULT_SAMPLE))
    return DEFAULT_SAMPLE


def _compute_and_commit(
    writer: RunWriter,
    trajectory: Trajectory,
    plan: Plan,
    options: Options,
    old: RunContents | None,
    before: StoredRun | None,
    pool: SlabPool,
    observer: Observer,
    stop: threading.Event,
) -> None:
    copying = options.keeps_copy
    key = hashlib.sha256(f"{plan.key()} {tables.rows_digest(trajectory.rows)} {copying}".encode()).hexdigest()
    if copying and old is not None and writer.current is not None and not writer.current.has_theta:
        restore_theta(writer)
    sink = ThetaSink(writer, trajectory, plan.rows - plan.new, key) if copying else None
    journal = writer.journal(key)
    if sink is not None and not sink.resumed:
        journal.discard()  # the copy begins anew, and so do the slabs that would have written it
        journal = writer.journal(key)
    reading = read_from(
        trajectory, plan, writer, sink, key=key, preview=options.preview is not None, elsewhere=pool.elsewhere
    )
    try:
        reading.begin(observer.copied, stop)
        state = compute(
            reading.theta,
            plan,
            KernelFactory.of(options.device, plan),
            pool,
            journal=journal,
            sink=reading.sink,
            progress=observer.progress(),
            stop=stop,
            until=plan.sample_slabs if options.preview else None,
            key=key,
            folder=writer.work,
        )
        _check_unchanged(trajectory)
        if state.exact and not reading.proved:
            trajectory.check_crc(state.segments_done(), state.crc_rows())
    except TrajsvcError as error:
        if error.kind in ("file-changed", "checksum-mismatch"):
            journal.discard()
            _discard_slabs(writer)
        raise
    finally:
        reading.close()
    known = identity.recorded(trajectory, before, options.state)
    facts = facts_of(trajectory, plan, state, options) | {identity.ATTRIBUTE: known}
    averages = _averages(trajectory)
    contents = assemble.run_contents(writer.name, trajectory, state, old=old, facts=facts, averages=averages)
    observer.committing()
    writer.commit(contents, theta="auto" if copying and state.exact else "drop")
    if state.exact:
        journal.discard()
        _discard_slabs(writer)
        reading.clear()
    if options.archive and state.exact:
        archive_theta(writer)


def _averages(trajectory: Trajectory) -> dict[str, str]:
    """Tensors that move as averages of others; looked for where the files are on this machine."""
    if trajectory.source.remote:
        return {}
    names = [c.name for c in trajectory.columns]
    rows = [(r.checkpoint, dict(zip(names, r.entries, strict=True))) for r in trajectory.rows]
    return like_averages(Values(trajectory.source, rows), names)


def _discard_slabs(writer: RunWriter) -> None:
    """Drop what processes elsewhere kept of slabs."""
    shutil.rmtree(writer.work / "slabs", ignore_errors=True)


def _check_unchanged(trajectory: Trajectory) -> None:
    for row in trajectory.rows:
        if not trajectory.source.unchanged(row.checkpoint):
            raise TryAgain(
                "file-changed",
                f"{row.checkpoint.files[0].path} changed while it was read",
                hint="Wait until the checkpoint is complete, then run the same command again.",
                step=row.step,
                file=row.checkpoint.files[0].path,
            )
