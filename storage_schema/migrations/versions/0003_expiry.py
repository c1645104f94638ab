"""Let tokens expire: ``expires``, in seconds since 1970, is null for those that do not, as all made before are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("expires", sa.Float))


def downgrade() -> None:
    raise NotImplementedError("tokens that expire would be valid for ever: restore a copy of the database made before")
