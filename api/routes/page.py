"""Serve the page: ``/`` and its static files.

The page keeps its state behind the #, so there are no other addresses.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

from api.headers import tags
from trajsvc.errors import NotFound

router = APIRouter(include_in_schema=False)

WEB: Final = Path(__file__).resolve().parents[1] / "web"
OPENAPI: Final = WEB.with_name("openapi.json")
MEDIA: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".md": "text/plain; charset=utf-8",
    "": "text/plain; charset=utf-8",
}


@router.api_route("/", methods=["GET", "HEAD"])
def get_page(request: Request) -> Response:
    """Return the page."""
    return _answer(request, "index.html")


@router.api_route("/web/{path:path}", methods=["GET", "HEAD"])
def get_page_file(request: Request, path: str) -> Response:
    """Return one of the page's files."""
    return _answer(request, path)


@router.get("/openapi.json")
def get_openapi(request: Request) -> Response:
    """Return the description of every route, as it was made with the code: making it takes a second."""
    return _send(request, OPENAPI.read_bytes(), "application/json")


def _files() -> dict[str, Path]:
    """Return the files that may be requested, by address: those that exist, so that no path is built from a request."""
    return {p.relative_to(WEB).as_posix(): p for p in WEB.rglob("*") if p.is_file() and p.suffix in MEDIA}


def _answer(request: Request, name: str) -> Response:
    path = _files().get(name)
    if path is None:
        raise NotFound("file-not-found", f"the page has no file {name!r}", hint="It begins at /.")
    return _send(request, path.read_bytes(), MEDIA[path.suffix])


def _send(request: Request, content: bytes, media: str) -> Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in tags(request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media, headers=headers)
