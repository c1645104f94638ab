"""Access tokens: kept as SHA-256 only, each with scopes, some with an end.

``read`` allows reading, ``submit`` also starting and cancelling jobs, ``admin`` also those of other tokens.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, insert, or_, select, update

from storage_schema.tables import tokens
from trajsvc.errors import NotFound, UsageError
from trajsvc.jobs.database import WriteTransactions, now, reading

SCOPES: Final = ("read", "submit", "admin")
PREFIX: Final = "tsv_"


@dataclass(frozen=True)
class Token:
    """The token of a request. ``id`` is None if the server asks for no tokens."""

    id: str | None
    name: str
    scopes: frozenset[str]
    created: float = 0.0
    revoked: float | None = None
    expires: float | None = None

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

    def create(
        self, name: str, scopes: Sequence[str], secret: str | None = None, *, lifetime: float | None = None
    ) -> str:
        """Create a token and return its secret, which is not stored; it is valid for ``lifetime`` seconds by the database's clock.

        Raises UsageError (``bad-scope``).
        """
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
                made = now(connection)
                expires = None if lifetime is None else made + lifetime
                connection.execute(insert(tokens).values(**values, created=made, expires=expires))
        return secret

    def find(self, secret: str) -> Token | None:
        """Return the token with this secret, unless it was revoked or has expired."""
        with self._reading.begin() as connection:
            valid = or_(tokens.c.expires.is_(None), tokens.c.expires > now(connection))
            query = select(tokens).where(tokens.c.hash == digest(secret), tokens.c.revoked.is_(None), valid)
            row = connection.execute(query).mappings().first()
        return None if row is None else Token(row["id"], row["name"], frozenset(row["scopes"].split()))

    def all(self) -> list[Token]:
        """Return the tokens in the order in which they were made, including those revoked and expired."""
        with self._reading.begin() as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.sequence)).mappings().all()
        return [
            Token(r["id"], r["name"], frozenset(r["scopes"].split()), r["created"], r["revoked"], r["expires"])
            for r in rows
        ]

    def any_valid(self) -> bool:
        """Return whether there is a token that is neither revoked nor expired."""
        with self._reading.begin() as connection:
            valid = or_(tokens.c.expires.is_(None), tokens.c.expires > now(connection))
            return connection.execute(select(tokens.c.id).where(tokens.c.revoked.is_(None), valid)).first() is not None

    def revoke(self, identity: str) -> None:
        """Revoke a token. Raises NotFound (``token-not-found``)."""
        with self._writing.begin() as connection:
            done = connection.execute(update(tokens).where(tokens.c.id == identity).values(revoked=now(connection)))
        if done.rowcount == 0:
            raise NotFound("token-not-found", f"no token {identity!r}", hint="`trajsvc tokens ls` lists them.")


def lifetime(text: str) -> float:
    """Return the seconds of ``90d``, ``12h``, ``30m`` or ``45s``. Raises UsageError (``bad-option``).

    >>> lifetime("90d")
    7776000.0
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip())
    if match is None or int(match[1]) == 0:
        raise UsageError("bad-option", f"{text!r} is no lifetime of a token", hint="For example 90d, 12h, 30m or 4w.")
    return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[match[2]])


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
