"""Map every error to problem+json (RFC 9457): trajsvc's own, FastAPI's, starlette's, and unexpected exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.places import Places
from storage_schema.files.system_errors import of_system
from trajsvc.errors import LimitExceeded, RunExists, TrajsvcError, printable, validation_text
from trajsvc.jobs.records import QuotaExceeded

MEDIA: Final = "application/problem+json"
PREFIX: Final = "urn:trajsvc:problem:"
LISTED: Final[Mapping[str, str]] = {
    "job": "`trajsvc jobs` lists them, and GET /v1/jobs.",
    "run": "`trajsvc ls` lists them, and GET /v1/runs.",
    "family": "GET /v1/families lists them.",
}
"""names within an address, and where those that exist are listed"""

_OF_STATUS: Final[Mapping[int, str]] = {
    401: "unauthorised", 403: "forbidden", 404: "no-such-address", 405: "method-not-allowed", 406: "not-acceptable",
    408: "body-slow", 413: "body-too-large", 414: "address-too-long", 416: "range-not-satisfiable", 421: "bad-host",
}  # fmt: skip
"""the kinds of what the framework refuses"""

log = structlog.get_logger()


class Unauthorised(TrajsvcError):
    def __init__(self) -> None:
        super().__init__("unauthorised", "a token is needed", hint="Send Authorization: Bearer TOKEN.")


class Forbidden(TrajsvcError):
    def __init__(self, scope: str) -> None:
        super().__init__("forbidden", f"the token has no scope {scope}", hint="Ask for one that has.")


def register(app: FastAPI) -> None:
    """Make ``app`` answer every error with problem+json."""
    app.add_exception_handler(TrajsvcError, _own)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(MemoryError, _memory)
    app.add_exception_handler(Exception, _unforeseen)


def problem(
    request: Request,
    kind: str,
    status: int,
    detail: str,
    *,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """Make one problem+json response.

    ``detail`` may hold names from checkpoints: control characters are escaped, and the JSON is never served as HTML.
    """
    title = HTTPStatus(status).phrase
    places: Places | None = getattr(request.app.state, "places", None) if "app" in request.scope else None
    if places is not None:
        detail, hint, more = _without_paths(request, places, detail, hint, more)
    body = {
        "type": PREFIX + kind,
        "title": title,
        "status": status,
        "detail": printable(detail),
        "instance": request.scope["path"],
        "hint": printable(hint),
        "request_id": request.scope.get("request_id", ""),
        **more,
    }
    return JSONResponse(body, status, {"cache-control": "no-store", **(headers or {})}, MEDIA)


def _without_paths(
    request: Request, places: Places, detail: str, hint: str, more: dict[str, Any]
) -> tuple[str, str, dict[str, Any]]:
    """Remove the paths of the server's folders from a problem."""
    if places.tells(detail) or places.tells(hint):
        log.warning("withheld", path=request.scope["path"], detail=detail, hint=hint)
    detail = places.plain(detail)
    hint = "Ask the operator of the server." if places.tells(hint) else hint
    if (file := more.get("file")) is not None:
        more = {**more, "file": places.name(file)}
    return detail, hint, {k: v for k, v in more.items() if v is not None}


async def _own(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TrajsvcError)
    status = error.outcome.status
    headers = {}
    if isinstance(error, QuotaExceeded):
        headers["retry-after"] = str(max(1, round(error.after)))
    elif status == 503:
        headers["retry-after"] = "5"
    elif status == 401:
        headers["www-authenticate"] = "Bearer"
    places = {"file": error.file, "tensor": error.tensor, "step": error.step}
    more = {k: printable(v) if isinstance(v, str) else v for k, v in places.items() if v is not None}
    if isinstance(error, RunExists):
        more["run"] = f"/v1/runs/{error.run}"
    return problem(request, error.kind, status, error.message, hint=error.hint, headers=headers, **more)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [
        {"where": printable(".".join(str(p) for p in e["loc"])), "message": printable(validation_text(e))}
        for e in error.errors()[:20]
    ]
    if request.method != "PUT" and (missing := _no_such_name(request, error)):
        return missing
    detail = "; ".join(f"{f['where']}: {f['message']}" for f in found[:3])
    return problem(request, "bad-request", 422, detail, hint="/openapi.json describes every request.", errors=found)


def _no_such_name(request: Request, error: RequestValidationError) -> JSONResponse | None:
    """Return a 404 if a name in the address is invalid, as for an unknown name: an unknown job is unknown however its
    id is written.
    """
    for found in error.errors():
        if found["loc"][:1] == ("path",) and (name := str(found["loc"][-1])) in LISTED:
            value = printable(str(found.get("input", "")))[:200]
            return problem(request, f"{name}-not-found", 404, f"no {name} {value!r}", hint=LISTED[name])
    return None


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    hint = "/openapi.json lists every address." if error.status_code in (404, 405) else ""
    kind = _OF_STATUS.get(error.status_code, "bad-request" if error.status_code < 500 else "internal")
    return problem(request, kind, error.status_code, str(error.detail), hint=hint, headers=error.headers)


async def _gone(request: Request, error: Exception) -> JSONResponse:
    """Answer a client that left in the middle of its body: nobody reads it, and nothing is wrong here."""
    return problem(request, "bad-request", 400, "the body ended before its end")


async def _database(request: Request, error: Exception) -> JSONResponse:
    log.warning("database-failed", error=type(error).__name__)
    hint = "Ask again in a moment."
    return problem(
        request, "database-unreachable", 503, "the database does not answer", hint=hint, headers={"retry-after": "2"}
    )


async def _memory(request: Request, error: Exception) -> JSONResponse:
    log.warning("too-large", path=request.scope["path"])
    hint = "Ask for fewer checkpoints with steps, for npz instead of JSON, or the operator for more: answer_memory."
    refused = LimitExceeded(
        "answer-too-large", "the answer takes more memory than the server allows for one", hint=hint
    )
    return await _own(request, refused)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError):
        log.warning("system-failed", path=request.scope["path"], exc_info=error)
        return await _own(request, of_system(error))
    log.error("unforeseen", path=request.scope["path"], exc_info=error)
    return problem(request, "internal", 500, "an error that was not foreseen", hint="The server's log has it whole.")
