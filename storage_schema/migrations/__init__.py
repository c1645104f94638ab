"""The database's history, for alembic: ``upgrade`` brings a database to the present.

alembic is imported where there is something to do: that takes a tenth of the time in which a server or a runner starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0003"
"""the last revision in ``versions``"""


class UnknownRevision(Exception):
    """The database was made by a newer version."""


def config() -> Config:
    """Return alembic's configuration; the caller gives it a connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.set_main_option("path_separator", "os")
    return made


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the database of ``connection`` to the schema of ``revision``, in its transaction.

    Raises UnknownRevision where the database is at a revision that this version does not have.
    """
    present = _present(connection)
    if present == revision or (present, revision) == (HEAD, "head"):
        return
    from alembic import command
    from alembic.script import ScriptDirectory

    made = config()
    made.attributes["connection"] = connection
    if present is not None and present not in {r.revision for r in ScriptDirectory.from_config(made).walk_revisions()}:
        raise UnknownRevision(present)
    command.upgrade(made, revision)


def _present(connection: Connection) -> str | None:
    """Return the revision that the database is at; None for a database without tables of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found
