"""Routes of runs against runs: their submission, the results, and averages of a run's checkpoints."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, Service, ServiceOf, Submitter
from api.formats import (
    answer,
    answer_of,
    csv_bytes,
    csv_models,
    documented,
    figure_makers,
    json_bytes,
    npz_bytes,
)
from api.requests import CrossSubmission
from api.routes.jobs import SUBMITTED, IdempotencyKey, submitted
from api.routes.results import Format, Group, RunName, Steps
from storage_schema.models.averages import AverageRow, AveragesAnswer
from storage_schema.models.cross import BasesAnswer, CrossAnswer
from storage_schema.models.service import NAME, JobAnswer
from trajsvc.errors import Refused
from trajsvc.figures.averages import averages_of
from trajsvc.figures.cross import cross_figure
from trajsvc.measures.cross import Origin
from trajsvc.results.averages import averages
from trajsvc.results.cross import CrossRun, open_cross
from trajsvc.results.cross_family import bases
from trajsvc.sources.transport.cancel import Stop

router = APIRouter(prefix="/v1", tags=["cross"], route_class=AnswerRoute)

A = Annotated[str, Query(pattern=NAME, description="A run", examples=["seed0"])]
B = Annotated[str, Query(pattern=NAME, description="Another run", examples=["seed1"])]
From = Annotated[Origin, Query(description="Displacements from: each run's own start, a's start for both, or zero")]
Rename = Annotated[list[str], Query(max_length=64, description="Names of b's tensors, as a has them: FROM=TO")]
Common = Annotated[bool, Query(description="Of the tensors that both have, where a comparison of these was computed")]


@router.post("/cross", operation_id="submitCross", status_code=202, response_model=JobAnswer, responses=SUBMITTED)
async def submit_cross(
    request: Request, service: ServiceOf, who: Submitter, body: CrossSubmission, key: IdempotencyKey = None
) -> Response:
    """Compare two stored runs: all inner products of their checkpoints, block by block, kept in the store. The same work asked twice
    is one job."""

    def work(stop: Stop) -> Response:
        spec = service.processes.spec("cross", stop, body=body)
        return submitted(service, who, spec, body.priority, key, f"cross {body.model_dump_json()}")

    return await service.long_work.submissions.run(request, work)


@router.get(
    "/cross", operation_id="getCross", responses=documented(CrossAnswer, "json", "csv", "npz", "png", "svg"),
    response_class=Response,
)  # fmt: skip
def get_cross(
    request: Request,
    service: ServiceOf,
    who: Reader,
    a: A,
    b: B,
    group: Group = "network",
    origin: From = "first",
    steps: Steps = None,
    rename: Rename = [],  # noqa: B006 (FastAPI copies it)
    common: Common = False,
    form: Format = None,
) -> Response:
    """Return two runs against each other: cosines and distances of displacements at all pairs of checkpoints, and their starts."""
    crossed = _open(service, a, b, rename, common)

    def found() -> CrossAnswer:
        return crossed.answer(group, origin, steps)

    def table() -> bytes:
        made = found()
        rows = ([step, *row] for step, row in zip(made.steps_a, made.map, strict=True))
        return csv_bytes([f"{a} \\ {b}", *map(str, made.steps_b)], rows)

    def arrays() -> bytes:
        made = found()
        shape = len(made.steps_a), len(made.steps_b)
        return npz_bytes(
            map=np.array(made.map, dtype=np.float64).reshape(shape),
            distances=np.array(made.distances, dtype=np.float64).reshape(shape),
            steps_a=np.array(made.steps_a, dtype=np.int64),
            steps_b=np.array(made.steps_b, dtype=np.int64),
        )

    makers = {
        "json": lambda: json_bytes(found()), "csv": table, "npz": arrays, **figure_makers(lambda: cross_figure(found())),
    }  # fmt: skip
    return answer_of(request, service, [crossed.stored.digest], makers)


@router.get(
    "/cross/bases", operation_id="listBases", response_model=list[BasesAnswer], responses=documented(list[BasesAnswer])
)
def list_bases(service: ServiceOf, who: Reader) -> list[BasesAnswer]:
    """List the runs that begin with the same parameters, by the digests of their first checkpoints."""
    return bases([service.runs.open(name) for name in service.runs.names()])


@router.get(
    "/runs/{run}/averages", operation_id="getAverages", responses=documented(AveragesAnswer, "json", "csv", "png", "svg"),
    response_class=Response,
)  # fmt: skip
def get_averages(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    group: Group = "network",
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Describe averages of a run's checkpoints (the last k, moving averages): distance from the last, variance removed, norm."""
    opened = service.runs.open(run)
    makers = {
        "json": lambda: json_bytes(averages(opened, group, steps)),
        "csv": lambda: csv_models(averages(opened, group, steps).averages, AverageRow),
        **figure_makers(lambda: averages_of(opened, group, steps)),
    }
    return answer(request, service, opened, makers)


def _open(service: Service, a: str, b: str, rename: list[str], common: bool) -> CrossRun:
    runs = [service.runs.open(name) for name in (a, b)]
    for run in runs:
        if run.estimate is not None:
            raise Refused("run-estimate", f"{run.name} is still an estimate", hint="Wait for its job to end.")
    return open_cross(runs[0], runs[1], rename, common)
