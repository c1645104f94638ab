"""A job that compares two stored runs: its slabs are computed on workers, and the runner keeps the sums in the store."""

from __future__ import annotations

import threading
import time
from typing import Any

from trajsvc.analysis.cross import CrossJob, compute_cross
from trajsvc.analysis.observer import NullObserver
from trajsvc.analysis.options import Options
from trajsvc.gram.engine import Progress, ProgressCallback
from trajsvc.gram.plan import Plan
from trajsvc.jobs.options import PLAN_THREADS
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Lease
from trajsvc.jobs.sources import opener_within
from workers.dask_pool import DaskPool
from workers.heartbeat import Heartbeat
from workers.job_observer import RunnerSettings, check_limit, reserve_disk


def run_cross_job(
    queue: JobQueue,
    lease: Lease,
    heartbeat: Heartbeat,
    settings: RunnerSettings,
    pool: DaskPool,
    device: str,
    halt: threading.Event,
) -> dict[str, Any]:
    """Compare the two runs of the job. Raises Cancelled, LeaseLost, and what ``compute_cross`` raises."""
    spec = lease.job.spec
    work = spec.cross
    assert work is not None
    watch = _Watch(queue, lease, heartbeat, settings)
    compute_cross(
        CrossJob(
            settings.store,
            (spec.run, work.other),
            Options.of(memory=spec.memory, device=device, threads=PLAN_THREADS),
            pool,
            work.rename,
            work.common,
            opener_within(settings.roots),
            watch,
            halt,
        )
    )
    return {"run": spec.run, "runs": [spec.run, work.other], "new_steps": []}


class _Watch(NullObserver):
    """Tells how far the slabs are; checks the fence before the commit."""

    def __init__(self, queue: JobQueue, lease: Lease, heartbeat: Heartbeat, settings: RunnerSettings) -> None:
        self.queue, self.lease, self.heartbeat, self.settings = queue, lease, heartbeat, settings
        self._begun = time.monotonic()

    def sized(self, plan: Plan) -> None:
        """Reserve the disk that the sums will take. Raises LimitExceeded."""
        check_limit("checkpoints", plan.rows, self.settings.limits.checkpoints)
        check_limit("bytes", plan.bytes, self.settings.limits.bytes)
        reserve_disk(self.queue, self.lease, self.settings.store, 3 * plan.blocks * plan.rows**2 * 8)

    def progress(self) -> ProgressCallback:
        return self._show

    def committing(self) -> None:
        self.queue.check(self.lease)

    def _show(self, progress: Progress) -> None:
        check_limit("seconds", time.monotonic() - self._begun, self.settings.limits.seconds)
        state = progress.state
        fresh = progress.bytes_done - progress.bytes_resumed
        rate = fresh / progress.seconds if progress.seconds > 0 else 0.0
        facts = {
            "phase": "computing", "slabs": state.cursor, "slabs_total": len(state.plan.slabs), "bytes": progress.bytes_done,
            "bytes_total": progress.bytes, "rate": rate,
            "seconds_left": (progress.bytes - progress.bytes_done) / rate if rate else None,
        }  # fmt: skip
        self.heartbeat.tell(facts, state.cursor)
