"""Access tokens: kept as SHA-256 only, each with scopes.

``read`` allows reading, ``submit`` also starting and cancelling jobs, ``admin`` also those of other tokens.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, insert, select, update

from storage_schema.tables import tokens
from trajsvc.errors import NotFound, UsageError
from trajsvc.jobs.database import WriteTransactions, now, reading

SCOPES: Final = ("read", "submit", "admin")
PREFIX: Final = "tsv_"


@dataclass(frozen=True)
class Token:
    """Who asks. ``id`` is None where the server asks for no tokens."""

    id: str | None
    name: str
    scopes: frozenset[str]
    created: float = 0.0
    revoked: float | None = None

    def may(self, scope: str) -> bool:
        """Return whether the token has ``scope``, or one that includes it."""
        return any(s in self.scopes for s in SCOPES[SCOPES.index(scope) :])


ANYONE: Final = Token(None, "anyone", frozenset(SCOPES))


class TokenStore:
    """The tokens of one service."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = reading(engine)
        self._writing = WriteTransactions(engine)

    def create(self, name: str, scopes: Sequence[str], secret: str | None = None) -> str:
        """Create a token and return its secret, which is not stored. Raises UsageError (``bad-scope``)."""
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise UsageError(
                "bad-scope", f"no scope {', '.join(unknown) or 'is given'}", hint=f"Use {', '.join(SCOPES)}."
            )
        secret = secret or PREFIX + secrets.token_urlsafe(32)
        with self._writing.begin() as connection:
            same = connection.execute(select(tokens.c.id).where(tokens.c.hash == digest(secret))).first()
            if same is None:
                values = {"id": secrets.token_hex(8), "name": name, "hash": digest(secret), "scopes": " ".join(scopes)}
                connection.execute(insert(tokens).values(**values, created=now(connection)))
        return secret

    def find(self, secret: str) -> Token | None:
        """Return the token with this secret, unless it was revoked."""
        query = select(tokens).where(tokens.c.hash == digest(secret), tokens.c.revoked.is_(None))
        with self._reading.begin() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else Token(row["id"], row["name"], frozenset(row["scopes"].split()))

    def all(self) -> list[Token]:
        """Return the tokens in the order in which they were made, including the revoked ones."""
        with self._reading.begin() as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.sequence)).mappings().all()
        return [Token(r["id"], r["name"], frozenset(r["scopes"].split()), r["created"], r["revoked"]) for r in rows]

    def revoke(self, identity: str) -> None:
        """Revoke a token. Raises NotFound (``token-not-found``)."""
        with self._writing.begin() as connection:
            done = connection.execute(update(tokens).where(tokens.c.id == identity).values(revoked=now(connection)))
        if done.rowcount == 0:
            raise NotFound("token-not-found", f"no token {identity!r}", hint="`trajsvc tokens ls` lists them.")


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
