"""Checks of every request (host, origin, sizes) and the headers of every response."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem

BODY: Final = 64 * 1024
URL: Final = 16 * 1024
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class RequestMiddleware:
    """Pure ASGI, so that streams pass untouched. ``hosts`` are the names that the server answers to; None: any."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self.app = app
        self.hosts = None if hosts is None else frozenset(h.lower() for h in hosts) | LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["request_id"] = secrets.token_hex(8)

        async def adorned(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                more = [(n, v) for n, v in HEADERS if n not in names]
                message["headers"] = [*message["headers"], *more, (b"x-request-id", scope["request_id"].encode())]
            await send(message)

        refused = self._refuse(Request(scope))
        if refused is not None:
            await refused(scope, receive, adorned)
            return
        with structlog.contextvars.bound_contextvars(request=scope["request_id"]):
            await self.app(scope, _limited(receive, scope), adorned)

    def _refuse(self, request: Request) -> Any:
        host = request.headers.get("host", "")
        name = _without_port(host)
        if self.hosts is not None and name not in self.hosts:
            hint = "Start the server with --host-name NAME to have it answer to this name."
            return problem(request, "bad-host", 421, "this server has another name", hint=hint)
        if request.method in WRITES:
            origin = request.headers.get("origin")
            if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
                return problem(request, "bad-origin", 403, "writes from another origin are refused")
            length = request.headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > BODY:
                return problem(
                    request, "body-too-large", 413, f"a body may have {BODY} bytes", headers={"connection": "close"}
                )
        if len(request.scope.get("query_string", b"")) + len(request.scope["path"]) > URL:
            return problem(request, "address-too-long", 414, f"an address may have {URL} bytes")
        return None


def _limited(receive: Receive, scope: Scope) -> Receive:
    """``receive`` that gives up on a body without a length once it is too large."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > BODY:
                raise HTTPException(413, f"a body may have {BODY} bytes")
        return message

    return counted


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1].lower()
    return host.rsplit(":", 1)[0].lower() if ":" in host else host.lower()
