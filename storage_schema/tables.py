"""Tables of the service's database: jobs and what belongs to them. Runs are in the store; nothing is kept in both.

Times are seconds since 1970 by the database's own clock; they say when, and never what came first: a clock has a resolution, and may be
set back. The order of jobs, and of tokens, is ``sequence``, which the database assigns at the insertion and never twice; the order of a
job's events is ``seq``, counted from 1 under the lock of the job's row.

``active`` holds a job's digest while the job is wanted (not failed, not cancelled), so that its unique index makes the same work asked
twice one job.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _sequence() -> Column[int]:
    """Return a column that numbers a table's rows in the order in which they were made; the database assigns it."""
    return Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


tokens: Final = Table(
    "tokens",
    metadata,
    _sequence(),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("scopes", String(100), nullable=False),
    Column("created", Float, nullable=False),
    Column("revoked", Float),
    Column("expires", Float),
    sqlite_autoincrement=True,
)

jobs: Final = Table(
    "jobs",
    metadata,
    _sequence(),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(12), nullable=False),
    Column("run", String(200), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("active", String(64), unique=True),
    Column("token", String(32), ForeignKey("tokens.id")),
    Column("priority", Integer, nullable=False, default=0),
    Column("memory", BigInteger, nullable=False),
    Column("disk", BigInteger, nullable=False, default=0),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("slabs", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("owner", String(200)),
    Column("lease_until", Float),
    Column("cancel", Boolean, nullable=False, default=False),
    Column("waiting", Text),
    Column("progress", JSON),
    Column("result", JSON),
    Column("cause", JSON),
    Column("events", Integer, nullable=False, default=0),
    Index("ix_jobs_queue", "state", "priority", "sequence"),
    Index("ix_jobs_created", "created"),
    Index("ix_jobs_run", "run"),
    Index("ix_jobs_token", "token", "state"),
    sqlite_autoincrement=True,
)

events: Final = Table(
    "events",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", JSON, nullable=False),
)

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("request", String(64), nullable=False),
    Column("job", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created", Float, nullable=False),
)
