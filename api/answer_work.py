"""What a process of ``work_server`` does for a request for a result: the application's routes answer it, as they would in the server.

A request is described as ``answer_route.description`` does. Its token was checked by the server.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Mapping
from typing import IO, Any, Final

from fastapi import FastAPI

from api.answer_cache import AnswerCache
from api.app import routed
from api.dependencies import Service
from api.memory_limit import limit_memory
from api.work_messages import ANSWER, Head, packed, send_file
from trajsvc.settings import ServiceSettings

INLINE: Final = 4 * 2**20
"""bytes of a body that is sent to the server; a larger one is a file that it reads"""

_app: Final[FastAPI] = routed()
_services: Final[dict[int, Service]] = {}
"""by the ``id`` of their settings, which are kept"""
_runner: Final = asyncio.Runner()


def send(connection: socket.socket, settings: ServiceSettings, request: Mapping[str, Any]) -> None:
    """Answer a request, and send the answer."""
    limit_memory(settings.answer_memory)
    service = _service(settings)
    _app.state.service, _app.state.places = service, service.places
    head, body = _runner.run(_exchange(request))
    if isinstance(body, bytes):
        connection.sendall(packed(ANSWER, head.packed() + b"\n" + body))
        return
    with body:
        send_file(connection, head, body.fileno())


def _service(settings: ServiceSettings) -> Service:
    key = id(settings)
    if key not in _services:
        held = Service.attached(settings)
        held.answers = AnswerCache(0)  # the server keeps answers
        _services[key] = held
    return _services[key]


class _Collected:
    """What an application sends: bytes, or a file once there are too many."""

    def __init__(self) -> None:
        self.head = Head(500, [])
        self._pieces: list[bytes] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    def take(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            self.head = Head(message["status"], pairs)
        elif body := message.get("body", b""):
            self._size += len(body)
            self._pieces.append(body)
            if self._size > INLINE:
                self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="trajsvc-answer-", buffering=0)  # noqa: SIM115 (its reader closes it)
        for piece in self._pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._pieces.clear()

    def body(self) -> bytes | IO[bytes]:
        if self._file is None:
            return b"".join(self._pieces)
        self._file.seek(0)
        return self._file


async def _exchange(request: Mapping[str, Any]) -> tuple[Head, bytes | IO[bytes]]:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request["method"], "scheme": "http",
        "path": request["path"], "root_path": "", "query_string": request["query"].encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request["headers"]],
        "client": None, "server": None, "request_id": request["request_id"],
    }  # fmt: skip
    collected = _Collected()
    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not asked:  # the server ends this process if the client goes
            await asyncio.Event().wait()
        return asked.pop()

    async def send(message: Any) -> None:
        collected.take(message)

    try:
        await _app(scope, receive, send)
    except Exception:
        # Starlette answers an exception that nothing handles with 500, and raises it once more; it is logged by then.
        if not collected.head.headers:
            raise
    return collected.head, collected.body()
