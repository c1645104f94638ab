"""A database of the version before is brought to the present with its rows, their order, and what refers to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from job_making import add_token, claim, make_spec, put
from sqlalchemy import JSON, Engine, bindparam, text

from storage_schema.migrations import upgrade
from trajsvc.errors import Refused
from trajsvc.jobs import database
from trajsvc.jobs.database import connect
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.states import State
from trajsvc.jobs.tokens import TokenStore, digest

TABLES = ("tokens", "jobs", "events", "idempotency")

# (id, created, state, priority, token): ids were a time and a random part, so that those of one instant are in no order of submission
JOBS = [
    ("1" + "c" * 31, 50.0, "succeeded", 0, "t2"),
    ("2" + "9" * 31, 100.0, "accepted", 0, "t2"),
    ("2" + "1" * 31, 100.0, "accepted", 0, None),
    ("2" + "f" * 31, 100.0, "accepted", 0, "t1"),
    ("1" + "0" * 31, 99.5, "accepted", 0, None),  # the clock had been set back when its id was made
    ("3" + "a" * 31, 101.0, "failed", 0, None),
    ("4" + "0" * 31, 102.0, "accepted", 7, "t1"),
    ("5" + "0" * 31, 103.0, "running", 0, None),
]
LATEST_FIRST = [j[0] for j in sorted(JOBS, key=lambda j: (j[1], j[0]), reverse=True)]


def made_before(url: str) -> Engine:
    """A database of the version before, without rows."""
    engine = database.attach(url)
    with engine.begin() as connection:
        upgrade(connection, "0001")
    return engine


def fill(engine: Engine) -> None:
    """The rows that a service of the version before had written."""
    with engine.begin() as connection:
        for identity, created in (("t2", 20.0), ("t1", 30.0), ("t0", 20.0)):
            values = {"id": identity, "hash": digest(f"secret of {identity}"), "created": created}
            query = "INSERT INTO tokens VALUES (:id, 'x', :hash, 'submit', :created, NULL)"
            connection.execute(text(query), values)
        for identity, created, state, priority, token in JOBS:
            spec = make_spec(f"run-{identity[:2]}")
            held = state == "running"
            values = {
                "id": identity, "kind": str(spec.kind), "state": state, "run": spec.run, "spec": spec.model_dump(mode="json"),
                "digest": f"digest of {identity}", "active": None if state == "failed" else f"digest of {identity}",
                "token": token, "priority": priority, "memory": spec.memory, "disk": 2**40, "created": created,
                "updated": created, "not_before": created, "started": created if held else None, "attempts": int(held),
                "slabs": 3, "fence": 2, "owner": "gone" if held else None, "lease_until": created if held else None,
                "cancel": False, "events": 2,
                "result": {"run": spec.run} if state == "succeeded" else None,
            }  # fmt: skip
            names = ", ".join(values)
            places = ", ".join(f":{name}" for name in values)
            query = text(f"INSERT INTO jobs ({names}) VALUES ({places})")
            connection.execute(query.bindparams(bindparam("spec", type_=JSON), bindparam("result", type_=JSON)), values)
            for number, word in enumerate(("accepted", state), 1):
                query = text("INSERT INTO events VALUES (:job, :seq, 7.5, 'state', :data)")
                found = {"job": identity, "seq": number, "data": {"state": word}}
                connection.execute(query.bindparams(bindparam("data", type_=JSON)), found)
        query = text("INSERT INTO idempotency VALUES ('t1', 'k', 'body', :job, 1.0)")
        connection.execute(query, {"job": JOBS[3][0]})


def rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without the columns that migrations add; no token that was there expires."""
    with engine.begin() as connection:
        found = {t: [dict(r) for r in connection.execute(text(f"SELECT * FROM {t}")).mappings()] for t in TABLES}
    return {
        t: sorted(
            (
                {k: v for k, v in r.items() if k not in ("sequence", "expires") or (k == "expires" and v is not None)}
                for r in kept
            ),
            key=repr,
        )
        for t, kept in found.items()
    }


@pytest.fixture
def old(new_database: Callable[[], str]) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """The address of a database at the schema of the version before, and its rows."""
    url = new_database()
    engine = made_before(url)
    fill(engine)
    kept = rows(engine)
    engine.dispose()
    return url, kept


