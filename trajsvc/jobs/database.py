"""The database's engine: SQLite for one machine, PostgreSQL for several, with the same meaning of a transaction.

Every transaction is one that writes: SQLite begins with BEGIN IMMEDIATE (a read that turns into a write ignores the busy timeout and
loses claims), in WAL with synchronous FULL; PostgreSQL runs READ COMMITTED with row locks.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import literal_column

from storage_schema.files.durable import make_dir, writing
from trajsvc.errors import Refused, TryAgain, UsageError

BUSY_MS: Final = 30_000
"""seconds that a connection waits for another process's write, which takes milliseconds; SQLite serves waiting connections in no particular
order, so that on a busy machine one of many may wait for seconds"""
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "9p", "ceph", "glusterfs", "lustre"}
)
_MIGRATION_LOCK: Final = 7_426_353


class Replaced(sqlite3.OperationalError):
    """The file of the database was deleted or replaced: what is written to the one that is open would be lost."""


def connect(url: str) -> Engine:
    """Return an engine for ``sqlite:///FILE`` or ``postgresql+psycopg://…``, its tables at the current schema.

    Raises UsageError (``bad-database``), Refused (``network-database``: SQLite's locks do not hold on a network file system;
    ``newer-database``), TryAgain (``database-unreachable``).
    """
    engine = attach(url)
    try:
        _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _migrate(engine: Engine) -> None:
    from storage_schema.migrations import UnknownRevision, upgrade

    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            upgrade(connection)
    except UnknownRevision as revision:
        raise Refused(
            "newer-database",
            f"the database is of a newer version of trajsvc (its schema is {revision})",
            hint="Run that version, or name another database.",
        ) from None
    except OperationalError as error:
        raise unreachable(error) from error


def attach(url: str) -> Engine:
    """Return an engine for a database without changing its tables; raises as ``connect`` does."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError(
            "bad-database", "the database's address cannot be read", hint="sqlite:///FILE or postgresql://…"
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    name = parsed.get_backend_name()
    if name not in ("sqlite", "postgresql"):
        raise UsageError("bad-database", f"no support for {name}", hint="Use sqlite:///FILE or postgresql://…")
    try:
        return _sqlite(parsed) if name == "sqlite" else create_engine(parsed, pool_pre_ping=True, pool_size=8)
    except (ArgumentError, ImportError):
        raise UsageError(
            "bad-database", f"no support for {parsed.drivername}", hint="Use sqlite:///FILE or postgresql://…"
        ) from None


def unreachable(error: SQLAlchemyError) -> TryAgain:
    """Return the error for a database that does not answer; it does not name the address, which may hold a password."""
    reason = str(getattr(error, "orig", error)).splitlines()[0][:200]
    return TryAgain("database-unreachable", f"the database does not answer: {reason}", hint="Is it running?")


def _sqlite(url: Any) -> Engine:
    path = Path(url.database or "")
    if not url.database or url.database == ":memory:":
        raise UsageError("bad-database", "the database must be a file", hint="sqlite:////var/lib/trajsvc/jobs.db")
    with writing(path.parent):
        make_dir(path.parent)
    if (kind := file_system(path.parent)) in _NETWORK:
        raise Refused(
            "network-database",
            f"{path} lies on a network file system ({kind}), where SQLite's locks do not hold",
            hint="Put the database on a local disk, or use PostgreSQL.",
        )
    engine = create_engine(url, pool_size=8, max_overflow=56, connect_args={"timeout": BUSY_MS / 1000})
    engine.update_execution_options(turn=threading.Lock())
    opened: list[tuple[int, int]] = []

    @event.listens_for(engine, "connect")
    def _connected(raw: sqlite3.Connection, _: object) -> None:
        raw.isolation_level = None  # the driver begins nothing by itself
        raw.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        _use_wal(raw)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            raw.execute(f"PRAGMA {pragma}")
        if not opened:
            opened.extend(_identity(path))

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if _identity(path) != opened:
            replaced = Replaced(f"{path} was deleted or replaced: put it back, or start trajsvc anew")
            raise OperationalError("BEGIN", None, replaced)
        options = connection.get_execution_options()
        connection.exec_driver_sql("BEGIN" if options.get("reading") else "BEGIN IMMEDIATE")

    return engine


def _identity(path: Path) -> list[tuple[int, int]]:
    """Return the device and the number of a file; nothing where there is none."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [(status.st_dev, status.st_ino)]


def _use_wal(raw: sqlite3.Connection) -> None:
    """Switch to WAL. Where several processes open a new database at once, all but one are refused at once: SQLite's own wait for a lock
    does not cover the switch."""
    give_up = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


class WriteTransactions:
    """Write transactions through one engine, one after the other if the database allows only one writer at a time.

    A connection that waits for SQLite's lock sleeps and retries, so that with many writers an unlucky one fails; here
    threads take turns.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._turn: threading.Lock | None = engine.get_execution_options().get("turn")

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Begin a transaction that writes; commit it at the end, roll it back on an exception."""
        with self._turn or nullcontext(), self.engine.begin() as connection:
            yield connection


def alone(connection: Connection, what: str) -> None:
    """Block other transactions that lock the same ``what`` until this one ends; SQLite needs no lock."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": f"trajsvc {what}"}
        )


def reading(engine: Engine) -> Engine:
    """Return the engine for transactions that only read: in SQLite they do not wait for the writer."""
    return engine.execution_options(reading=True)


def now(engine: Engine | Connection) -> ColumnElement[float]:
    """Return seconds since 1970 by the database's clock, so that several machines agree on leases."""
    return now_of(engine.dialect.name)


def now_of(dialect: str) -> ColumnElement[float]:
    """Return the expression of ``now`` for a dialect's name."""
    if dialect == "sqlite":
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)")
    return literal_column("CAST(extract(epoch FROM clock_timestamp()) AS double precision)")


def file_system(path: Path) -> str:
    """Return the type of the file system that ``path`` lies on; empty if the operating system does not say."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    real = str(path.resolve())
    best, kind = "", ""
    for line in mounts:
        fields = line.split()
        place = fields[1].replace("\\040", " ")
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, fields[2]
    return kind
