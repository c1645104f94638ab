"""The database: its history ends at the tables, nothing but files on local disks, and no password in what is said."""

from __future__ import annotations

import sqlite3
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from job_making import only_connect, together
from sqlalchemy import Engine, inspect, select, text

from storage_schema.migrations import HEAD, config
from storage_schema.tables import metadata
from trajsvc.errors import Refused, TryAgain, UsageError
from trajsvc.jobs import database
from trajsvc.jobs.database import BUSY_MS, connect, file_system, now, reading


@contextmanager
def connected(url: str) -> Iterator[Engine]:
    engine = connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


def differences(engine: Engine) -> list[object]:
    """What alembic would change for the tables to be those of the schema."""
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, metadata))


def test_the_last_revision_is_the_one_at_which_nothing_is_done(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == HEAD
    url = new_database()
    connect(url).dispose()

    def refused(*_: object) -> None:
        raise AssertionError("a present database was migrated")

    monkeypatch.setattr("alembic.command.upgrade", refused)
    with connected(url) as engine:
        assert differences(engine) == []
    with pytest.raises(AssertionError):
        connect(new_database())


def test_an_empty_database_is_brought_to_the_tables_of_the_schema(new_database: Callable[[], str]) -> None:
    with connected(new_database()) as engine:
        assert differences(engine) == []
        found = inspect(engine)
        assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
        for name, table in metadata.tables.items():
            nullable = {c["name"]: c["nullable"] for c in found.get_columns(name)}
            assert nullable == {c.name: c.nullable for c in table.columns}
            kept = {(tuple(k["constrained_columns"]), k["referred_table"]) for k in found.get_foreign_keys(name)}
            assert kept == {(tuple(k.column_keys), k.referred_table.name) for k in table.foreign_key_constraints}


@pytest.mark.slow
@pytest.mark.timing
def test_processes_that_migrate_at_once_all_find_the_tables(new_database: Callable[[], str]) -> None:
    url = new_database()
    assert len(together(only_connect, url, 3)) == 3
    with connected(url) as engine:
        assert differences(engine) == []


@pytest.mark.timing
def test_a_new_file_that_another_writes_to_is_waited_for(tmp_path: Path) -> None:
    # Before it is in WAL, SQLite refuses the switch at once where another connection is about to write.
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(connect, f"sqlite:///{tmp_path / 'jobs.db'}")
            assert wait([opening], timeout=0.5).not_done == {opening}
            other.execute("ROLLBACK")
            opening.result(600).dispose()


def add(engine: Engine, error: Exception | None = None) -> None:
    with engine.begin() as connection:
        values = "('t', 'x', 'h', 'read', 0)"
        connection.execute(text(f"INSERT INTO tokens (id, name, hash, scopes, created) VALUES {values}"))
        if error is not None:
            raise error


def identities(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        return list(connection.execute(text("SELECT id FROM tokens")).scalars())


def test_a_database_that_is_at_the_present_stays_as_it_is(new_database: Callable[[], str]) -> None:
    url = new_database()
    with connected(url) as engine:
        add(engine)
    with connected(url) as engine:
        assert identities(engine) == ["t"]


def test_a_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="halfway"):
        add(engine, RuntimeError("halfway"))
    assert identities(engine) == []


@pytest.mark.timing
def test_the_clock_is_the_databases_and_goes_on_within_a_transaction(engine: Engine) -> None:
    with engine.begin() as connection:
        first = connection.execute(select(now(connection))).scalar_one()
        time.sleep(0.05)
        second = connection.execute(select(now(connection))).scalar_one()
    assert abs(first - time.time()) < 60
    assert second - first > 0.03


def test_every_connection_to_sqlite_is_durable_and_heeds_foreign_keys(tmp_path: Path) -> None:
    with connected(f"sqlite:///{tmp_path / 'deep' / 'down' / 'jobs.db'}") as engine:
        for made in (engine, reading(engine), engine):
            with made.begin() as connection:
                names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
                facts = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]
            assert facts == ["wal", 2, 1, BUSY_MS]


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p", "lustre"])
def test_sqlite_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(database, "file_system", lambda path: kind)
    with pytest.raises(Refused, match=kind.replace(".", r"\.")) as caught:
        connect(f"sqlite:///{tmp_path / 'jobs.db'}")
    assert caught.value.kind == "network-database"
    assert "PostgreSQL" in caught.value.hint
    assert not (tmp_path / "jobs.db").exists()


def test_the_file_system_is_that_of_the_deepest_mount() -> None:
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path("/sys")) == "sysfs"
    assert file_system(Path("/processes-not-there")) == file_system(Path("/"))


BAD = [
    "", "nonsense", "://", "jobs.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://u:hunter2@h/d",
    "foo://u:hunter2@h/d", "postgresql+nosuch://u:hunter2@h/d", "sqlite+nosuch:///jobs.db",
    "postgresql://u:hunter2@h:port/d", "postgresql://h:hunter2/d",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD)
def test_an_address_that_is_none_is_a_usage_error_without_the_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        connect(url)
    assert caught.value.kind == "bad-database"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@127.0.0.1:1/jobs",
        "postgresql+psycopg://user:hunter2@127.0.0.1:1/jobs?connect_timeout=2",
        "postgresql://user:hunter2@no-such-host.invalid/jobs",
        "postgresql://127.0.0.1:1/jobs?user=u&password=hunter2",
    ],
)
def test_a_database_that_does_not_answer_is_to_be_tried_again_and_its_password_is_not_said(url: str) -> None:
    with pytest.raises(TryAgain) as caught:
        connect(url)
    assert caught.value.kind == "database-unreachable"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_database_that_is_not_there_is_said_to_be_missing(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        return  # made when it is missing
    url = engine.url.set(database="trajsvc_no_such_database").render_as_string(hide_password=False)
    with pytest.raises(TryAgain, match="does not exist"):
        connect(url)
