"""Encode a result in the format of ``?f=`` or Accept, with a strong ETag, and answer 304 where the client has it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from fastapi import Request, Response
from pydantic import BaseModel

from api import encodings
from api.headers import accepted, tags
from storage_schema.models.service import Problem
from trajsvc.errors import UsageError
from trajsvc.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from api.dependencies import Service
    from trajsvc.results.run import Run

MEDIA: Final[Mapping[str, str]] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "npy": "application/x-npy",
    "npz": "application/x-npz",
    "png": "image/png",
    "svg": "image/svg+xml",
}
_drawing: Final = threading.Lock()
"""matplotlib draws one figure at a time"""

Makers = Mapping[str, Callable[[], bytes]]


def answer(request: Request, service: Service, run: Run, makers: Makers, also: Sequence[str] = ()) -> Response:
    """Return the result of ``run`` in one of the formats of ``makers``; ``also`` are digests of what else it depends
    on.

    Raises UsageError (``not-acceptable``).
    """
    return answer_of(request, service, [run.stored.digest, *also], makers)


def answer_of(request: Request, service: Service, digests: Sequence[str], makers: Makers) -> Response:
    """Return a result that depends on the request and on what has these digests."""
    kind = choose(request, makers)
    encoding = encodings.chosen(request.headers.get("accept-encoding"), kind)
    tag = etag(request, digests, kind)
    headers = {"etag": tag, "cache-control": "no-cache", "vary": "accept, accept-encoding, authorization"}
    known = tags(request.headers.get("if-none-match"))
    if tag in encodings.plain_tags(known):
        return Response(
            status_code=304, headers={**headers, "etag": next(t for t in known if tag in encodings.plain_tags({t}))}
        )
    key = encodings.tag_of(tag, encoding)
    body = service.answers.get(key)
    if body is None:
        body = encodings.encode(makers[kind](), encoding)
        service.answers.put(key, body)
    if encoding and encodings.is_encoded(body):
        headers |= {"etag": key, "content-encoding": encoding}
    return Response(body, media_type=MEDIA[kind], headers=headers)


def etag(request: Request, digests: Sequence[str], kind: str) -> str:
    """Return the entity tag of what the address of ``request`` answers in the format ``kind``."""
    words = [__version__, *digests, request.scope["path"], kind, sorted(request.query_params.multi_items())]
    return f'"{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]}"'


def choose(request: Request, makers: Iterable[str]) -> str:
    """Choose the format: ``?f=``, else the first that Accept names, else the first of ``makers``.

    Raises UsageError (``not-acceptable``).
    """
    known = list(makers)
    named = request.query_params.get("f")
    if named is not None:
        if named in known:
            return named
        raise UsageError("not-acceptable", f"no format {named!r} here", hint=f"There are {', '.join(known)}.")
    wanted = accepted(request.headers.get("accept", "*/*"))
    for media in wanted:
        for kind in known:
            plain = MEDIA[kind].partition(";")[0]
            if media in (plain, "*/*", plain.partition("/")[0] + "/*"):
                return kind
    # A browser, which asks for text/html, and a client that reads problem+json get the first format instead of an error.
    if any(media in ("text/html", "application/problem+json") for media in wanted):
        return known[0]
    raise UsageError("not-acceptable", "none of the formats in Accept is here", hint=f"There are {', '.join(known)}.")


def json_bytes(value: BaseModel | Sequence[BaseModel]) -> bytes:
    """Encode as JSON, as the command line does."""
    plain = value.model_dump() if isinstance(value, BaseModel) else [v.model_dump() for v in value]
    return json.dumps(plain, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Encode as CSV with a header; undefined values are empty fields, floats keep every digit."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if v is None else v for v in row] for row in rows)
    return out.getvalue().encode()


def csv_models(rows: Sequence[BaseModel], model: type[BaseModel]) -> bytes:
    """Encode models as CSV, a column a field."""
    header = list(model.model_fields)
    return csv_bytes(header, ([getattr(row, name) for name in header] for row in rows))


def npy_bytes(values: Any) -> bytes:
    """Encode a float64 array as .npy; null becomes NaN."""
    out = io.BytesIO()
    np.save(out, np.array(values, dtype=np.float64), allow_pickle=False)
    return out.getvalue()


def npz_bytes(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def figure_makers(draw: Callable[[], Figure]) -> dict[str, Callable[[], bytes]]:
    """Return functions that encode the figure made by ``draw`` as PNG and SVG."""

    def make(kind: str) -> bytes:
        from trajsvc.figures.style import write

        out = io.BytesIO()
        with _drawing:
            write(draw(), out, kind, dpi=200)
        return out.getvalue()

    return {"png": lambda: make("png"), "svg": lambda: make("svg")}


def documented(model: Any, *kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe the responses of a route for OpenAPI: its formats, 304, and problems."""
    content: dict[str, Any] = {}
    for kind in kinds:
        media = MEDIA[kind].partition(";")[0]
        if kind == "csv":
            content[media] = {"schema": {"type": "string"}}
        elif kind != "json":
            content[media] = {"schema": {"type": "string", "format": "binary"}}
    found: dict[int | str, dict[str, Any]] = {200: {"model": model, "description": "The result", "content": content}}
    return {**found, 304: {"description": "You have it"}, **PROBLEMS}


_PROBLEM: Final[dict[str, Any]] = {
    "model": Problem,
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {**_PROBLEM, "description": "The request cannot be answered; the problem says why and what to do"},
    "5XX": {**_PROBLEM, "description": "The server cannot answer now"},
}
