"""What tests of the queue need to tell: a cause of failure, and the states that events name."""

from __future__ import annotations

from trajsvc.errors import UsageError
from trajsvc.jobs.failures import cause_of
from trajsvc.jobs.queue import JobQueue

CAUSE = cause_of(UsageError("bad-thing", "it is bad", hint="Do better."))


def states(queue: JobQueue, job: str) -> list[str]:
    """The states that a job's events tell."""
    return [str(e.data["state"]) for e in queue.events(job) if e.kind == "state"]
