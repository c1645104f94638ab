"""Jobs, their events, tokens, and keys of repeated requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(100), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("revoked", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
    )
    op.create_table(
        "jobs",
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
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["token"], ["tokens.id"], name="fk_jobs_token_tokens"),
        sa.UniqueConstraint("active", name="uq_jobs_active"),
    )
    op.create_index("ix_jobs_queue", "jobs", ["state", "priority", "created"])
    op.create_index("ix_jobs_created", "jobs", ["created"])
    op.create_index("ix_jobs_run", "jobs", ["run"])
    op.create_index("ix_jobs_token", "jobs", ["token", "state"])
    op.create_table(
        "events",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("job", "seq", name="pk_events"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_events_job_jobs", ondelete="CASCADE"),
    )
    op.create_table(
        "idempotency",
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("token", "key", name="pk_idempotency"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_idempotency_job_jobs", ondelete="CASCADE"),
    )


def downgrade() -> None:
    for name in ("idempotency", "events", "jobs", "tokens"):
        op.drop_table(name)
