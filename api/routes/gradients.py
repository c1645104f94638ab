"""Routes of gradients: their submission, and what is stored of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, Service, ServiceOf, Submitter
from api.formats import (
    Makers,
    answer,
    csv_bytes,
    csv_models,
    documented,
    figure_makers,
    json_bytes,
    npy_bytes,
    npz_bytes,
)
from api.requests import GradientSubmission
from api.routes.jobs import SUBMITTED, IdempotencyKey, submitted
from api.routes.results import Format, Group, RunName, Steps
from storage_schema.models.gradients import (
    GradientClustersAnswer,
    GradientLayersAnswer,
    GradientMapAnswer,
    GradientMeasuresAnswer,
    GradientSetAnswer,
    GradientSetRow,
)
from storage_schema.models.service import NAME, GradientMeasureRow, JobAnswer, RegisteredAnswer
from trajsvc.anatomy.groups import find_group
from trajsvc.figures import of_gradients as figures
from trajsvc.measures.gradients.clustering import CLUSTERS
from trajsvc.measures.gradients.registry import GRADIENT_MEASURES
from trajsvc.measures.registry import names_in
from trajsvc.results import gradient_answers as answers
from trajsvc.results.gradients import RunGradients
from trajsvc.results.remote_gradients import arrays_of_group
from trajsvc.results.run import Run
from trajsvc.sources.transport.cancel import Stop

Row = TypeVar("Row", bound=GradientSetRow)

router = APIRouter(prefix="/v1", tags=["gradients"], route_class=AnswerRoute)

SetName = Annotated[
    str,
    Path(
        alias="set",
        pattern=NAME,
        description="The set's name: its kind unless it was given another",
        examples=["example"],
    ),
]
Step = Annotated[int | None, Query(ge=-(2**62), le=2**62, description="Step of the checkpoint")]
Names = Annotated[str | None, Query(max_length=4096, description="Only these measures, with commas between them")]
Batch = Annotated[int | None, Query(ge=1, le=2**31, description="Size of a batch of the estimators' variance")]
Clusters = Annotated[int | None, Query(ge=1, le=4096, description="Clusters of Gradient Clustering")]
Seed = Annotated[int | None, Query(ge=0, le=2**62, description="Seed of clustering and of random orders")]


@router.post(
    "/runs/{run}/gradients", operation_id="submitGradients", status_code=202, response_model=JobAnswer,
    responses=SUBMITTED,
)  # fmt: skip
async def submit_gradients(
    request: Request,
    service: ServiceOf,
    who: Submitter,
    run: RunName,
    body: GradientSubmission,
    key: IdempotencyKey = None,
) -> Response:
    """Compute sets of gradients of a stored run at its checkpoints, with a probe and data that the server's operator registered by name.
    The same work asked twice is one job; what it has computed is kept checkpoint by checkpoint."""

    def work(stop: Stop) -> Response:
        digests = service.registered.known()
        spec = service.processes.spec("gradients", stop, run=run, body=body, digests=digests)
        service.registered.learn(digests, spec.gradients, spec.uses)
        return submitted(service, who, spec, body.priority, key, f"gradients {run} {body.model_dump_json()}")

    return await service.long_work.submissions.run(request, work)


@router.get(
    "/runs/{run}/gradients", operation_id="listGradients", responses=documented(list[GradientSetRow], "json", "csv"),
    response_class=Response,
)  # fmt: skip
def list_gradients(request: Request, service: ServiceOf, who: Reader, run: RunName, form: Format = None) -> Response:
    """List the run's sets of gradients: kind, vectors, the steps at which they were computed, and what they depend on."""
    opened = service.runs.open(run)

    def rows() -> list[GradientSetRow]:
        return [_shown(service, row) for row in answers.sets(opened)]

    return _answer(
        request,
        service,
        opened,
        {"json": lambda: json_bytes(rows()), "csv": lambda: csv_models(rows(), GradientSetRow)},
    )


@router.get(
    "/runs/{run}/gradients/{set}", operation_id="getGradients", responses=documented(GradientSetAnswer, "json"),
    response_class=Response,
)  # fmt: skip
def get_gradients(request: Request, service: ServiceOf, who: Reader, run: RunName, name: SetName) -> Response:
    """Describe one set: what it is made of, and which measures it can answer."""
    opened, found = _open(service, run, name)
    return _answer(request, service, opened, {"json": lambda: json_bytes(_shown(service, answers.set_details(found)))})


