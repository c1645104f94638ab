"""The observer of a job's analysis: reports progress, publishes estimates, refuses work beyond the limits."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from storage_schema.runs.store import RunStore
from trajsvc.analysis import live_estimate
from trajsvc.analysis.forecast import network_mds
from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.observer import NullObserver
from trajsvc.analysis.options import DEFAULT_SAMPLE
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.errors import LimitExceeded, TrajsvcError
from trajsvc.gram.engine import Progress, ProgressCallback
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.jobs.options import PLAN_THREADS, options_of
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Lease
from trajsvc.trajectory.windows import reading_cost
from workers.heartbeat import Heartbeat

if TYPE_CHECKING:
    from trajsvc.gram.plan import Plan
    from trajsvc.gram.sums import GramState
    from trajsvc.trajectory.matrix import Trajectory


from dataclasses import dataclass, field
from pathlib import Path

from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.queue import HEARTBEAT, LEASE
from trajsvc.jobs.records import Quota
from trajsvc.jobs.registered import Registered
from workers.unit_session import PATIENCE

ESTIMATE_SECONDS: Final = 2.0
"""minimum seconds between two estimates"""
BETWEEN: Final = 9.0
"""the next estimate waits so many times as long as the last one took, so that estimates take a tenth of a large run's time"""
LEAST_LEFT: Final = 3.0
"""seconds that a job must still take for an estimate to be made"""
LARGE: Final = 2**29
"""size in bytes from which a run is sampled before it is copied, since copying it takes long"""
REQUEST: Final = 2**19
"""bytes that could have come over a connection while a request for few waits for its answer"""
DEAR: Final = 8
"""a sample over a network takes at most one in so many of the bytes, its requests counted as bytes: else the copy is soon there itself"""
SPARE_DISK: Final = 64 * 2**20

log = structlog.get_logger()


class JobObserver(NullObserver):
    """Report a job's progress: slabs, bytes, rate, time left, the network's MDS so far with its error."""

    def __init__(
        self,
        queue: JobQueue,
        lease: Lease,
        heartbeat: Heartbeat,
        settings: RunnerSettings,
        device: str = "cpu",
        halt: threading.Event | None = None,
    ) -> None:
        self.queue, self.lease, self.heartbeat, self.store = queue, lease, heartbeat, settings.store
        self.limits, self.halt = settings.limits, halt or threading.Event()
        self.options = options_of(lease.job.spec).with_(device=device)
        self._facts: dict[str, Any] = {"device": device}
        self._trajectory: Trajectory | None = None
        """of which estimates are shown"""
        self._estimate_at = 0.0
        self._begun = time.monotonic()

    def opened(self, trajectory: Trajectory) -> None:
        rows = trajectory.rows
        check_limit("checkpoints", len(rows), self.limits.checkpoints)
        check_limit("bytes", trajectory.bytes, self.limits.bytes)
        self._tell(
            phase="opened", checkpoints=len(rows), parameters=trajectory.parameters,
            architecture=trajectory.anatomy.architecture, excluded=len(trajectory.excluded),
        )  # fmt: skip

    def planned(self, trajectory: Trajectory, plan: Plan, *, appended: int) -> None:
        self._tell(phase="computing", slabs=0, slabs_total=len(plan.slabs), bytes=0, bytes_total=plan.bytes)
        self._reserve(trajectory, plan)
        if plan.new == plan.rows and not plan.on_disk and live_estimate.may_show(self.store, self.lease.job.run):
            self._trajectory = trajectory
            if trajectory.bytes >= LARGE and self._copies(trajectory) and _is_cheap(trajectory, plan):
                self._sample(trajectory)

    def _copies(self, trajectory: Trajectory) -> bool:
        """Return whether all bytes are copied to the store before the first slab."""
        return self.options.keeps_copy or (
            self.options.copy_parameters is None and trajectory.source.remote is not None
        )

    def _sample(self, trajectory: Trajectory) -> None:
        """Compute a first estimate from about a hundredth of the bytes, which are read again later."""
        options = self.options.with_(preview=DEFAULT_SAMPLE, copy_parameters=None, recompute=True, device="cpu")
        try:
            live, pool = RunStore(self.store).live.root, ThreadPool(PLAN_THREADS)
            outcome = run_analysis(
                AnalysisJob(trajectory.source, live, self.lease.job.run, options, pool, _Sampling(self), self.halt)
            )
            self._tell(estimate=DEFAULT_SAMPLE)
            log.info("sampled", run=outcome.name)
        except TrajsvcError as error:  # the job itself meets the same error, or continues without the estimate
            log.warning("estimate-not-shown", error=error.message)

    def _reserve(self, trajectory: Trajectory, plan: Plan) -> None:
        """Reserve the disk space that will be needed, before anything is written.

        Raises LimitExceeded (``disk-space``).
        """
        grams = plan.blocks * plan.rows * plan.rows * 8
        need = 3 * grams + (trajectory.bytes if self._copies(trajectory) else 0)
        reserve_disk(self.queue, self.lease, self.store, need)

    def copied(self, done: int, total: int) -> None:
        check_limit("seconds", time.monotonic() - self._begun, self.limits.seconds)
        self._tell(phase="copying", copied=done, copy_total=total)

    def progress(self) -> ProgressCallback:
        return self._show

    def committing(self) -> None:
        """Check the lease, so that a runner that lost it commits nothing. Raises LeaseLost."""
        self.queue.check(self.lease)

    def _show(self, progress: Progress) -> None:
        check_limit("seconds", time.monotonic() - self._begun, self.limits.seconds)
        state = progress.state
        fresh = progress.bytes_done - progress.bytes_resumed
        rate = fresh / progress.seconds if progress.seconds > 0 else 0.0
        left = (progress.bytes - progress.bytes_done) / rate if rate else None
        facts: dict[str, Any] = {
            "phase": "computing", "slabs": state.cursor, "slabs_total": len(state.plan.slabs), "bytes": progress.bytes_done,
            "bytes_total": progress.bytes, "rate": rate, "seconds_left": left,
        }  # fmt: skip
        at = time.monotonic()
        if state.cursor >= state.plan.sample_slabs and (at > self._estimate_at or state.exact):
            mds, error = network_mds(progress)
            facts.update(mds=mds, mds_error=error)
            if not state.exact and left is not None and left > LEAST_LEFT:
                facts.update(self._show_live(state))
            self._estimate_at = time.monotonic() + max(ESTIMATE_SECONDS, BETWEEN * (time.monotonic() - at))
        self._tell(**facts)

    def _show_live(self, state: GramState) -> dict[str, Any]:
        """Publish the current estimate of the run. A failure to do so does not fail the job."""
        if self._trajectory is None:
            return {}
        try:
            self.queue.check(self.lease)
            shown = live_estimate.show(self.store, self.lease.job.run, self._trajectory, state, self.options)
        except (TrajsvcError, OSError, SQLAlchemyError) as error:
            log.warning("estimate-not-shown", error=str(error).partition("\n")[0])
            return {}
        return {"estimate": shown}

    def _tell(self, **facts: Any) -> None:
        self._facts.update(facts)
        self.heartbeat.tell(dict(self._facts), self._facts.get("slabs"))


