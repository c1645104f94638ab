"""Routes of the papers' experiments: what each claims, and the results that the store has."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, ServiceOf
from api.formats import PROBLEMS, answer_of
from storage_schema.models.experiments import ExperimentResult, ExperimentRow
from storage_schema.models.service import NAME
from trajsvc.errors import NotFound
from trajsvc.experiments.kept import figure_bytes, open_result
from trajsvc.experiments.listing import rows_of

router = APIRouter(prefix="/v1", tags=["experiments"], route_class=AnswerRoute)

ExperimentName = Annotated[str, Path(pattern=NAME, description="The experiment's name", examples=["h7"])]
FigureName = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\.png$", max_length=128, examples=["h7-maps.png"])
]
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/experiments", operation_id="listExperiments", response_model=list[ExperimentRow], responses=PROBLEMS)
def list_experiments(service: ServiceOf, who: Reader) -> list[ExperimentRow]:
    """List the experiments with what each claims, and the verdict of its last result in the store."""
    return rows_of(service.settings.store)


@router.get(
    "/experiments/{experiment}", operation_id="getExperiment", response_model=ExperimentResult, responses=PROBLEMS
)
def get_experiment(service: ServiceOf, who: Reader, experiment: ExperimentName) -> ExperimentResult:
    """Return the last result of an experiment: claim, what was measured, verdict, figures, and its runs and family that the store has."""
    found = _result(service, experiment)
    present = set(service.runs.names())
    return found.model_copy(update={"runs": [name for name in found.runs if name in present]})


@router.get(
    "/experiments/{experiment}/figures/{figure}",
    operation_id="getExperimentFigure",
    responses={**PROBLEMS, **PNG},
    response_class=Response,
)
def get_figure(
    request: Request, service: ServiceOf, who: Reader, experiment: ExperimentName, figure: FigureName
) -> Response:  # fmt: skip
    """Return a figure of the last result of an experiment, as PNG."""
    found = _result(service, experiment)
    digests = [f.sha256 for f in found.figures if f.file == figure]
    return answer_of(request, service, digests, {"png": lambda: figure_bytes(service.settings.store, found, figure)})


def _result(service: ServiceOf, name: str) -> ExperimentResult:
    try:
        return open_result(service.settings.store, name)
    except NotFound as error:
        hint = "GET /v1/experiments lists them; `trajsvc experiment run` on the server's machine makes a result."
        raise NotFound(error.kind, f"there is no result of an experiment {name!r}", hint=hint) from None
