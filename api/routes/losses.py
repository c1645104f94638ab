"""The route of what a trainer logged beside a run's checkpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, ServiceOf
from api.formats import answer, csv_bytes, documented, figure_makers, json_bytes
from api.routes.results import Format, Group, RunName, Steps
from storage_schema.models.training_log import LossesAnswer
from trajsvc.figures.of_losses import losses_of
from trajsvc.measures.registry import names_in
from trajsvc.results.losses import losses, table_of

router = APIRouter(prefix="/v1", tags=["results"], route_class=AnswerRoute)


@router.get(
    "/runs/{run}/losses",
    operation_id="getLosses",
    responses=documented(LossesAnswer, "json", "csv", "png", "svg"),
    response_class=Response,
)
def get_losses(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    group: Group = "network",
    names: Annotated[
        str | None, Query(max_length=4096, description="Only these quantities, with commas between")
    ] = None,
    beside: Annotated[
        str | None, Query(max_length=200, description="A measure over training to correlate them with, at lags")
    ] = None,
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Return what the trainer logged, at the checkpoints, and how it goes with a measure of a group."""
    opened = service.runs.open(run)
    chosen = names_in(names)

    def found() -> LossesAnswer:
        return losses(opened, chosen, beside, group, steps)

    makers = {
        "json": lambda: json_bytes(found()),
        "csv": lambda: csv_bytes(*table_of(found())),
        **figure_makers(lambda: losses_of(opened, chosen, beside, group, steps)),
    }
    return answer(request, service, opened, makers)
