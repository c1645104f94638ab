"""The database's history, for alembic: ``upgrade`` brings a database to the present."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


class UnknownRevision(Exception):
    """The database was made by a newer version."""


def config() -> Config:
    """Return alembic's configuration; the caller gives it a connection."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.set_main_option("path_separator", "os")
    return made


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the database of ``connection`` to the schema of ``revision``, in its transaction.

    Raises UnknownRevision where the database is at a revision that this version does not have.
    """
    made = config()
    made.attributes["connection"] = connection
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in {r.revision for r in ScriptDirectory.from_config(made).walk_revisions()}:
        raise UnknownRevision(present)
    command.upgrade(made, revision)
