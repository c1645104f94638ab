"""A job's heartbeat: renews the lease, writes progress to the database, and reports a requested cancellation."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from trajsvc.jobs.queue import HEARTBEAT, LEASE, JobQueue
from trajsvc.jobs.records import Lease, LeaseLost

REPORT: Final = 1.0
"""seconds between reports of progress at least"""

log = structlog.get_logger()


class Heartbeat:
    """Renew the lease in a thread of its own while entered.

    ``stop`` is set when the work is to end: cancelled, or the lease lost.

    A lease that could not be renewed in time counts as lost: another runner has the job by then.
    """

    def __init__(
        self, queue: JobQueue, lease: Lease, stop: threading.Event, *, every: float = HEARTBEAT, length: float = LEASE
    ) -> None:
        self.queue, self.lease, self.stop, self.every, self.length = queue, lease, stop, every, length
        self.cancelled = False
        self.lost = False
        self._lock = threading.Lock()
        self._progress: Mapping[str, Any] | None = None
        self._slabs: int | None = None
        self._waiting: str | None = None
        self._changed = False
        self._over = threading.Event()
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True, name="trajsvc-pulse")

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=self.every)

    def tell(self, progress: Mapping[str, Any], slabs: int | None = None) -> None:
        """Set the progress to report."""
        with self._lock:
            self._progress, self._changed = progress, True
            self._slabs = slabs if slabs is not None else self._slabs

    def wait_for(self, reason: str | None) -> None:
        """Set the reason why the job makes no progress, or None when it does."""
        with self._lock:
            self._changed |= reason != self._waiting
            self._waiting = reason

    def beat(self) -> None:
        """Renew the lease now and write what there is to report. Raises LeaseLost."""
        with self._lock:
            progress = self._progress if self._changed else None
            slabs, waiting = self._slabs, self._waiting
            self._changed = False
        if self.queue.heartbeat(self.lease, progress=progress, slabs=slabs, waiting=waiting, length=self.length):
            self.cancelled = True
            self.stop.set()
        self._beaten = time.monotonic()

    def _run(self) -> None:
        while not self._over.wait(min(REPORT, self.every)):
            due = time.monotonic() - self._beaten >= self.every
            if not (due or self._changed):
                continue
            try:
                self.beat()
            except LeaseLost:
                self._give_up("the lease is lost")
                return
            except SQLAlchemyError as error:
                log.warning("heartbeat-failed", job=self.lease.job.id, error=type(error).__name__)
                if time.monotonic() - self._beaten > self.length:
                    self._give_up("the database did not answer for the length of a lease")
                    return

    def _give_up(self, why: str) -> None:
        log.warning("job-lost", job=self.lease.job.id, why=why)
        self.lost = True
        self.stop.set()
