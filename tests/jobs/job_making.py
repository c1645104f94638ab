"""Jobs, databases and processes for the tests of the queue; what other processes run stands here, where they can import it."""

from __future__ import annotations

import multiprocessing
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Way
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import Connection, Engine, Float, bindparam, make_url, text, update
from sqlalchemy.sql.elements import ColumnElement

from storage_schema.files.slab_results import SlabFiles
from storage_schema.tables import jobs as jobs_table
from trajsvc.jobs.database import connect
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Job, Lease
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import Kind, State

SERVER = os.environ.get("TRAJSVC_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
KINDS = ("sqlite", "postgresql")
SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """The address of a database with nothing in it, which is gone afterwards. Skips the test where there is no PostgreSQL."""
    if kind == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        yield f"sqlite:///{folder / f'jobs-{secrets.token_hex(4)}.db'}"
        return
    try:
        server = psycopg.connect(SERVER, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL answers (set TRAJSVC_TEST_POSTGRES): {str(error).splitlines()[0]}")
    with server:
        name = f"trajsvc_test_{secrets.token_hex(6)}"
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield make_url(SERVER).set(database=name).render_as_string(hide_password=False)
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def clear(engine: Engine) -> None:
    """No rows in any table."""
    with engine.begin() as connection:
        for name in ("idempotency", "events", "jobs", "tokens"):
            connection.execute(text(f"DELETE FROM {name}"))


class Clock:
    """A clock for a ``JobQueue`` that stands at ``time`` until it is set."""

    def __init__(self, time: float = 1e9) -> None:
        self.time = time

    def __call__(self, dialect: str) -> ColumnElement[float]:
        return bindparam("clock", callable_=lambda: self.time, type_=Float, unique=True)


def make_spec(run: str = "run", **choices: Any) -> JobSpec:
    return JobSpec(**{"kind": Kind.TRAJECTORY, "run": run, "source": f"runs:{run}", "memory": 2**28, **choices})


def put(queue: JobQueue, run: str = "run", *, choices: dict[str, Any] | None = None, **how: Any) -> Job:
    """A job that was not there before."""
    spec = make_spec(run, **(choices or {}))
    job, new = queue.submit(spec, spec.digest(), **how)
    assert new
    return job


def claim(queue: JobQueue, owner: str = "a", **how: Any) -> Lease:
    """A claim that must find a job."""
    lease = queue.claim(owner, **how)
    assert lease is not None
    return lease


def alter(engine: Engine, job: str, **values: Any) -> None:
    """Change a job's row behind the queue's back."""
    with engine.begin() as connection:
        connection.execute(update(jobs_table).where(jobs_table.c.id == job).values(**values))


def expire(engine: Engine, job: str) -> None:
    """The job's lease has run out."""
    alter(engine, job, lease_until=jobs_table.c.lease_until - 10_000)


def due(engine: Engine, job: str) -> None:
    """The job need not wait any longer."""
    alter(engine, job, not_before=0.0)


def add_token(engine: Engine, identity: str = "t1") -> str:
    with engine.begin() as connection:
        _add_token(connection, identity)
    return identity


def _add_token(connection: Connection, identity: str) -> None:
    query = "INSERT INTO tokens (id, name, hash, scopes, created) VALUES (:id, 'x', :hash, 'submit', 0)"
    connection.execute(text(query), {"id": identity, "hash": f"hash of {identity}"})


class Crew:
    """Processes that do as they are told and wait for the next test: starting one takes longer than most of what it does."""

    def __init__(self) -> None:
        self.members: list[tuple[BaseProcess, Way]] = []

    def first(self, count: int) -> list[Way]:
        """Ways to speak with ``count`` processes."""
        while len(self.members) < count:
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=_member, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self.members.append((process, ours))
        return [way for _, way in self.members[:count]]

    def dismiss(self) -> None:
        for process, way in self.members:
            process.kill()
            process.join()
            process.close()
            way.close()
        self.members = []


_crew = Crew()


def together(work: Callable[..., Any], url: str, count: int, *arguments: Any) -> list[Any]:
    """What ``work(engine, number, *arguments)`` returns in ``count`` processes that begin at once."""
    ways = _crew.first(count)
    try:
        for number, way in enumerate(ways):
            way.send((work, url, number, arguments))
        for way in ways:
            _told(way)  # it has imported what it needs
        for way in ways:
            way.send("go")
        found = [_told(way) for way in ways]
    except BaseException:
        _crew.dismiss()
        raise
    wrong = [answer for answer in found if isinstance(answer, str)]
    assert not wrong, wrong
    return found


def _told(way: Way) -> Any:
    assert way.poll(300), "a process does not answer"
    return way.recv()


def _member(way: Way) -> None:
    while True:
        work, url, number, arguments = way.recv()
        way.send("ready")
        way.recv()
        try:
            engine = connect(url)
            try:
                answer: Any = [work(engine, number, *arguments)]
            finally:
                engine.dispose()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        way.send(answer)


def only_connect(engine: Engine, number: int) -> str:
    return str(engine.dialect.name)


def submit_many(engine: Engine, number: int, count: int, different: int) -> list[tuple[str, str, bool]]:
    """(digest, job, whether it was new) of ``count`` submissions of ``different`` kinds of work."""
    queue = JobQueue(engine)
    out = []
    for k in range(count):
        spec = make_spec(f"run{(k * 7) % different}")  # the same order in every process: they meet at every job
        job, new = queue.submit(spec, spec.digest())
        out.append((spec.digest(), job.id, new))
    return out


def submit_in_turn(engine: Engine, number: int, count: int) -> list[str]:
    """The ids of ``count`` jobs of this process alone, in the order in which it submitted them."""
    queue = JobQueue(engine)
    return [put(queue, f"run-{number}-{k}").id for k in range(count)]


def claim_all(engine: Engine, number: int) -> list[tuple[str, int]]:
    """(job, fence) of every job that there was to claim; each is held."""
    queue = JobQueue(engine)
    out = []
    while (lease := queue.claim(f"process-{number}")) is not None:
        out.append((lease.job.id, lease.fence))
    return out


def claim_in_order(engine: Engine, number: int) -> list[tuple[int, int]]:
    """(sequence, how many submitted before it still waited) of every job that there was to claim."""
    queue = JobQueue(engine)
    out = []
    while (lease := queue.claim(f"process-{number}")) is not None:
        place = lease.job.sequence
        out.append((place, sum(job.sequence < place for job in queue.jobs(states=[State.ACCEPTED], limit=1000))))
    return out


def put_for_ever(folder: str, key: str, slab: int) -> None:
    files = SlabFiles(folder, key)
    while True:
        files.put(slab, {"values": np.arange(20_000.0)})
