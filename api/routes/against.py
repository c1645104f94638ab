"""Routes of many runs against a hyperparameter: measures with lines and the spread over seeds, and parallel coordinates."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, Service, ServiceOf
from api.formats import answer_of, csv_bytes, documented, figure_makers, json_bytes
from api.routes.results import Format, Group, Steps, row_of
from api.routes.run_list import Tags, Where
from storage_schema.models.against import AgainstAnswer
from trajsvc.errors import NotFound, UsageError
from trajsvc.families.against import USUAL, against, csv_of
from trajsvc.figures import of_against
from trajsvc.results import listing

router = APIRouter(prefix="/v1", tags=["results"], route_class=AnswerRoute)

MOST_NAMED = 500
"""runs that one request can name; conditions choose any number"""


@router.get(
    "/against",
    operation_id="runsAgainst",
    responses=documented(AgainstAnswer, "json", "csv", "png", "svg"),
    response_class=Response,
)
def runs_against(
    request: Request,
    service: ServiceOf,
    who: Reader,
    by: Annotated[
        str | None,
        Query(
            max_length=120,
            description="size, seed, a hyperparameter, a fact of a run or a measure; by default the first hyperparameter that differs",
        ),
    ] = None,
    run: Annotated[
        list[str] | None, Query(max_length=MOST_NAMED, description="Names of runs, one each; by default all")
    ] = None,
    where: Where = None,
    tag: Tags = None,
    names: Annotated[
        str | None, Query(max_length=2048, description="Measures that are one number, with commas between")
    ] = None,
    group: Group = "network",
    steps: Steps = None,
    ignore: Annotated[
        str | None, Query(max_length=4096, description="Hyperparameters in which runs of one line may differ")
    ] = None,
    show: Annotated[Literal["scatter", "parallel"], Query(description="Which figure (png, svg)")] = "scatter",
    fields: Annotated[
        str | None, Query(max_length=2048, description="Axes of the parallel coordinates, with commas between")
    ] = None,
    form: Format = None,
) -> Response:
    """Set runs against a hyperparameter: lines join runs that are equal in all else; the spread is over their seeds."""
    found = listing.select(_listed(service, run), where or [], None, tag or [])
    if not found:
        raise UsageError("runs-needed", "no run meets all of this", hint="GET /v1/runs takes the same conditions.")
    chosen = _split(names) or list(USUAL)

    def answer() -> AgainstAnswer:
        return against(found, by, chosen, group, steps, _split(ignore))

    def draw() -> Any:
        return (
            of_against.parallel_of(answer(), _split(fields)) if show == "parallel" else of_against.scatter_of(answer())
        )

    def table() -> bytes:
        header, rows = csv_of(answer())
        return csv_bytes(header, rows)

    makers = {"json": lambda: json_bytes(answer()), "csv": table, **figure_makers(draw)}
    words = [f"{one.run.stored.digest} {one.row.model_dump_json()}" for one in found]
    return answer_of(request, service, [hashlib.sha256("\n".join(words).encode()).hexdigest()], makers)


def _listed(service: Service, names: list[str] | None) -> list[listing.Listed]:
    """Open the runs that are named, or all."""
    found = []
    for name in names or service.runs.names():
        if names:
            opened = service.runs.open(name)
            found.append(listing.Listed(opened, row_of(service, opened)))
            continue
        with suppress(NotFound):  # a job's estimate may be gone since
            opened = service.runs.open(name)
            found.append(listing.Listed(opened, row_of(service, opened)))
    return found


def _split(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
