"""Serve a run's zarr as it is stored, read-only: ``xarray.open_zarr("http://…/v1/runs/NAME/zarr")``.

Files of the committed generation only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from api.dependencies import Reader, ServiceOf
from api.errors import problem
from api.formats import PROBLEMS
from api.headers import byte_range, tags
from api.routes.results import RunName
from storage_schema.runs.reader import StoredRun

router = APIRouter(prefix="/v1", tags=["zarr"])

PIECE = 2**20
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {
        "description": "A range of it",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "You have it"},
    **PROBLEMS,
}


@router.get("/runs/{run}/zarr/{key:path}", operation_id="getZarrFile", response_class=Response, responses=_FILE)
@router.head("/runs/{run}/zarr/{key:path}", operation_id="headZarrFile", response_class=Response, responses=_FILE)
def get_zarr_file(
    request: Request, service: ServiceOf, who: Reader, run: RunName, key: Annotated[str, Path(max_length=1024)]
) -> Response:
    """Return a file of the run's zarr group, or a range of it."""
    stored = service.runs.stored(run)
    entry = stored.entries.get(key)
    if entry is None:
        raise HTTPException(404, "the run's zarr has no such file")
    tag = f'"{entry.sha256[:32]}"'
    headers = {"etag": tag, "accept-ranges": "bytes", "cache-control": "no-cache"}
    if tag in tags(request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    lo, hi = 0, entry.size
    asked = byte_range(request.headers.get("range"))
    status = 200
    if asked is not None:
        lo, hi = _span(*asked, entry.size)
        if lo >= hi:
            detail = f"the file has {entry.size} bytes"
            return problem(
                request, "range-not-satisfiable", 416, detail, headers={"content-range": f"bytes */{entry.size}"}
            )
        headers["content-range"] = f"bytes {lo}-{hi - 1}/{entry.size}"
        status = 206
    headers["content-length"] = str(hi - lo)
    media = "application/json" if key.endswith("zarr.json") else "application/octet-stream"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media)
    pieces = _pieces(stored, key, lo, hi)
    first = next(pieces, b"")  # a damaged file is found before the answer begins
    return StreamingResponse(_chain(first, pieces), status, headers, media)


def _span(first: int | None, last: int | None, size: int) -> tuple[int, int]:
    if first is None:
        return max(0, size - (last or 0)), size
    return first, size if last is None else min(size, last + 1)


def _pieces(stored: StoredRun, key: str, lo: int, hi: int) -> Iterator[bytes]:
    for at in range(lo, hi, PIECE):
        piece = bytearray(min(PIECE, hi - at))
        stored.read_file(key, at, memoryview(piece))
        yield bytes(piece)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
