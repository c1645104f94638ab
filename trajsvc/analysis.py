"""From a source to a committed run: open, plan, compute, check, commit. Resumes what was interrupted; appends what is new."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from storage_schema.contents import RunContents
from storage_schema.problems import RunMissing
from storage_schema.runstore import RunStore, RunWriter, StoredRun, run_name
from trajsvc import assemble
from trajsvc.continuation import Continuation, continue_from
from trajsvc.copying import ThetaSink
from trajsvc.errors import TrajsvcError, TryAgain, UsageError
from trajsvc.gram.devices import GPU_CHUNK, check_device, kernel_factory
from trajsvc.gram.engine import ProgressCallback, SlabPool, compute
from trajsvc.gram.plan import Plan, make_plan
from trajsvc.sources.base import CheckpointSource
from trajsvc.store_errors import store_errors
from trajsvc.trajectory import Trajectory, open_trajectory
from trajsvc.version import __version__

if TYPE_CHECKING:
    from trajsvc.anatomy.rules import Rules

DEFAULT_SAMPLE = 0.01


@dataclass(frozen=True)
class Options:
    """How a run is analysed. Sizes in bytes."""

    steps: str | Sequence[int] | None = None
    memory: int = 512 * 2**20
    threads: int = 2
    device: str = "cpu"
    precision: str = "float32"
    rules: Rules | None = None
    heads: int | None = None
    copy: bool = False
    archive: bool = False
    preview: float | None = None
    recompute: bool = False
    skip_damaged: bool = False


class Observer(Protocol):
    """Who watches: called as the parts of an analysis become known."""

    def opened(self, trajectory: Trajectory) -> None: ...
    def planned(self, trajectory: Trajectory, plan: Plan, *, appended: int) -> None: ...
    def progress(self) -> ProgressCallback | None: ...


@dataclass
class Silent:
    """An observer that says nothing."""

    def opened(self, trajectory: Trajectory) -> None:
        return None

    def planned(self, trajectory: Trajectory, plan: Plan, *, appended: int) -> None:
        return None

    def progress(self) -> ProgressCallback | None:
        return None


@dataclass(frozen=True)
class Outcome:
    """What an analysis did: ``action`` is ``computed``, ``appended``, ``estimated`` or ``unchanged``."""

    name: str
    store: Path
    action: str
    new_steps: tuple[int, ...] = ()
    left_out: tuple[int, ...] = field(default=())


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
    observer = observer or Silent()
    check_device(options.device)
    with store_errors():
        for attempt in (1, 2):
            try:
                return _attempt(source, store, name, options, pool, observer, stop or threading.Event())
            except TryAgain as error:
                if error.kind != "file-changed" or attempt == 2:
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
    trajectory = open_trajectory(
        source, steps=options.steps, rules=options.rules, heads=options.heads, skip_damaged=options.skip_damaged
    )
    observer.opened(trajectory)
    run = run_name(name or source.name)
    left_out = tuple(e.step for e in trajectory.excluded)
    runs = RunStore(store)
    old = None if options.recompute else _stored(runs, run)
    options = _as_before(options, old)
    if options.preview and options.copy:
        raise UsageError("preview-copy", "a preview reads too little for a copy", hint="Leave out --preview or --copy.")
    ahead = Continuation()
    if old is not None:
        ahead = continue_from(
            old,
            trajectory,
            precision=options.precision,
            copying=options.copy or options.archive,
            preview=options.preview is not None,
            selected=options.steps is not None,
        )
    if ahead.complete:
        return Outcome(run, store, "unchanged", (), left_out)
    contents = old.contents() if old is not None and ahead.kept else None
    new = len(trajectory.rows) - ahead.kept
    plan = plan_of(trajectory, options, new=new, sample=_sample_fraction(old, options))
    observer.planned(trajectory, plan, appended=new if contents is not None else 0)
    with runs.writer(run) as writer:
        if contents is not None and (
            old is None or writer.current is None or writer.current.generation != old.generation
        ):
            raise TryAgain("store-changed", f"another process wrote the run {run}", hint="Run the same command again.")
        _compute_and_commit(writer, trajectory, plan, options, contents, pool, observer, stop)
    action = "estimated" if options.preview else "appended" if contents is not None else "computed"
    return Outcome(run, store, action, tuple(r.step for r in trajectory.rows[len(trajectory.rows) - new :]), left_out)


def plan_of(
    trajectory: Trajectory, options: Options, *, new: int | None = None, sample: float = DEFAULT_SAMPLE
) -> Plan:
    """The slabs of an analysis with ``options``. Raises LimitExceeded (``memory-budget``)."""
    return make_plan(
        trajectory.columns,
        len(trajectory.rows),
        new=new,
        memory=options.memory,
        threads=options.threads,
        sample_fraction=options.preview or sample,
        precision=options.precision,
        chunk=None if options.device == "cpu" else GPU_CHUNK,
    )


def _stored(runs: RunStore, run: str) -> StoredRun | None:
    try:
        return runs.open(run)
    except RunMissing:
        return None


def _as_before(options: Options, old: StoredRun | None) -> Options:
    """A run that keeps a copy, or an archive, goes on keeping it."""
    if old is None or options.preview:
        return options
    return replace(options, copy=options.copy or old.has_theta, archive=options.archive or old.has_archive)


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
    pool: SlabPool,
    observer: Observer,
    stop: threading.Event,
) -> None:
    copying = options.copy or options.archive
    key = hashlib.sha256(f"{plan.key()} {assemble.rows_digest(trajectory.rows)} {copying}".encode()).hexdigest()
    if copying and old is not None and writer.current is not None and not writer.current.has_theta:
        writer.restore_theta()
    sink = ThetaSink(writer, trajectory, plan.rows - plan.new, key) if copying else None
    journal = writer.journal(key)
    if sink is not None and not sink.resumed:
        journal.discard()  # the copy begins anew, and so do the slabs that would have written it
        journal = writer.journal(key)
    try:
        state = compute(
            trajectory,
            plan,
            kernel_factory(options.device, plan),
            pool,
            journal=journal,
            sink=sink,
            progress=observer.progress(),
            stop=stop,
            until=plan.sample_slabs if options.preview else None,
        )
        _check_unchanged(trajectory)
        if state.exact:
            trajectory.check_crc(state.segments_done(), state.crc_rows())
    except TrajsvcError as error:
        if error.kind in ("file-changed", "checksum-mismatch"):
            journal.discard()
        raise
    contents = assemble.run_contents(
        writer.name, trajectory, state, old=old, facts=_facts(trajectory, plan, state, options)
    )
    writer.commit(contents, theta="auto" if copying and state.exact else "drop")
    if state.exact:
        journal.discard()
    if options.archive and state.exact:
        writer.archive_theta()


def _facts(trajectory: Trajectory, plan: Plan, state: Any, options: Options) -> dict[str, Any]:
    facts = {
        "version": __version__,
        "precision": options.precision,
        "device": options.device,
        "carried": assemble.carried_types(trajectory, state),
        "plan": {"slabs": len(plan.slabs), "chunk": plan.chunk, "threads": plan.threads, "memory": options.memory},
        "bytes": trajectory.bytes,
    }
    if not state.exact:
        facts["estimate"] = {"fraction": state.fraction, "sample": options.preview, "replicates": plan.replicates}
    return facts


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
