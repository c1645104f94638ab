"""Routes of the rows (neurons) of a run's matrices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, ServiceOf
from api.formats import answer, csv_bytes, documented, figure_makers, json_bytes, npz_bytes
from api.routes.results import Format, Group, RunName, Steps
from storage_schema.models.rows import RowsAnswer, RowsOf
from trajsvc.anatomy.groups import find_group
from trajsvc.figures.of_rows import BINS, rows_of
from trajsvc.results.rows import not_found, row_trajectories, rows_answer, rows_arrays, rows_table

router = APIRouter(prefix="/v1", tags=["results"], route_class=AnswerRoute)

MOST = 4096
"""rows that an answer in text has at most"""
Of = Annotated[
    RowsOf,
    Query(
        description="Norm of a row's update, that over the row's, angle, displacement from the start, norm of the row"
    ),
]


@router.get(
    "/runs/{run}/rows",
    operation_id="getRows",
    responses=documented(RowsAnswer, "json", "csv", "npz", "png", "svg"),
    response_class=Response,
)
def get_rows(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    group: Group = "network",
    of: Of = "update",
    top: Annotated[
        int | None,
        Query(ge=1, le=MOST, description="Only so many rows, the largest first: by default 20; all in npz, png, svg"),
    ] = None,
    bins: Annotated[
        int | None,
        Query(ge=1, le=BINS, description="All rows in order, successive ones together in about so many bins"),
    ] = None,
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Return which rows (neurons) of a group's matrices moved, and when."""
    opened = service.runs.open(run)

    def found() -> RowsAnswer:
        return rows_answer(opened, group, of, steps, top, bins)

    def arrays() -> bytes:
        every = row_trajectories(opened, group, of, steps)
        return npz_bytes(**rows_arrays(every.largest(top) if top else every))

    makers = {
        "json": lambda: json_bytes(found()),
        "csv": lambda: csv_bytes(*rows_table(found())),
        "npz": arrays,
        **figure_makers(lambda: rows_of(opened, group, of, steps, top)),
    }
    return answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/rows/norms",
    operation_id="getRowNorms",
    responses=documented(None, "npz"),
    response_class=Response,
)
def get_row_norms(
    request: Request, service: ServiceOf, who: Reader, run: RunName, group: Group = "network", form: Format = None
) -> Response:
    """Return the squared norms of the rows of a group's matrices at all stored checkpoints.

    Arrays ``block``, ``index`` (rows) and ``norms`` (rows, 3, checkpoints): of updates, displacements and weights.
    """
    opened = service.runs.open(run)

    def arrays() -> bytes:
        known = find_group(opened.groups(), group)
        rows = opened.stored.group_rows(known.id, known.blocks)
        if rows is None:
            raise not_found(opened, group, kept=False)
        return npz_bytes(block=rows.block, index=rows.index, norms=rows.norms)

    return answer(request, service, opened, {"npz": arrays})
