"""Number jobs and tokens in the order in which they were made.

``sequence`` is assigned by the database at the insertion: from a sequence on PostgreSQL, as the rowid with AUTOINCREMENT on SQLite.
Existing rows are numbered in the order that they were listed in until now: by their time, then by their id.

SQLite cannot change a primary key, and dropping a table deletes the rows that refer to it: all four tables are made anew, filled and
renamed, children dropped before parents. PostgreSQL changes its tables in place.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBERED = ("tokens", "jobs")
TOKEN_COLUMNS = "id, name, hash, scopes, created, revoked"
JOB_COLUMNS = (
    "id, kind, state, run, spec, digest, active, token, priority, memory, disk, created, updated, not_before, started, finished, "
    "attempts, slabs, fence, owner, lease_until, cancel, waiting, progress, result, cause, events"
)
EVENT_COLUMNS = "job, seq, at, kind, data"
IDEMPOTENCY_COLUMNS = "token, key, request, job, created"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _make_anew()
    else:
        _change_in_place()


def downgrade() -> None:
    raise NotImplementedError("the order of jobs is not taken away again: restore a copy of the database made before")


def _make_anew() -> None:
    _create_tables()
    number = "row_number() OVER (ORDER BY created, id)"
    for table, columns in (("tokens", TOKEN_COLUMNS), ("jobs", JOB_COLUMNS)):
        op.execute(f"INSERT INTO new_{table} (sequence, {columns}) SELECT {number}, {columns} FROM {table}")
    for table, columns in (("events", EVENT_COLUMNS), ("idempotency", IDEMPOTENCY_COLUMNS)):
        op.execute(f"INSERT INTO new_{table} ({columns}) SELECT {columns} FROM {table}")
    for table in ("idempotency", "events", "jobs", "tokens"):
        op.drop_table(table)
    for table in ("tokens", "jobs", "events", "idempotency"):
        op.rename_table(f"new_{table}", table)  # rewrites the references of the others too
    op.create_index("ix_jobs_queue", "jobs", ["state", "priority", "sequence"])
    op.create_index("ix_jobs_created", "jobs", ["created"])
    op.create_index("ix_jobs_run", "jobs", ["run"])
    op.create_index("ix_jobs_token", "jobs", ["token", "state"])


def _create_tables() -> None:
    op.create_table(
        "new_tokens",
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(100), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("revoked", sa.Float),
        sa.PrimaryKeyConstraint("sequence", name="pk_tokens"),
        sa.UniqueConstraint("id", name="uq_tokens_id"),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "new_jobs",
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("run", sa.String(200), nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("active", sa.String(64)),
        sa.Column("token", sa.String(32)),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("memory", sa.BigInteger, nullable=False),
        sa.Column("disk", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("finished", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("slabs", sa.Integer, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(200)),
        sa.Column("lease_until", sa.Float),
        sa.Column("cancel", sa.Boolean, nullable=False),
        sa.Column("waiting", sa.Text),
        sa.Column("progress", sa.JSON),
        sa.Column("result", sa.JSON),
        sa.Column("cause", sa.JSON),
        sa.Column("events", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sa.UniqueConstraint("active", name="uq_jobs_active"),
        sa.ForeignKeyConstraint(["token"], ["new_tokens.id"], name="fk_jobs_token_tokens"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "new_events",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("job", "seq", name="pk_events"),
        sa.ForeignKeyConstraint(["job"], ["new_jobs.id"], name="fk_events_job_jobs", ondelete="CASCADE"),
    )
    op.create_table(
        "new_idempotency",
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("token", "key", name="pk_idempotency"),
        sa.ForeignKeyConstraint(["job"], ["new_jobs.id"], name="fk_idempotency_job_jobs", ondelete="CASCADE"),
    )


def _change_in_place() -> None:
    op.execute("LOCK TABLE tokens, jobs, events, idempotency IN ACCESS EXCLUSIVE MODE")
    op.drop_constraint("fk_idempotency_job_jobs", "idempotency")
    op.drop_constraint("fk_events_job_jobs", "events")
    op.drop_constraint("fk_jobs_token_tokens", "jobs")
    for table in NUMBERED:
        _number(table)
    op.create_foreign_key("fk_jobs_token_tokens", "jobs", "tokens", ["token"], ["id"])
    op.create_foreign_key("fk_events_job_jobs", "events", "jobs", ["job"], ["id"], ondelete="CASCADE")
    op.create_foreign_key("fk_idempotency_job_jobs", "idempotency", "jobs", ["job"], ["id"], ondelete="CASCADE")
    op.drop_index("ix_jobs_queue", "jobs")
    op.create_index("ix_jobs_queue", "jobs", ["state", "priority", "sequence"])


def _number(table: str) -> None:
    op.add_column(table, sa.Column("sequence", sa.BigInteger))
    op.execute(
        f"UPDATE {table} SET sequence = ordered.number FROM "
        f"(SELECT id, row_number() OVER (ORDER BY created, id) AS number FROM {table}) AS ordered WHERE ordered.id = {table}.id"
    )
    op.drop_constraint(f"pk_{table}", table)
    op.alter_column(table, "sequence", nullable=False)
    op.create_primary_key(f"pk_{table}", table, ["sequence"])
    op.create_unique_constraint(f"uq_{table}_id", table, ["id"])
    numbers = f"{table}_sequence_seq"
    op.execute(f"CREATE SEQUENCE {numbers} OWNED BY {table}.sequence")
    op.execute(f"ALTER TABLE {table} ALTER COLUMN sequence SET DEFAULT nextval('{numbers}')")
    op.execute(f"SELECT setval('{numbers}', max(sequence)) FROM {table} HAVING max(sequence) > 0")