@pytest.fixture
def migrated(old: tuple[str, Any]) -> Iterator[Engine]:
    made = connect(old[0])
    yield made
    made.dispose()


def test_every_row_is_kept_as_it_was(old: tuple[str, Any], migrated: Engine) -> None:
    assert {t: len(kept) for t, kept in old[1].items()} == {"tokens": 3, "jobs": 8, "events": 16, "idempotency": 1}
    found = rows(migrated)
    for table in TABLES:
        by_name = [{k: r[k] for k in sorted(r)} for r in found[table]]
        assert sorted(by_name, key=repr) == sorted(({k: r[k] for k in sorted(r)} for r in old[1][table]), key=repr)


def test_jobs_are_listed_in_the_order_they_had_and_new_ones_before_them(migrated: Engine) -> None:
    queue = JobQueue(migrated)
    assert [job.id for job in queue.jobs()] == LATEST_FIRST
    assert [job.sequence for job in queue.jobs()] == list(range(8, 0, -1))
    made = [put(queue, f"new{k}").id for k in range(2)]
    assert [job.id for job in queue.jobs()] == [*made[::-1], *LATEST_FIRST]


def test_jobs_are_claimed_in_the_order_they_had(migrated: Engine) -> None:
    queue = JobQueue(migrated)
    new = put(queue, "new")
    waiting = [j[0] for j in JOBS if j[2] in ("accepted", "running")]
    order = sorted(waiting, key=lambda i: (-next(j[3] for j in JOBS if j[0] == i), LATEST_FIRST[::-1].index(i)))
    found = []
    while (lease := queue.claim("a")) is not None:
        found.append(lease.job.id)
    assert found == [*order, new.id]


def test_what_refers_to_a_job_still_does(migrated: Engine) -> None:
    queue = JobQueue(migrated)
    spec = make_spec("anything")
    found, new = queue.submit(spec, spec.digest(), token="t1", key="k", request="body")
    assert (found.id, new) == (JOBS[3][0], False)
    assert [(e.seq, e.at, e.data["state"]) for e in queue.events(JOBS[0][0])] == [
        (1, 7.5, "accepted"),
        (2, 7.5, "succeeded"),
    ]
    assert queue.get(JOBS[0][0]).result == {"run": "run-1c"}
    lease = claim(queue)
    queue.succeed(lease, {})
    assert queue.events(lease.job.id)[-1].seq == 4
    with migrated.begin() as connection:
        connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": JOBS[3][0]})
        if migrated.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    assert queue.events(JOBS[3][0]) == []
    assert queue.submit(spec, spec.digest(), token="t1", key="k", request="body")[1]


def test_tokens_are_valid_and_in_the_order_they_had(migrated: Engine) -> None:
    book = TokenStore(migrated)
    assert [token.id for token in book.all()] == ["t0", "t2", "t1"]
    found = book.find("secret of t2")
    assert found is not None
    assert found.id == "t2"
    book.create("new", ["read"])
    assert [token.name for token in book.all()] == ["x", "x", "x", "new"]
    with pytest.raises(Exception, match=r"(?i)unique"):
        add_token(migrated, "t1")


def test_an_empty_database_of_the_version_before_numbers_from_one(new_database: Callable[[], str]) -> None:
    url = new_database()
    made_before(url).dispose()
    made = connect(url)
    try:
        assert put(JobQueue(made)).sequence == 1
    finally:
        made.dispose()


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(old: tuple[str, Any], migrated: Engine) -> None:
    with migrated.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Refused, match="9999") as caught:
        connect(old[0])
    assert caught.value.kind == "newer-database"
    assert len(JobQueue(migrated).jobs(states=[State.ACCEPTED])) == 5


def test_a_migration_that_is_stopped_leaves_the_database_as_it_was(
    old: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage_schema import migrations

    def stopped(connection: Any) -> None:
        upgrade(connection)
        raise RuntimeError("stopped")

    monkeypatch.setattr(migrations, "upgrade", stopped)
    with pytest.raises(RuntimeError, match="stopped"):
        connect(old[0])
    monkeypatch.undo()
    made = connect(old[0])
    try:
        assert [job.id for job in JobQueue(made).jobs()] == LATEST_FIRST
    finally:
        made.dispose()
