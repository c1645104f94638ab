"""Records of the queue: jobs, their events, leases, quotas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping

from trajsvc.errors import TryAgain
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import Kind, State


class LeaseLost(Exception):
    """Another runner has the job, or it is final: nothing of this attempt may be written any more."""


@dataclass(frozen=True)
class Job:
    """One job as the database has it. ``sequence`` is its place in the order of submission."""

    sequence: int
    id: str
    kind: Kind
    state: State
    run: str
    spec: JobSpec
    digest: str
    token: str | None
    priority: int
    memory: int
    disk: int
    created: float
    updated: float
    not_before: float
    started: float | None
    finished: float | None
    attempts: int
    slabs: int
    fence: int
    owner: str | None
    lease_until: float | None
    cancel: bool
    waiting: str | None
    progress: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    cause: Mapping[str, Any] | None
    events: int

    @classmethod
    def of(cls, row: RowMapping) -> Job:
        facts = {name: row[name] for name in cls.__dataclass_fields__}
        facts.update(kind=Kind(row["kind"]), state=State(row["state"]), spec=JobSpec.stored(row["spec"]))
        return cls(**facts)


@dataclass(frozen=True)
class Event:
    """One event of a job; ``seq`` counts from 1 within it."""

    job: str
    seq: int
    at: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Quota:
    """What one token may have at once; 0: no limit."""

    running: int = 0
    queued: int = 0
    per_minute: int = 0


class QuotaExceeded(TryAgain):
    """The token has reached a quota; the request may be repeated after ``after`` seconds."""

    def __init__(self, kind: str, message: str, after: float) -> None:
        super().__init__(kind, message, hint=f"Ask again in {max(1, round(after))} s.")
        self.after = after


@dataclass(frozen=True)
class Lease:
    """A claimed job, and the proof of the claim."""

    job: Job
    owner: str
    fence: int
