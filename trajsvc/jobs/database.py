"""The database's engine: SQLite for one machine, PostgreSQL for several, with the same meaning of a transaction.

Every transaction is one that writes: SQLite begins with BEGIN IMMEDIATE (a read that turns into a write ignores the busy timeout and
loses claims), in WAL with synchronous FULL; PostgreSQL runs READ COMMITTED with row locks.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import literal_column

from trajsvc.errors import Refused, TryAgain, UsageError

BUSY_MS: Final = 5000
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "9p", "ceph", "glusterfs", "lustre"}
)
_MIGRATION_LOCK: Final = 7_426_353


def connect(url: str) -> Engine:
    """An engine for ``sqlite:///FILE`` or ``postgresql+psycopg://…``, its tables at the present schema.

    Raises UsageError (``bad-database``), Refused (``network-database``: SQLite's locks do not hold on a network file system), TryAgain
    (``database-unreachable``).
    """
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
    engine = _made(parsed)
    try:
        with engine.begin() as connection:
            if name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            from storage_schema.migrations import upgrade

            upgrade(connection)
    except OperationalError as error:
        raise unreachable(error) from error
    return engine


def _made(url: URL) -> Engine:
    try:
        sqlite = url.get_backend_name() == "sqlite"
        return _sqlite(url) if sqlite else create_engine(url, pool_pre_ping=True, pool_size=8)
    except (ArgumentError, ImportError):
        raise UsageError(
            "bad-database", f"no support for {url.drivername}", hint="Use sqlite:///FILE or postgresql://…"
        ) from None


def unreachable(error: SQLAlchemyError) -> TryAgain:
    """The error for a database that does not answer; says nothing of its address, which may hold a password."""
    reason = str(getattr(error, "orig", error)).splitlines()[0][:200]
    return TryAgain("database-unreachable", f"the database does not answer: {reason}", hint="Is it running?")


def _sqlite(url: Any) -> Engine:
    path = Path(url.database or "")
    if not url.database or url.database == ":memory:":
        raise UsageError("bad-database", "the database must be a file", hint="sqlite:////var/lib/trajsvc/jobs.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    if (kind := file_system(path.parent)) in _NETWORK:
        raise Refused(
            "network-database",
            f"{path} lies on a network file system ({kind}), where SQLite's locks do not hold",
            hint="Put the database on a local disk, or use PostgreSQL.",
        )
    engine = create_engine(url, pool_size=8, max_overflow=56, connect_args={"timeout": BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def _connected(raw: sqlite3.Connection, _: object) -> None:
        raw.isolation_level = None  # the driver begins nothing by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql("BEGIN" if options.get("reading") else "BEGIN IMMEDIATE")

    return engine


class Turns:
    """Write transactions of one process, one after the other where the database lets only one write at a time: who waits for SQLite's
    lock sleeps and asks again, and under many writers the unlucky one gives up; who waits for a turn gets it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._turn: threading.Lock | None = threading.Lock() if engine.dialect.name == "sqlite" else None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that writes; committed at the end, rolled back by an exception."""
        with self._turn or nullcontext(), self.engine.begin() as connection:
            yield connection


def alone(connection: Connection, what: str) -> None:
    """No other transaction that asks for the same goes on until this one ends; in SQLite none does anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": f"trajsvc {what}"}
        )


def reading(engine: Engine) -> Engine:
    """The engine for transactions that only read: in SQLite they do not wait for the writer."""
    return engine.execution_options(reading=True)


def now(engine: Engine | Connection) -> ColumnElement[float]:
    """Seconds since 1970 by the database's clock, so that several machines agree on leases."""
    return now_of(engine.dialect.name)


def now_of(dialect: str) -> ColumnElement[float]:
    """The same by the dialect's name."""
    if dialect == "sqlite":
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)")
    return literal_column("CAST(extract(epoch FROM clock_timestamp()) AS double precision)")


def file_system(path: Path) -> str:
    """Type of the file system that ``path`` lies on; empty where the system does not say."""
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
