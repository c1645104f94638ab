"""Messages between the server and the processes that work for it: a length, a kind, JSON.

No pickles: the processes read what strangers wrote, and the server believes of their answers what it parses.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

from trajsvc.errors import RunExists, TrajsvcError

HEAD: Final = struct.Struct("!Qc")
"""Length of the content in bytes, kind of the message."""
REQUEST: Final = b"r"
STOP: Final = b"s"
BEGUN: Final = b"b"
"""The process has begun a request; the content is its id."""
RESULT: Final = b"+"
ERROR: Final = b"-"
CANCELLED: Final = "cancelled"
"""Kind of the error of work that was asked to stop; it is answered to nobody."""
_PLACES: Final = ("kind", "message", "hint", "file", "tensor", "step")
_PIECE: Final = 2**16


def packed(kind: bytes, content: bytes = b"") -> bytes:
    """Return the bytes of a message."""
    return HEAD.pack(len(content), kind) + content


class Inbox:
    """The messages that have come through a socket so far."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._bytes = bytearray()

    def receive(self) -> bool:
        """Receive what is there, waiting for the first byte. Return False if the other side has gone."""
        try:
            piece = self._connection.recv(_PIECE)
        except ConnectionError:
            return False
        self._bytes += piece
        return bool(piece)

    def take(self) -> tuple[bytes, bytes] | None:
        """Return the kind and content of the next whole message; None if there is none yet."""
        if len(self._bytes) < HEAD.size:
            return None
        length, kind = HEAD.unpack_from(self._bytes)
        if len(self._bytes) < HEAD.size + length:
            return None
        content = bytes(self._bytes[HEAD.size : HEAD.size + length])
        del self._bytes[: HEAD.size + length]
        return kind, content


def error_content(error: TrajsvcError) -> bytes:
    """Return an error as JSON, from which ``error_of`` makes one that is answered alike."""
    facts = {name: getattr(error, name) for name in _PLACES}
    if isinstance(error, RunExists):
        facts |= {"run": error.run, "why": error.why}
    return json.dumps(facts).encode()


def error_of(content: bytes) -> TrajsvcError:
    """Return the error that ``error_content`` wrote: the same kind, message and place."""
    facts: Mapping[str, Any] = json.loads(content)
    places = {name: facts[name] for name in ("file", "tensor", "step")}
    if "run" not in facts:
        return TrajsvcError(facts["kind"], facts["message"], hint=facts["hint"], **places)
    error = RunExists(facts["run"], facts["message"], facts["why"])
    error.hint = facts["hint"]
    return error
