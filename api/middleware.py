"""Check every request (host, origin, sizes) and set the headers of every response."""

from __future__ import annotations

import asyncio
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
BODY_SECONDS: Final = 30.0
"""that a body may take to come"""
ALWAYS: Final = frozenset({"/live", "/ready"})
"""what is answered however much is being answered"""
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
    """Pure ASGI, so that streams pass untouched.

    ``hosts`` are the names that the server answers to, None: any; ``most`` is how many requests it answers at once, None: any number.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, most: int | None = None) -> None:
        self.app, self.most = app, most
        self.answering = 0
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
        self.answering += 1
        try:
            with structlog.contextvars.bound_contextvars(request=scope["request_id"]):
                await self.app(scope, _limited(receive), adorned)
        finally:
            self.answering -= 1

    def _refuse(self, request: Request) -> Any:
        here = headers.host(request.headers.getlist("host"))
        if here is None or (self.hosts is not None and here.name not in self.hosts):
            hint = "Start the server with --host-name NAME to have it answer to this name."
            return problem(request, "bad-host", 421, "this server has another name", hint=hint)
        lengths, codings = (request.headers.getlist(name) for name in ("content-length", "transfer-encoding"))
        if lengths and codings:  # two ends of one body: a proxy in between may believe the other one
            said = "a body has a Content-Length or a Transfer-Encoding"
            return problem(request, "bad-request", 400, said, hint="Send one of them.", headers={"connection": "close"})
        write = request.method in WRITES or request.scope["path"] in COSTLY
        if not write and request.scope["path"].startswith("/v1/") and _embedded(request):
            hint = "Follow a link to it, open this server's own page, or ask from a program."
            return problem(request, "bad-origin", 403, "results are not for another site's page", hint=hint)
        if write:
            if not _asked_here(request, here):
                hint = "Open this server's own page, or ask from a program."
                return problem(request, "bad-origin", 403, "requests of another site are refused", hint=hint)
            length = headers.length(lengths)
            if length is None or length > BODY:
                return problem(
                    request, "body-too-large", 413, f"a body may have {BODY} bytes", headers={"connection": "close"}
                )
        if len(request.scope.get("query_string", b"")) + len(request.scope["path"]) > URL:
            return problem(request, "address-too-long", 414, f"an address may have {URL} bytes")
        if self.most is not None and self.answering >= self.most and request.scope["path"] not in ALWAYS:
            said = f"the server answers {self.most} requests at once, and all of them go on"
            hint = "Ask again in a while; http_connections says how many there may be."
            more = {"connection": "close", "retry-after": "5"}
            return problem(request, "too-busy", 503, said, hint=hint, headers=more)
        return None


def _asked_here(request: Request, here: headers.Place) -> bool:
    """Return whether the request is not from another site's page in a browser.

    Programs send neither of the two headers.
    """
    origins = request.headers.getlist("origin")
    if origins and not headers.same_origin(origins, here):
        return False
    return headers.from_this_site(request.headers.getlist("sec-fetch-site"))


def _embedded(request: Request) -> bool:
    """Return whether another site's page asks, without its user having followed a link: it cannot read the answer, but have it made."""
    if headers.from_this_site(request.headers.getlist("sec-fetch-site")):
        return False
    followed = [request.headers.getlist(name) for name in ("sec-fetch-mode", "sec-fetch-dest")]
    return followed != [["navigate"], ["document"]]


def _limited(receive: Receive) -> Receive:
    """Wrap ``receive`` so that a body without a length is refused once it is too large, and one that does not come."""
    seen, whole = 0, False
    end = asyncio.get_running_loop().time() + BODY_SECONDS

    async def counted() -> Message:
        nonlocal seen, whole
        if whole:  # what comes now is that the client leaves
            return await receive()
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError:
            said = f"a body may take {BODY_SECONDS:g} s to come"
            raise HTTPException(408, said, headers={"connection": "close"}) from None
        if message["type"] == "http.request":
            whole = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > BODY:
                raise HTTPException(413, f"a body may have {BODY} bytes", headers={"connection": "close"})
        return message

    return counted
