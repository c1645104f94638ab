"""Routes whose answers are computed: a process of the server's own does it, so that the server's thread only passes it on.

A figure, the JSON of a large map or a suggestion for a name that does not exist hold the interpreter for seconds. The
process answers as the server would; it is ended if it takes too long, or its client goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from api.bodies import Handler, StrictRoute
from api.dependencies import SCOPE_OF, Service, check_token, service_of
from api.encodings import plain_tags
from api.headers import accepted, tags
from api.work_messages import Head
from trajsvc.sources.transport.cancel import Stop

PIECE: Final = 2**18
DRAWN: Final = frozenset({"png", "svg"})
WITHHELD: Final = frozenset({b"if-none-match", b"authorization", b"cookie"})
"""headers that are not passed on as they are"""


class AnswerRoute(StrictRoute):
    """A route of a result. A GET whose function is not a coroutine is answered by a process, where the server has them;
    as long as they are not ready, the server's threads answer for all but figures and exports.
    """

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        if self.methods != {"GET"} or inspect.iscoroutinefunction(self.endpoint):
            return handle
        called = [dependency.call for dependency in self.dependant.dependencies]
        scope = next(SCOPE_OF[call] for call in called if call in SCOPE_OF)
        heavy = self.path.endswith("/export")

        async def passed_on(request: Request) -> Response:
            service = service_of(request)
            if not service.apart:
                return await handle(request)
            large = heavy or _is_drawn(request)
            if not large and not service.processes.ready():  # the server has just begun
                return await handle(request)
            await check_token(request, service, scope)
            return await _answered(request, service, large)

        return passed_on


def _is_drawn(request: Request) -> bool:
    """Return whether a figure is asked for: as ``choose`` finds it, for any route that has figures."""
    named = request.query_params.get("f")
    if named is not None:
        return named in DRAWN
    return any(media.startswith("image/") for media in accepted(request.headers.get("accept", ""))[:1])


async def _answered(request: Request, service: Service, heavy: bool) -> Response:
    """Have a process answer, or find by its tag that the answer that was kept is still the right one."""
    asked = tags(request.headers.get("if-none-match"))
    kept = service.kept.find(request)
    headers = [(name, value) for name, value in request.headers.raw if name not in WITHHELD]
    known = [*asked, *([kept.tag] if kept else [])]
    if known:
        headers.append((b"if-none-match", ", ".join(known).encode("latin-1")))
    facts = description(request.scope, headers)

    def work(stop: Stop) -> tuple[Head, bytes | BinaryIO]:
        return service.processes.answer(facts, stop)

    limiter = service.long_work.drawings if heavy else service.long_work.answers
    head, body = await limiter.run(request, work)
    if head.status == 304 and kept is not None:
        theirs = next((tag for tag in asked if plain_tags({tag}) == plain_tags({kept.tag})), None)
        if theirs is None:
            return _response(kept.head, kept.body)
        head = Head(304, [(n, theirs if n == "etag" else v) for n, v in head.headers])
    if isinstance(body, bytes):
        service.kept.keep(request, head, body)
    return _response(head, body)


def description(scope: Mapping[str, Any], headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Return a request as JSON values: method, path, query, headers, id."""
    return {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope.get("query_string", b"").decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers],
        "request_id": scope.get("request_id", ""),
    }


def _response(head: Head, body: bytes | BinaryIO) -> Response:
    response = Response(body, head.status) if isinstance(body, bytes) else StreamingResponse(_pieces(body), head.status)
    response.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.headers]
    return response


def _pieces(body: BinaryIO) -> Iterator[bytes]:
    with body:
        while piece := body.read(PIECE):
            yield piece