def reserve_disk(queue: JobQueue, lease: Lease, store: Path, need: int) -> None:
    """Reserve ``need`` bytes of disk for a job. Raises LimitExceeded (``disk-space``)."""
    others = queue.reserve(lease, need)
    free = shutil.disk_usage(store if store.is_dir() else store.parent).free
    if need + others + SPARE_DISK > free:
        raise LimitExceeded(
            "disk-space",
            f"the job needs {need >> 20} MiB of disk, {others >> 20} MiB are reserved, {free >> 20} MiB are free",
            hint="Submit it without a copy (copy: false), remove runs, or enlarge the store's disk.",
        )


def check_limit(what: str, has: float, most: float) -> None:
    """Raise LimitExceeded (``job-checkpoints``, ``job-bytes``, ``job-seconds``) for more than ``most``; 0: any number."""
    if most and has > most:
        raise LimitExceeded(
            f"job-{what}", f"the job takes {has:.0f} {what}; this server allows {most:.0f}",
            hint="Choose fewer checkpoints with steps, or ask the operator.",
        )  # fmt: skip


class _Sampling(NullObserver):
    """Observe the computation of the first estimate; a runner that lost its lease publishes nothing."""

    def __init__(self, job: JobObserver) -> None:
        self.job = job

    def committing(self) -> None:
        self.job.committing()


def _is_cheap(trajectory: Trajectory, plan: Plan) -> bool:
    """Return whether a sample costs little compared with the whole run; for small networks it takes many small
    requests.
    """
    if (remote := trajectory.source.remote) is None:
        return True
    cache = remote.cache
    cost = reading_cost(trajectory, plan, cache.room if cache is not None else 0, sample=True)
    return (cost.bytes + cost.requests * REQUEST) * DEAR <= trajectory.bytes


@dataclass(frozen=True)
class Limits:
    """Limits of one job; 0: no limit."""

    checkpoints: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class RunnerSettings:
    """Settings of one runner."""

    store: Path
    roots: Roots
    memory: int = 2**30
    """jobs that ask for more are left to others"""
    quota: Quota = field(default_factory=Quota)
    patience: float = PATIENCE
    lease: float = LEASE
    heartbeat: float = HEARTBEAT
    limits: Limits = field(default_factory=Limits)
    registered: Registered = field(default_factory=Registered)
