"""The application without a socket: what reaches it is exactly what a test says, bytes that no client library would send too."""

from __future__ import annotations

import asyncio
import json
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from api.app import make_app, make_service
from trajsvc.settings import ServiceSettings

Headers = list[tuple[bytes, bytes]]
LOCAL: Headers = [(b"host", b"127.0.0.1:8000")]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem; fails where the answer is none."""
        assert self.headers["content-type"] == "application/problem+json", (self.status, self.headers, self.body[:200])
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        assert found["type"].startswith("urn:trajsvc:problem:"), found
        return found

    @property
    def kind(self) -> str:
        return str(self.problem["type"]).removeprefix("urn:trajsvc:problem:")


class App:
    """The application of a store below ``folder``, with the data roots ``roots``."""

    def __init__(self, folder: Path, hosts: tuple[str, ...] | None = (), **roots: Path) -> None:
        settings = ServiceSettings(store=folder / "store", roots=roots)
        self.service = make_service(settings, auth=False)
        self.app = make_app(self.service, hosts)
        weakref.finalize(self, self.service.processes.close)  # no server stops here, so nothing else ends them

    def ask(
        self,
        target: str,
        method: str = "GET",
        headers: Headers | None = None,
        body: bytes = b"",
        raw_query: bytes | None = None,
        leaves: bool = False,
    ) -> Answer:
        """The answer to one request, of a client that ``leaves`` after the body, which is not whole then."""
        parts = urlsplit(target)
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(parts.path), "raw_path": parts.path.encode(), "root_path": "",
            "query_string": parts.query.encode() if raw_query is None else raw_query,
            "headers": LOCAL if headers is None else headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        return asyncio.run(self._exchange(scope, body, leaves))

    async def _exchange(self, scope: dict[str, Any], body: bytes, leaves: bool) -> Answer:
        sent: list[dict[str, Any]] = []
        waiting: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": leaves}]
        if leaves:
            waiting.insert(0, {"type": "http.disconnect"})

        async def receive() -> dict[str, Any]:
            if not waiting:  # the client stays until it is answered
                await asyncio.Event().wait()
            return waiting.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        try:
            await self.app(scope, receive, send)  # type: ignore[arg-type]
        except Exception:
            # Starlette answers an exception that nothing handles with 500, and raises it once more for the server's log.
            assert sent, "raised before it answered"
        start = next(m for m in sent if m["type"] == "http.response.start")
        content = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
        return Answer(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, content)

    def post(self, target: str, body: Any, headers: Headers | None = None) -> Answer:
        """A POST of JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = LOCAL if headers is None else headers
        return self.ask(target, "POST", [*given, (b"content-type", b"application/json")], content)
