"""Messages between the server and the processes that work for it: a length, a kind, and JSON or the answer to a request.

No pickles: the processes read what strangers wrote, and the server believes of their answers what it parses.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trajsvc.errors import RunExists, TrajsvcError

HEAD: Final = struct.Struct("!Qc")
"""Length of the content in bytes, kind of the message."""
REQUEST: Final = b"r"
STOP: Final = b"s"
BEGUN: Final = b"b"
"""The process has begun a request; the content is its id."""
RESULT: Final = b"+"
ANSWER: Final = b"a"
"""Status and headers of an answer as JSON, a line's end, and its body."""
FILE: Final = b"f"
"""Status and headers of an answer as JSON; its body is a file whose descriptor comes with the message."""
READY: Final = b"!"
"""what the process that forks the others says by itself once it has imported what they need"""
ERROR: Final = b"-"
CANCELLED: Final = "cancelled"
"""Kind of the error of work that was asked to stop; it is answered to nobody."""
_PLACES: Final = ("kind", "message", "hint", "file", "tensor", "step")
_PIECE: Final = 2**16


@dataclass(frozen=True)
class Message:
    """A message; ``file`` is the descriptor that came with it, which its receiver closes."""

    kind: bytes
    content: bytes
    file: int | None = None


@dataclass(frozen=True)
class Head:
    """Status and headers of an answer; names and values as Latin-1 text, as HTTP has them."""

    status: int
    headers: Sequence[tuple[str, str]]

    def packed(self) -> bytes:
        """Return it as JSON on one line."""
        return json.dumps([self.status, [list(pair) for pair in self.headers]]).encode()

    @classmethod
    def parse(cls, line: bytes) -> Head:
        """Read what ``packed`` wrote."""
        status, headers = json.loads(line)
        return cls(int(status), [(name, value) for name, value in headers])


def packed(kind: bytes, content: bytes = b"") -> bytes:
    """Return the bytes of a message."""
    return HEAD.pack(len(content), kind) + content


def send_file(connection: socket.socket, head: Head, file: int) -> None:
    """Send an answer whose body is an open file."""
    message = packed(FILE, head.packed())
    socket.send_fds(connection, [message[:1]], [file])
    connection.sendall(message[1:])


class Inbox:
    """The messages that have come through a socket so far."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._bytes = bytearray()
        self._files: list[int] = []

    def receive(self) -> bool:
        """Receive what is there, waiting for the first byte. Return False if the other side has gone."""
        try:
            piece, files, _, _ = socket.recv_fds(self._connection, _PIECE, 1)
        except ConnectionError:
            return False
        for file in files:
            os.set_inheritable(file, False)
        self._files += files
        self._bytes += piece
        return bool(piece)

    def take(self) -> Message | None:
        """Return the next whole message; None if there is none yet."""
        if len(self._bytes) < HEAD.size:
            return None
        length, kind = HEAD.unpack_from(self._bytes)
        end = HEAD.size + length
        if len(self._bytes) < end:
            return None
        with memoryview(self._bytes) as held:
            content = bytes(held[HEAD.size : end])
        del self._bytes[:end]
        return Message(kind, content, self._files.pop(0) if kind == FILE and self._files else None)

    def close(self) -> None:
        """Close the files that nobody took."""
        while self._files:
            os.close(self._files.pop())


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
