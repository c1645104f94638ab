"""Check every request (host, origin, sizes) and set the headers of every response."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import headers
from api.errors import problem

BODY: Final = 64 * 1024
URL: Final = 16 * 1024
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
COSTLY: Final = frozenset({"/v1/plan", "/v1/audit"})
"""what makes the server work or ask others, whatever the method"""


class RequestMiddleware:
    """Pure ASGI, so that streams pass untouched. ``hosts`` are the names that the server answers to; None: any."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self.app = app
        known = None if hosts is None else {headers.host_name(h) for h in hosts}
        self.hosts = None if known is None else frozenset(n for n in known if n is not None) | LOOPBACK

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
        here = headers.host(request.headers.getlist("host"))
        if here is None or (self.hosts is not None and here.name not in self.hosts):
            hint = "Start the server with --host-name NAME to have it answer to this name."
            return problem(request, "bad-host", 421, "this server has another name", hint=hint)
        if request.method in WRITES or request.scope["path"] in COSTLY:
            if not _asked_here(request, here):
                hint = "Open this server's own page, or ask from a program."
                return problem(request, "bad-origin", 403, "requests of another site are refused", hint=hint)
            length = headers.length(request.headers.getlist("content-length"))
            if length is None or length > BODY:
                return problem(
                    request, "body-too-large", 413, f"a body may have {BODY} bytes", headers={"connection": "close"}
                )
        if len(request.scope.get("query_string", b"")) + len(request.scope["path"]) > URL:
            return problem(request, "address-too-long", 414, f"an address may have {URL} bytes")
        return None


def _asked_here(request: Request, here: headers.Place) -> bool:
    """Return whether the request is not from another site's page in a browser.

    Programs send neither of the two headers.
    """
    origins = request.headers.getlist("origin")
    if origins and not headers.same_origin(origins, here):
        return False
    return headers.from_this_site(request.headers.getlist("sec-fetch-site"))


def _limited(receive: Receive, scope: Scope) -> Receive:
    """Wrap ``receive`` so that a body without a length is refused once it is too large."""
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
