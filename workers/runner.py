"""The runner: claims jobs, has their slabs computed, commits, and reports the outcome.

Any number of runners share one queue and one store.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from trajsvc.analysis import live_estimate
from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.observer import Outcome
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.errors import Cancelled, TrajsvcError, TryAgain
from trajsvc.jobs.failures import cause_of
from trajsvc.jobs.options import PLAN_THREADS
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Lease, LeaseLost
from trajsvc.jobs.sources import open_job_source
from trajsvc.jobs.states import Kind
from workers.cluster import Cluster
from workers.cross_job import run_cross_job
from workers.dask_pool import DaskPool
from workers.heartbeat import Heartbeat
from workers.job_observer import JobObserver, RunnerSettings
from workers.unit_session import WorkerPool

IDLE: Final = 0.5
STORE_BUSY_PAUSE: Final = 5.0

log = structlog.get_logger()


class Runner:
    """Run one job at a time with ``run`` until ``stop`` is set; the job then returns to the queue with its finished
    slabs kept.
    """

    def __init__(self, queue: JobQueue, cluster: Cluster, settings: RunnerSettings, name: str | None = None) -> None:
        self.queue, self.cluster, self.settings = queue, cluster, settings
        self.name = name or f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident() & 0xFFFF:x}"
        self.stop = threading.Event()

    def run(self) -> None:
        """Run jobs until ``stop`` is set. If the database does not answer, wait and try again."""
        log.info("runner-started", runner=self.name, store=str(self.settings.store))
        while not self.stop.is_set():
            try:
                if not self.run_one():
                    self.stop.wait(IDLE)
            except SQLAlchemyError as error:
                log.warning("database-unreachable", error=type(error).__name__)
                self.stop.wait(2.0)
        log.info("runner-stopped", runner=self.name)

    def run_one(self) -> bool:
        """Claim a job and work on it; False when there is none."""
        settings = self.settings
        lease = self.queue.claim(self.name, memory=settings.memory, quota=settings.quota, lease=settings.lease)
        if lease is None:
            return False
        with structlog.contextvars.bound_contextvars(job=lease.job.id, run=lease.job.run):
            log.info("job-started", kind=str(lease.job.kind), source=lease.job.spec.source, attempt=lease.job.attempts)
            halt = threading.Event()
            with Heartbeat(self.queue, lease, halt, every=settings.heartbeat, length=settings.lease) as heartbeat:
                try:
                    self._work(lease, heartbeat, halt)
                except LeaseLost:
                    log.warning("job-lost", why="another runner has it")
        return True

    def _work(self, lease: Lease, heartbeat: Heartbeat, halt: threading.Event) -> None:
        over = threading.Event()
        watcher = threading.Thread(target=self._pass_on, args=(halt, over), daemon=True, name="trajsvc-halt")
        watcher.start()
        try:
            works = {Kind.GRADIENTS: self._gradients, Kind.SPECTRA: self._spectra, Kind.CROSS: self._cross}
            result = works.get(lease.job.kind, self._analyse)(lease, heartbeat, halt)
            heartbeat.beat()  # the last progress belongs to the job's events
            self.queue.succeed(lease, result)
            log.info("job-succeeded", new_steps=len(result["new_steps"]))
        except Cancelled:
            self._stopped(lease, heartbeat)
        except LeaseLost:
            raise
        except TryAgain as error:
            self._try_again(lease, error)
        except (TrajsvcError, MemoryError) as error:
            state = self.queue.fail(lease, cause_of(error), again=False)
            log.warning("job-failed", state=str(state), error=str(error).partition("\n")[0])
        except SQLAlchemyError:
            raise  # the lease runs out, and the job is taken up again
        except Exception as error:
            log.exception("job-failed")
            self.queue.fail(lease, cause_of(error), again=True)
        finally:
            over.set()

    def _pass_on(self, halt: threading.Event, over: threading.Event) -> None:
        """Stop the job when the runner is to stop."""
        while not over.wait(0.2):
            if self.stop.is_set():
                halt.set()
                return

    def _stopped(self, lease: Lease, heartbeat: Heartbeat) -> None:
        if heartbeat.lost:
            raise LeaseLost(lease.job.id)
        if heartbeat.cancelled:
            self.queue.cancelled(lease)
            live_estimate.clear(self.settings.store, lease.job.run)
            log.info("job-cancelled")
        else:
            self.queue.give_back(lease)
            log.info("job-given-back")

    def _try_again(self, lease: Lease, error: TryAgain) -> None:
        if error.kind == "store-busy":  # its last writer has not ended yet: the job has not failed
            self.queue.give_back(lease, waiting=error.message, pause=STORE_BUSY_PAUSE)
            log.info("job-waits", why=error.message)
            return
        state = self.queue.fail(lease, cause_of(error), again=error.kind not in ("no-workers", "no-scheduler"))
        log.warning("attempt-failed", state=str(state), error=error.message)

    def _gradients(self, lease: Lease, heartbeat: Heartbeat, halt: threading.Event) -> dict[str, Any]:
        from workers.gradient_job import run_gradient_job  # only for these: it imports torch

        device = self._device(lease.job.spec.device)
        pool = WorkerPool(self.cluster, device, self.settings.patience, heartbeat.wait_for)
        done = run_gradient_job(self.queue, lease, heartbeat, self.settings, pool, halt)
        return {"run": done.run, "sets": list(done.sets), "new_steps": list(done.computed), "there": list(done.there)}

    def _spectra(self, lease: Lease, heartbeat: Heartbeat, halt: threading.Event) -> dict[str, Any]:
        from workers.spectrum_job import run_spectrum_job

        device = self._device(lease.job.spec.device)
        pool = WorkerPool(self.cluster, device, self.settings.patience, heartbeat.wait_for)
        done = run_spectrum_job(self.queue, lease, heartbeat, self.settings, pool, halt)
        return {"run": done.run, "of": list(done.of), "new_steps": list(done.computed), "there": list(done.there)}

    def _cross(self, lease: Lease, heartbeat: Heartbeat, halt: threading.Event) -> dict[str, Any]:
        device = self._device(lease.job.spec.device)
        pool = DaskPool(
            self.cluster,
            threads=PLAN_THREADS,
            device=device,
            patience=self.settings.patience,
            waiting=heartbeat.wait_for,
        )
        return run_cross_job(self.queue, lease, heartbeat, self.settings, pool, device, halt)

    def _analyse(self, lease: Lease, heartbeat: Heartbeat, halt: threading.Event) -> dict[str, Any]:
        spec, settings = lease.job.spec, self.settings
        source = open_job_source(spec, settings.roots, settings.store, halt.is_set)
        try:
            device = self._device(spec.device)
            pool = DaskPool(
                self.cluster,
                threads=PLAN_THREADS,
                device=device,
                patience=settings.patience,
                waiting=heartbeat.wait_for,
            )
            watch = JobObserver(self.queue, lease, heartbeat, settings, device, halt)
            outcome = run_analysis(AnalysisJob(source, settings.store, spec.run, watch.options, pool, watch, halt))
            live_estimate.clear(settings.store, outcome.name)
            return self._result(outcome)
        finally:
            source.close()

    def _device(self, wanted: str) -> str:
        """Return the device of a job: the CPU if it asks for a GPU and no worker has one."""
        try:
            if wanted == "cpu" or self.cluster.count(wanted) or not self.cluster.count():
                return wanted
        except TryAgain:  # no scheduler now: the pool waits for one
            return wanted
        log.info("no-gpu", wanted=wanted, why="no worker has one; the job runs on CPUs")
        return "cpu"

    def _result(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "run": outcome.name,
            "action": outcome.action,
            "new_steps": list(outcome.new_steps),
            "left_out": list(outcome.left_out),
        }
