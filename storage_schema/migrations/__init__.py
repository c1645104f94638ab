"""The database's history, for alembic: ``upgrade`` brings a database to the present."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config() -> Config:
    """alembic's configuration, for a connection that is given to it."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.set_main_option("path_separator", "os")
    return made


def upgrade(connection: Connection) -> None:
    """Bring the database of ``connection`` to the present schema, in its transaction."""
    made = config()
    made.attributes["connection"] = connection
    command.upgrade(made, "head")
