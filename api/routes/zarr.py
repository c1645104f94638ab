"""Serve a run's zarr as it is stored, read-only: ``xarray.open_zarr("http://…/v1/runs/NAME/zarr")``.

Files of the committed generation only. The two that say where checkpoints lie say it as every other answer does, ``ROOT:relative``: the
attributes of the run, and the array ``checkpoint/files``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from api.dependencies import Reader, ServiceOf
from api.errors import problem
from api.formats import PROBLEMS
from api.headers import byte_range, tags
from api.places import Places
from api.routes.results import RunName
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.small_arrays import TEXT, encoded, metadata
from storage_schema.runs.staging import ROOT

router = APIRouter(prefix="/v1", tags=["zarr"])

PIECE = 2**20
FILES = "checkpoint/files"
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
    made = _without_paths(stored, key, service.places)
    size, digest = (entry.size, entry.sha256) if made is None else (len(made), hashlib.sha256(made).hexdigest())
    tag = f'"{digest[:32]}"'
    headers = {"etag": tag, "accept-ranges": "bytes", "cache-control": "no-cache"}
    if tag in tags(request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    lo, hi = 0, size
    asked = byte_range(request.headers.get("range"))
    status = 200
    if asked is not None:
        lo, hi = _span(*asked, size)
        if lo >= hi:
            detail = f"the file has {size} bytes"
            return problem(request, "range-not-satisfiable", 416, detail, headers={"content-range": f"bytes */{size}"})
        headers["content-range"] = f"bytes {lo}-{hi - 1}/{size}"
        status = 206
    headers["content-length"] = str(hi - lo)
    media = "application/json" if key.endswith("zarr.json") else "application/octet-stream"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media)
    pieces = _pieces(stored, key, lo, hi) if made is None else iter([made[lo:hi]])
    first = next(pieces, b"")  # a damaged file is found before the answer begins
    return StreamingResponse(_chain(first, pieces), status, headers, media)


def _without_paths(stored: StoredRun, key: str, places: Places) -> bytes | None:
    """Return a file that tells paths of this machine with their names instead; None for one that tells none.

    The array of files is written anew as one chunk of plain strings, whatever an earlier version stored it as.
    """
    if key != ROOT and not key.startswith(f"{FILES}/"):
        return None
    count = stored.checkpoint_count
    described = metadata("string", [count], ["step"], [max(1, count)], [TEXT])
    if key == ROOT:
        told = json.loads(_whole(stored, key))
        told["attributes"] = places.plain(told.get("attributes", {}))
        inner = (told.get("consolidated_metadata") or {}).get("metadata", {})
        if FILES in inner:
            inner[FILES] = described
        return json.dumps(told, indent=1).encode()
    if key == f"{FILES}/zarr.json":
        return json.dumps(described, indent=1).encode()
    if key != f"{FILES}/c/0":
        raise HTTPException(404, "the run's zarr has no such file")
    return encoded([_shown(text, places) for text in stored.checkpoints.files])


def _shown(text: str, places: Places) -> str:
    """Return the files of a checkpoint, as JSON, by the names of their paths."""
    files = [{**file, "path": places.shown(file["path"])} for file in json.loads(text)]
    return json.dumps(files)


def _whole(stored: StoredRun, key: str) -> bytes:
    found = bytearray(stored.entries[key].size)
    stored.read_file(key, 0, memoryview(found))
    return bytes(found)


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
