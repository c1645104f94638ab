"""The list of runs: by name, or filtered, sorted, and with further columns."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, Service, ServiceOf
from api.formats import documented
from api.routes.results import row_of
from storage_schema.models.service import RunsPage
from storage_schema.runs.about import check_tag
from trajsvc.errors import NotFound, UsageError
from trajsvc.results import listing
from trajsvc.results.conditions import LONGEST, MOST

router = APIRouter(prefix="/v1", tags=["results"], route_class=AnswerRoute)

MOST_TAGS = 8
Tags = Annotated[
    list[Annotated[str, Query(max_length=64)]] | None,
    Query(max_length=MOST_TAGS, description="Only runs with this tag; given again: with all of them"),
]
Where = Annotated[
    list[Annotated[str, Query(max_length=LONGEST)]] | None,
    Query(
        max_length=MOST,
        description="Only runs for which it holds: a fact, measure or hyperparameter, one of = != < <= > >= ~, a value; given again: all",
        examples=[["lr>0.01", "optimizer=adamw"]],
    ),
]


@router.get("/runs", operation_id="listRuns", responses=documented(RunsPage, "json"), response_model=RunsPage)
def list_runs(
    service: ServiceOf,
    who: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    tag: Tags = None,
    where: Where = None,
    sort: Annotated[
        str | None, Query(max_length=120, description="A field, instead of the name; -field: the largest first")
    ] = None,
    columns: Annotated[
        str | None,
        Query(max_length=4096, description="Fields that every row is to have in `columns`, with commas between"),
    ] = None,
    response: Response = None,  # type: ignore[assignment]
) -> RunsPage:
    """List the runs of the store, by name or sorted by a field; with ``where`` and ``tag`` those that meet all of them."""
    if where or sort or columns:
        return _chosen_runs(service, limit, cursor, tag or [], where or [], sort, columns, response)
    wanted = {check_tag(word) for word in tag or ()}
    names = [
        n
        for n in service.runs.names()
        if (cursor is None or n > cursor) and (not wanted or wanted <= set(service.runs.about(n).tags))
    ]
    rows = []
    for name in names[:limit]:
        with suppress(NotFound):  # a job's estimate may be gone since
            rows.append(row_of(service, service.runs.open(name)))
    following = names[limit - 1] if len(names) > limit else None
    if following is not None:
        more = urlencode([("limit", limit), ("cursor", following), *(("tag", word) for word in sorted(wanted))])
        response.headers["link"] = f'</v1/runs?{more}>; rel="next"'
    return RunsPage(items=rows, next=following)


def _chosen_runs(
    service: Service,
    limit: int,
    cursor: str | None,
    tags: list[str],
    where: list[str],
    sort: str | None,
    columns: str | None,
    response: Response,
) -> RunsPage:
    """Return a page of the runs that are asked for; the cursor is the last run of the page before."""
    every = []
    for name in service.runs.names():
        with suppress(NotFound):  # a job's estimate may be gone since
            opened = service.runs.open(name)
            every.append(listing.Listed(opened, row_of(service, opened)))
    fields = listing.columns_in(columns) or []
    listing.check_fields(every, fields)
    found = listing.select(every, where, sort, tags)
    names = [one.row.run for one in found]
    if cursor is not None and cursor not in names:
        raise UsageError(
            "bad-cursor", "the list has changed: its next page is not known", hint="Read it from its beginning."
        )
    first = 0 if cursor is None else names.index(cursor) + 1
    shown = found[first : first + limit]
    following = names[first + limit - 1] if len(names) > first + limit else None
    if following is not None:
        asked = [
            ("limit", str(limit)),
            ("cursor", following),
            *(("tag", word) for word in tags),
            *(("where", one) for one in where),
        ]
        asked += [(name, value) for name, value in (("sort", sort), ("columns", columns)) if value is not None]
        response.headers["link"] = f'</v1/runs?{urlencode(asked)}>; rel="next"'
    items = [one.row.model_copy(update={"columns": listing.cells(one, fields)} if fields else {}) for one in shown]
    return RunsPage(items=items, next=following)
