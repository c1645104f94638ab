"""The queue: submit, claim, heartbeat, finish, cancel; each one transaction, each safe beside any number of others.

A runner holds a job by a lease that its heartbeat renews, and by a fencing number that every claim raises. What a runner writes names its
number; a number that is no longer the job's is refused (``LeaseLost``), so that a runner that slept past its lease changes nothing.

The order of jobs is the ``sequence`` that the database gave them. The clock, the database's own, only says how long a lease or a pause
lasts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, RowMapping, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from storage_schema.tables import events, idempotency, jobs
from trajsvc.errors import NotFound, TryAgain, UsageError
from trajsvc.jobs.database import WriteTransactions, alone, now_of, reading
from trajsvc.jobs.failures import cause
from trajsvc.jobs.records import Event, Job, Lease, LeaseLost, Quota, QuotaExceeded
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import FINAL, OPEN, State

LEASE: Final = 30.0
HEARTBEAT: Final = 5.0
ATTEMPTS: Final = 3
"""attempts in a row that finish no slab, after which a job has failed"""
BACKOFF: Final = 2.0
RATE_WINDOW: Final = 60.0
AT_ONCE: Final = 0.0
"""``not_before`` of a job that need not wait: ready whatever the clock says"""
OPEN_STATES: Final = tuple(str(s) for s in OPEN)


LOST: Final = cause(
    "runner-lost",
    f"its runners stopped answering, {ATTEMPTS} attempts in a row, without getting further",
    "Was the machine out of memory? Look at the runners' logs, then submit again.",
)
_SAME: Final = select(jobs).where(jobs.c.active == bindparam("digest"))
_ACCEPTED: Final = {
    "state": str(State.ACCEPTED), "disk": 0, "attempts": 0, "slabs": 0, "fence": 0, "cancel": False, "events": 1,
}  # fmt: skip


class JobQueue:
    """The jobs of one service. Every method is one transaction and safe from any thread or process.

    Args:
        engine: where the tables are.
        clock: SQL for the seconds since 1970, by the name of the database's dialect.
    """

    def __init__(self, engine: Engine, clock: Callable[[str], ColumnElement[float]] = now_of) -> None:
        self.engine = engine
        self._now = clock(engine.dialect.name)
        self._reading = reading(engine)
        self._writing = WriteTransactions(engine)
        # Made once: making these statements takes longer than running them.
        self._new_job = insert(jobs).values(created=self._now, updated=self._now, not_before=AT_ONCE).returning(jobs)
        self._new_event = insert(events).values(at=self._now)

    # -- submitting -------------------------------------------------------------------------------------------------

    def submit(
        self,
        spec: JobSpec,
        digest: str,
        *,
        token: str | None = None,
        priority: int = 0,
        key: str | None = None,
        request: str = "",
        quota: Quota | None = None,
    ) -> tuple[Job, bool]:
        """Submit ``spec`` and return its job, and whether it is new.

        ``key`` is the request's Idempotency-Key, ``request`` a digest of its body.

        Raises UsageError (``idempotency-conflict``) for a key that was used for another request, QuotaExceeded.
        """
        for _ in range(3):
            try:
                with self._writing.begin() as connection:
                    return self._submit(connection, spec, digest, token, priority, key, request, quota or Quota())
            except IntegrityError:  # another submitted the same between our look and our insert
                continue
        raise TryAgain("busy", "the job could not be submitted", hint="Submit it again.")

    def _submit(
        self,
        connection: Connection,
        spec: JobSpec,
        digest: str,
        token: str | None,
        priority: int,
        key: str | None,
        request: str,
        quota: Quota,
    ) -> tuple[Job, bool]:
        who = token or ""
        if key is not None:
            mine = and_(idempotency.c.token == who, idempotency.c.key == key)
            seen = connection.execute(select(idempotency).where(mine)).mappings().first()
            if seen is not None:
                if seen["request"] != request:
                    raise UsageError(
                        "idempotency-conflict",
                        "the Idempotency-Key was used for another request",
                        hint="Use a new key.",
                    )
                return self._get(connection, seen["job"]), False
        same = connection.execute(_SAME, {"digest": digest}).mappings().first()
        if same is not None:
            found, new = Job.of(same), False
        else:
            self._check_quota(connection, token, quota)
            found, new = self._insert(connection, spec, digest, token, priority), True
        if key is not None:
            values = {"token": who, "key": key, "request": request, "job": found.id, "created": self._now}
            connection.execute(insert(idempotency).values(values))
        return found, new

    def _insert(self, connection: Connection, spec: JobSpec, digest: str, token: str | None, priority: int) -> Job:
        identity = secrets.token_hex(16)
        values = {
            "id": identity, "kind": str(spec.kind), "run": spec.run, "spec": spec.model_dump(mode="json"), "digest": digest,
            "active": digest, "token": token, "priority": priority, "memory": spec.memory, **_ACCEPTED,
        }  # fmt: skip
        made = Job.of(connection.execute(self._new_job, values).mappings().one())
        first = {"job": identity, "seq": 1, "kind": "state", "data": {"state": str(State.ACCEPTED)}}
        connection.execute(self._new_event, first)
        return made

    def _check_quota(self, connection: Connection, token: str | None, quota: Quota) -> None:
        mine = jobs.c.token.is_(None) if token is None else jobs.c.token == token
        if quota.queued or quota.per_minute:
            alone(connection, f"quota {token}")
        count = select(func.count()).select_from(jobs)
        if quota.queued:
            queued = connection.execute(count.where(mine, jobs.c.state == str(State.ACCEPTED))).scalar_one()
            if queued >= quota.queued:
                raise QuotaExceeded("quota-queued", f"{queued} jobs of yours wait already", 30)
        if quota.per_minute:
            at = self._now
            # A creation time in the future means that the clock was set back since then: the job's age is unknown.
            lately = and_(mine, jobs.c.created > at - RATE_WINDOW, jobs.c.created <= at)
            recent = connection.execute(count.where(lately)).scalar_one()
            if recent >= quota.per_minute:
                oldest = select(func.min(jobs.c.created) + RATE_WINDOW - at).where(lately)
                after = float(connection.execute(oldest).scalar_one() or 1)
                raise QuotaExceeded("quota-rate", f"{recent} submissions within a minute", after)

    # -- running ----------------------------------------------------------------------------------------------------

    def claim(
        self, owner: str, *, memory: int | None = None, quota: Quota | None = None, lease: float = LEASE
    ) -> Lease | None:
        """Claim the next job for ``owner``, or return None.

        The next job is the first submitted of the highest priority that fits ``memory`` bytes. A job whose lease has
        run out is taken over; one that has used up its attempts without finishing a slab fails here.
        """
        with self._writing.begin() as connection:
            alone(connection, "claim")
            while True:
                row = self._next(connection, memory, quota or Quota())
                if row is None:
                    return None
                job = Job.of(row)
                if job.state == State.CANCELLING:
                    self._end(connection, job, State.CANCELLED)
                    continue
                if job.state == State.RUNNING and job.attempts >= ATTEMPTS:
                    self._end(connection, job, State.FAILED, cause=LOST)
                    continue
                at = self._now
                connection.execute(
                    update(jobs)
                    .where(jobs.c.id == job.id)
                    .values(
                        state=str(State.RUNNING), owner=owner, lease_until=at + lease, fence=jobs.c.fence + 1,
                        attempts=jobs.c.attempts + 1, updated=at, started=func.coalesce(jobs.c.started, at), waiting=None,
                    )
                )  # fmt: skip
                taken = self._get(connection, job.id)
                self._event(
                    connection,
                    job.id,
                    "state",
                    {"state": str(State.RUNNING), "attempt": taken.attempts, "owner": owner},
                )
                return Lease(taken, owner, taken.fence)

    def _next(self, connection: Connection, memory: int | None, quota: Quota) -> RowMapping | None:
        at = self._now
        # A pause that begins in the future means that the clock was set back: it is treated as over.
        ready = and_(jobs.c.state == str(State.ACCEPTED), or_(jobs.c.not_before <= at, jobs.c.updated > at))
        held = (str(State.RUNNING), str(State.CANCELLING))
        lost = and_(jobs.c.state.in_(held), jobs.c.lease_until < at)
        query = select(jobs).where(or_(ready, lost))
        if memory is not None:
            query = query.where(jobs.c.memory <= memory)
        if quota.running:
            other = jobs.alias("other")
            running = (
                select(func.count())
                .select_from(other)
                .where(other.c.token == jobs.c.token, other.c.state.in_(held), other.c.lease_until >= at)
            )
            query = query.where(or_(jobs.c.token.is_(None), running.scalar_subquery() < quota.running))
        # Two jobs on one run would wait for the run's lock: the second is left in the queue.
        beside = jobs.alias("beside")
        same_run = select(beside.c.id).where(
            beside.c.run == jobs.c.run, beside.c.id != jobs.c.id, beside.c.state.in_(held), beside.c.lease_until >= at
        )
        query = query.where(~same_run.exists())
        query = query.order_by(jobs.c.priority.desc(), jobs.c.sequence).limit(1)
        if connection.dialect.name == "postgresql":
            query = query.with_for_update(skip_locked=True, of=jobs)
        return connection.execute(query).mappings().first()

    def heartbeat(
        self,
        lease: Lease,
        *,
        progress: Mapping[str, Any] | None = None,
        slabs: int | None = None,
        waiting: str | None = None,
        length: float = LEASE,
    ) -> bool:
        """Renew the lease and record the progress; return True when the job is to be cancelled. Raises LeaseLost."""
        with self._writing.begin() as connection:
            at = self._now
            values: dict[str, Any] = {"lease_until": at + length, "updated": at, "waiting": waiting}
            if progress is not None:
                values["progress"] = dict(progress)
            job = self._held(connection, lease)
            if slabs is not None:
                values["slabs"] = max(slabs, job.slabs)
            if slabs is not None and slabs > job.slabs:
                values["attempts"] = 1  # progress was made: only attempts that finish no slab count
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))
            if waiting != job.waiting and waiting:
                self._event(connection, job.id, "waiting", {"reason": waiting})
            if progress is not None:
                self._event(connection, job.id, "progress", progress)
            return job.cancel

    def check(self, lease: Lease) -> None:
        """Raise LeaseLost unless ``lease`` still holds; to be called right before a commit."""
        with self._writing.begin() as connection:
            self._held(connection, lease)

    def reserve(self, lease: Lease, disk: int) -> int:
        """Record the disk space that the job needs beyond what it has; return what all other running jobs have
        reserved. Raises LeaseLost.
        """
        with self._writing.begin() as connection:
            job = self._held(connection, lease)
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(disk=disk))
            others = and_(jobs.c.id != job.id, jobs.c.state == str(State.RUNNING), jobs.c.lease_until >= self._now)
            return int(connection.execute(select(func.coalesce(func.sum(jobs.c.disk), 0)).where(others)).scalar_one())

    def succeed(self, lease: Lease, result: Mapping[str, Any]) -> None:
        """Record that the job is done. Raises LeaseLost."""
        with self._writing.begin() as connection:
            self._end(connection, self._held(connection, lease), State.SUCCEEDED, result=result)

    def fail(self, lease: Lease, cause: Mapping[str, Any], *, again: bool) -> State:
        """Record that the attempt failed; queue the job once more if ``again`` and its attempts allow.

        Raises LeaseLost.
        """
        with self._writing.begin() as connection:
            job = self._held(connection, lease)
            if job.cancel:
                self._end(connection, job, State.CANCELLED)
                return State.CANCELLED
            if again and job.attempts < ATTEMPTS:
                self._queue_again(connection, job, BACKOFF**job.attempts, cause=cause)
                return State.ACCEPTED
            self._end(connection, job, State.FAILED, cause=cause)
            return State.FAILED

    def give_back(self, lease: Lease, *, waiting: str | None = None, pause: float = 0.0, counts: bool = False) -> None:
        """Return the job to the queue: the runner stops, or what it needs is in use. Raises LeaseLost."""
        with self._writing.begin() as connection:
            job = self._held(connection, lease)
            if job.cancel:
                self._end(connection, job, State.CANCELLED)
                return
            attempts = job.attempts if counts else max(0, job.attempts - 1)
            self._queue_again(connection, job, pause, waiting=waiting, attempts=attempts)

    def cancelled(self, lease: Lease) -> None:
        """Record that the running work has stopped as requested. Raises LeaseLost."""
        with self._writing.begin() as connection:
            self._end(connection, self._held(connection, lease), State.CANCELLED)

    def _queue_again(self, connection: Connection, job: Job, pause: float, **values: Any) -> None:
        at = self._now
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(
                state=str(State.ACCEPTED), owner=None, lease_until=None, not_before=at + pause if pause else AT_ONCE,
                updated=at, **values,
            )
        )  # fmt: skip
        facts = {k: v for k, v in values.items() if k in ("cause", "waiting") and v}
        self._event(connection, job.id, "state", {"state": str(State.ACCEPTED), **facts})

    def _end(self, connection: Connection, job: Job, state: State, **values: Any) -> None:
        at = self._now
        active = job.digest if state == State.SUCCEEDED else None
        facts = {name: dict(value) for name, value in values.items()}
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(
                state=str(state), owner=None, lease_until=None, finished=at, updated=at, active=active, waiting=None, disk=0, **facts
            )
        )  # fmt: skip
        self._event(connection, job.id, "state", {"state": str(state), **facts})

    def _held(self, connection: Connection, lease: Lease) -> Job:
        """Return the job, locked, if ``lease`` still holds it. Raises LeaseLost."""
        query = select(jobs).where(jobs.c.id == lease.job.id)
        if connection.dialect.name == "postgresql":
            query = query.with_for_update()
        row = connection.execute(query).mappings().first()
        if row is None or not _holds(row, lease):
            raise LeaseLost(lease.job.id)
        return Job.of(row)

    # -- asking and cancelling --------------------------------------------------------------------------------------

    def cancel(self, job: str) -> Job:
        """Request that the job stops: at once if it waits, at the next chunk if it runs. Raises NotFound."""
        with self._writing.begin() as connection:
            found = self._get(connection, job, lock=True)
            if found.state == State.ACCEPTED:
                self._end(connection, found, State.CANCELLED)
            elif found.state == State.RUNNING:
                at = self._now
                values = {"state": str(State.CANCELLING), "cancel": True, "updated": at}
                connection.execute(update(jobs).where(jobs.c.id == job).values(values))
                self._event(connection, job, "state", {"state": str(State.CANCELLING)})
            return self._get(connection, job)

    def get(self, job: str) -> Job:
        """Return a job. Raises NotFound (``job-not-found``)."""
        with self._reading.begin() as connection:
            return self._get(connection, job)

    def jobs(
        self,
        *,
        states: Sequence[State] = (),
        run: str | None = None,
        family: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Return jobs, the last submitted first; only those whose ``sequence`` is less than ``before``."""
        query = select(jobs).order_by(jobs.c.sequence.desc()).limit(limit)
        if states:
            query = query.where(jobs.c.state.in_([str(s) for s in states]))
        if run is not None:
            query = query.where(jobs.c.run == run)
        if family is not None:
            query = query.where(jobs.c.spec["family"].as_string() == family)
        if before is not None:
            query = query.where(jobs.c.sequence < before)
        with self._reading.begin() as connection:
            return [Job.of(row) for row in connection.execute(query).mappings()]

    def events(self, job: str, after: int = 0, limit: int = 500) -> list[Event]:
        """Return events of a job after number ``after``, in order."""
        query = select(events).where(events.c.job == job, events.c.seq > after).order_by(events.c.seq).limit(limit)
        with self._reading.begin() as connection:
            return [Event(**row) for row in connection.execute(query).mappings()]

    def counts(self) -> dict[str, int]:
        """Count the jobs in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._reading.begin() as connection:
            found = {state: int(count) for state, count in connection.execute(query)}
        return {str(state): found.get(str(state), 0) for state in State}

    def alive(self) -> None:
        """Run a query to check that the database answers; raises what the database raises."""
        with self._reading.begin() as connection:
            connection.execute(select(self._now)).scalar_one()

    def _get(self, connection: Connection, job: str, *, lock: bool = False) -> Job:
        query = select(jobs).where(jobs.c.id == job)
        if lock and connection.dialect.name == "postgresql":
            query = query.with_for_update()
        row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound("job-not-found", f"no job {job!r}", hint="`trajsvc jobs` lists them.")
        return Job.of(row)

    def _event(self, connection: Connection, job: str, kind: str, data: Mapping[str, Any]) -> None:
        count = update(jobs).where(jobs.c.id == job).values(events=jobs.c.events + 1).returning(jobs.c.events)
        seq = connection.execute(count).scalar_one()
        connection.execute(self._new_event, {"job": job, "seq": seq, "kind": kind, "data": dict(data)})


def _holds(row: RowMapping, lease: Lease) -> bool:
    """Return whether the row is still held by ``lease`` (fencing)."""
    return State(row["state"]) not in FINAL and row["fence"] == lease.fence and row["owner"] == lease.owner
