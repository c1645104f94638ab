"""The route of everything of a run as tables in one archive."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from api.answer_route import AnswerRoute
from api.dependencies import Reader, Service, ServiceOf
from api.formats import PROBLEMS, choose, etag
from api.headers import tags
from api.routes.results import Format, RunName, Steps
from trajsvc.errors import TrajsvcError, TryAgain
from trajsvc.export import FORMATS, export_run
from trajsvc.results.stored_spectra import StoredSpectra

router = APIRouter(prefix="/v1", tags=["results"], route_class=AnswerRoute)
MOST_GROUPS = 64
log = structlog.get_logger()
Groups = Annotated[
    list[Annotated[str, Query(max_length=1024)]] | None,
    Query(
        max_length=MOST_GROUPS, description="Groups of measures and maps, as globs; all but single tensors by default"
    ),
]


@router.get(
    "/runs/{run}/export",
    operation_id="exportRun",
    responses={
        200: {
            "description": "An archive of tables and their manifest",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "You have it"},
        **PROBLEMS,
    },
    response_class=Response,
)
def get_export(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    groups: Groups = None,
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Return everything of a run as tables in a zip archive: ``f`` is csv, parquet or npz; manifest.json has columns and units."""
    opened = service.runs.open(run)
    kind = choose(request, FORMATS)
    spectra = opened.spectrum_answers()
    assert isinstance(spectra, StoredSpectra)
    sets = [opened.gradients(name).stored.digest for name in opened.gradient_sets()]
    digests = [opened.stored.digest, *sets, *spectra.digests()]
    headers = {"cache-control": "no-cache", "vary": "accept, authorization"}
    headers["etag"] = etag(request, digests, kind)
    if headers["etag"] in tags(request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    with _temporary_folder() as folder:
        tables = folder / run
        export_run(opened, tables, kind, groups, steps, shown=_shown(service))
        archive = folder / f"{run}-{kind}.zip"
        packing = zipfile.ZIP_DEFLATED if kind == "csv" else zipfile.ZIP_STORED  # the others are compressed already
        with zipfile.ZipFile(archive, "w", packing) as out:
            for path in sorted(tables.iterdir()):
                out.write(path, f"{run}/{path.name}")
        shutil.rmtree(tables)
    away = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(archive, media_type="application/zip", filename=archive.name, headers=headers, background=away)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Give a folder that stays unless the block fails. Raises TryAgain (``disk-full``) where there is no room for it, without its name."""
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="trajsvc-export-"))
        yield folder
    except BaseException as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        ours = isinstance(error, TrajsvcError)
        if getattr(error, "kind", "") in ("disk-full", "cannot-write") or (isinstance(error, OSError) and not ours):
            log.warning("export-failed", exc_info=error)
            hint = "Ask the operator for room in the server's temporary folder, or ask for fewer groups or steps."
            raise TryAgain("disk-full", "the server has no room for the tables of this run", hint=hint) from error
        raise


def _shown(service: Service) -> Callable[[str, str], str]:
    """Return what hides folders of this machine: given a column's name and a cell, the cell as it may be seen."""

    def shown(name: str, text: str) -> str:
        if name == "files":
            return json.dumps([service.places.shown(path) for path in json.loads(text)])
        return service.places.shown(text) if name == "source" else str(service.places.plain(text))

    return shown
