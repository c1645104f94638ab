"""Run by alembic, within the transaction of the connection that ``upgrade`` was given."""

from __future__ import annotations

from alembic import context

from storage_schema.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