@router.get(
    "/runs/{run}/gradients/{set}/measures", operation_id="getGradientMeasures",
    responses=documented(GradientMeasuresAnswer, "json", "csv", "png", "svg"), response_class=Response,
)  # fmt: skip
def get_gradient_measures(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    name: SetName,
    group: Group = "network",
    names: Names = None,
    steps: Steps = None,
    batch: Batch = None,
    clusters: Clusters = None,
    seed: Seed = None,
    form: Format = None,
) -> Response:
    """Return measures of a group of the network over training, one value a step; by default all that are one number a step."""
    opened, found = _open(service, run, name)

    def measured() -> GradientMeasuresAnswer:
        return answers.measures(found, group, names_in(names), steps, batch=batch, clusters=clusters, seed=seed)

    def table() -> bytes:
        return csv_bytes(answers.LONG, answers.long_rows(measured()))

    makers = {
        "json": lambda: json_bytes(measured()),
        "csv": table,
        **figure_makers(lambda: figures.measures_of(measured(), opened.axis, names_in(names))),
    }
    return _answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/gradients/{set}/layers", operation_id="getGradientLayers",
    responses=documented(GradientLayersAnswer, "json", "csv", "png", "svg"), response_class=Response,
)  # fmt: skip
def get_gradient_layers(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    name: SetName,
    names: Names = None,
    steps: Steps = None,
    batch: Batch = None,
    clusters: Clusters = None,
    seed: Seed = None,
    form: Format = None,
) -> Response:
    """Return measures of every layer over training: one row a layer, one column a step."""
    opened, found = _open(service, run, name)

    def table() -> GradientLayersAnswer:
        return answers.layers(found, names_in(names), steps, batch=batch, clusters=clusters, seed=seed)

    makers = {
        "json": lambda: json_bytes(table()),
        "csv": lambda: csv_bytes(*answers.layer_rows(table())),
        **figure_makers(lambda: figures.layers_of(table(), opened.axis)),
    }
    return _answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/gradients/{set}/map", operation_id="getGradientMap",
    responses=documented(GradientMapAnswer, "json", "csv", "npy", "npz", "png", "svg"), response_class=Response,
)  # fmt: skip
def get_gradient_map(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    name: SetName,
    step: Step = None,
    group: Group = "network",
    clusters: Clusters = None,
    seed: Seed = None,
    form: Format = None,
) -> Response:
    """Return the cosines between the set's vectors at one checkpoint, by default the first, and their norms; with ``clusters`` in the
    order of their clusters."""
    opened, found = _open(service, run, name)

    def made() -> GradientMapAnswer:
        return answers.gradient_map(found, step, group, clusters=clusters, seed=seed or 0)

    def table() -> bytes:
        cosines = made()
        labels = cosines.labels or [str(i) for i in range(cosines.n)]
        rows = zip(labels, cosines.norms, cosines.map, strict=True)
        return csv_bytes(["vector", "norm", *labels], ([label, norm, *row] for label, norm, row in rows))

    def arrays() -> bytes:
        cosines = made()
        return npz_bytes(map=np.array(cosines.map, dtype=np.float64), norms=np.array(cosines.norms, dtype=np.float64))

    makers = {
        "json": lambda: json_bytes(made()),
        "csv": table,
        "npy": lambda: npy_bytes(made().map),
        "npz": arrays,
        **figure_makers(lambda: figures.map_of(made(), opened.axis)),
    }
    return _answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/gradients/{set}/clusters", operation_id="getGradientClusters",
    responses=documented(GradientClustersAnswer, "json", "png", "svg"), response_class=Response,
)  # fmt: skip
def get_gradient_clusters(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    name: SetName,
    step: Step = None,
    group: Group = "network",
    clusters: Clusters = None,
    seed: Seed = None,
    form: Format = None,
) -> Response:
    """Return clusters of the set's vectors at one checkpoint, by default the first, and what they are worth there and at later ones."""
    opened, found = _open(service, run, name)

    def made() -> GradientClustersAnswer:
        count = min(CLUSTERS, found.n) if clusters is None else clusters
        return answers.clusters(found, count, step, group, seed=seed or 0)

    def draw() -> Any:
        best = made()
        ordered = answers.gradient_map(found, best.step, group, clusters=best.clusters, seed=seed or 0)
        return figures.clusters_of(best, ordered, opened.axis)

    return _answer(request, service, opened, {"json": lambda: json_bytes(made()), **figure_makers(draw)})


@router.get(
    "/runs/{run}/gradients/{set}/gram", operation_id="getGradientGram", responses=documented(None, "npz"),
    response_class=Response,
)  # fmt: skip
def get_gradient_gram(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    name: SetName,
    step: Step = None,
    group: Group = "network",
    form: Literal["npz"] | None = Query(default=None, alias="f", description="Format, instead of Accept"),
) -> Response:
    """Return a group's Gram at one checkpoint, by default the first, and the sums beside it: what its measures are computed from."""
    opened, found = _open(service, run, name)

    def arrays() -> dict[str, Any]:
        blocks = find_group(found.groups(), group).blocks
        return arrays_of_group(found.stored.group(found.selection(None if step is None else [step])[0], group, blocks))

    return _answer(request, service, opened, {"npz": lambda: npz_bytes(**arrays())})


@router.get(
    "/probes", operation_id="listProbes", response_model=RegisteredAnswer, responses=documented(RegisteredAnswer),
)  # fmt: skip
def list_probes(who: Submitter, service: ServiceOf) -> RegisteredAnswer:
    """List the names of the probes and of the data that the server's operator registered for gradients."""
    known = service.registered
    return RegisteredAnswer(probes=sorted(known.probes), data=sorted(known.data))


@router.get(
    "/measures/gradients", operation_id="listGradientMeasures", response_model=list[GradientMeasureRow],
    responses=documented(list[GradientMeasureRow]),
)  # fmt: skip
def list_gradient_measures(who: Reader) -> list[GradientMeasureRow]:
    """List every measure of gradients: name, sets that it is of, axes beside the step, unit, definition, source."""
    fields = list(GradientMeasureRow.model_fields)
    return [
        GradientMeasureRow.model_validate({name: getattr(m, name) for name in fields})
        for m in GRADIENT_MEASURES.values()
    ]


def _open(service: Service, run: str, name: str) -> tuple[Run, RunGradients]:
    opened = service.runs.open(run)
    return opened, opened.gradients(name)


def _answer(request: Request, service: Service, run: Run, makers: Makers) -> Response:
    """Answer with a tag of the run and of all of its sets: some measures look at another one."""
    digests = [run.gradients(name).stored.digest for name in run.gradient_sets()]
    return answer(request, service, run, makers, also=digests)


def _shown(service: Service, row: Row) -> Row:
    """Leave out paths of this machine, which an operator's tokenizer has."""
    return row.model_copy(update={"options": service.places.plain(row.options)})
