"""Routes of spectra: their submission, and what is stored of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, Service, ServiceOf, Submitter
from api.formats import Makers, answer, csv_bytes, csv_models, documented, figure_makers, json_bytes
from api.requests import SpectrumSubmission
from api.routes.jobs import SUBMITTED, IdempotencyKey, submitted
from api.routes.results import Format, RunName, Steps
from storage_schema.models.service import JobAnswer, MeasureRow
from storage_schema.models.spectra import (
    Of,
    SpectrumLayersAnswer,
    SpectrumMeasuresAnswer,
    SpectrumRow,
    SpectrumSetAnswer,
    SpectrumValuesAnswer,
)
from trajsvc.figures.of_spectra import PARTS, RANKS, layers_figure, measures_figure, qkv_figure, tensor_figure
from trajsvc.measures.registry import names_in
from trajsvc.measures.spectra.registry import SPECTRUM_MEASURES
from trajsvc.results.run import Run
from trajsvc.results.stored_spectra import LAYER_COLUMNS, StoredSpectra, layer_rows, measure_table, value_table
from trajsvc.sources.transport.cancel import Stop

router = APIRouter(prefix="/v1", tags=["spectra"], route_class=AnswerRoute)

Tensor = Annotated[
    str,
    Query(
        max_length=4096,
        description="A matrix: a tensor's name, NAME[q] for a part, NAME[q.3] for a head",
        examples=["gpt_neox.layers.0.attention.dense.weight"],
    ),
]
OfKind = Annotated[
    Of, Query(description="What is decomposed: weights, displacement from the first checkpoint, updates")
]
Names = Annotated[str | None, Query(max_length=4096, description="Only these measures, with commas between them")]
Heads = Annotated[bool, Query(description="The heads of Q, K and V too")]
QKV = Annotated[bool, Query(description="Only Q, K and V; a figure has a panel for each")]


@router.post(
    "/runs/{run}/spectra", operation_id="submitSpectra", status_code=202, response_model=JobAnswer, responses=SUBMITTED,
)  # fmt: skip
async def submit_spectra(
    request: Request,
    service: ServiceOf,
    who: Submitter,
    run: RunName,
    body: SpectrumSubmission,
    key: IdempotencyKey = None,
) -> Response:
    """Decompose the matrices of a stored run at its checkpoints. The same work asked twice is one job; what it has computed is kept matrix
    by matrix."""

    def work(stop: Stop) -> Response:
        spec = service.processes.spec("spectra", stop, run=run, body=body)
        return submitted(service, who, spec, body.priority, key, f"spectra {run} {body.model_dump_json()}")

    return await service.long_work.submissions.run(request, work)


@router.get(
    "/runs/{run}/spectra", operation_id="listSpectra", responses=documented(list[SpectrumRow], "json", "csv"),
    response_class=Response,
)  # fmt: skip
def list_spectra(request: Request, service: ServiceOf, who: Reader, run: RunName, form: Format = None) -> Response:
    """List what the run has spectra of: weights, displacement, updates; how many matrices, at which steps."""
    opened, found = _open(service, run)
    makers = {"json": lambda: json_bytes(found.rows()), "csv": lambda: csv_models(found.rows(), SpectrumRow)}
    return _answer(request, service, opened, found, makers)


@router.get(
    "/runs/{run}/spectra/measures", operation_id="getSpectrumMeasures",
    responses=documented(SpectrumMeasuresAnswer, "json", "csv", "png", "svg"), response_class=Response,
)  # fmt: skip
def get_spectrum_measures(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    tensor: Tensor,
    of: OfKind = "weights",
    names: Names = None,
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Return measures of one matrix over training; as a figure those named, else its singular values and ranks."""
    opened, found = _open(service, run)

    def measured() -> SpectrumMeasuresAnswer:
        return found.measures(tensor, of, names_in(names), steps)

    def table() -> bytes:
        return csv_bytes(*measure_table(measured()))

    def draw() -> Any:
        if names is not None:
            return measures_figure(measured(), opened.axis)
        ranks = found.measures(tensor, of, RANKS, steps)
        return tensor_figure(found.values(tensor, of, steps), ranks, opened.axis)

    makers = {"json": lambda: json_bytes(measured()), "csv": table, **figure_makers(draw)}
    return _answer(request, service, opened, found, makers)


@router.get(
    "/runs/{run}/spectra/values", operation_id="getSingularValues",
    responses=documented(SpectrumValuesAnswer, "json", "csv"), response_class=Response,
)  # fmt: skip
def get_singular_values(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    tensor: Tensor,
    of: OfKind = "weights",
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Return the singular values of one matrix over training, descending, as many as are kept."""
    opened, found = _open(service, run)

    makers = {
        "json": lambda: json_bytes(found.values(tensor, of, steps)),
        "csv": lambda: csv_bytes(*value_table(found.values(tensor, of, steps))),
    }
    return _answer(request, service, opened, found, makers)


@router.get(
    "/runs/{run}/spectra/layers", operation_id="getSpectrumLayers",
    responses=documented(SpectrumLayersAnswer, "json", "csv", "png", "svg"), response_class=Response,
)  # fmt: skip
def get_spectrum_layers(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    of: OfKind = "weights",
    names: Names = None,
    steps: Steps = None,
    heads: Heads = False,
    qkv: QKV = False,
    form: Format = None,
) -> Response:
    """Return measures of every matrix over training, in the order of the network; as a figure by depth."""
    opened, found = _open(service, run)

    def made() -> SpectrumLayersAnswer:
        table = found.layers(of, names_in(names), steps, heads=heads)
        kept = [row for row in table.matrices if not qkv or row.component in PARTS]
        return table.model_copy(update={"matrices": kept})

    def draw() -> Any:
        return qkv_figure(made(), opened.axis) if qkv else layers_figure(made(), opened.axis, heads=heads)

    makers = {
        "json": lambda: json_bytes(made()),
        "csv": lambda: csv_bytes(LAYER_COLUMNS, layer_rows(made())),
        **figure_makers(draw),
    }
    return _answer(request, service, opened, found, makers)


@router.get(
    "/runs/{run}/spectra/{of}", operation_id="getSpectra", responses=documented(SpectrumSetAnswer, "json"),
    response_class=Response,
)  # fmt: skip
def get_spectra(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    of: Annotated[Of, Path(description="What is decomposed")],
) -> Response:
    """Describe the spectra of one kind, and list the matrices that they are of."""
    opened, found = _open(service, run)
    return _answer(request, service, opened, found, {"json": lambda: json_bytes(found.details(of))})


@router.get(
    "/measures/spectra", operation_id="listSpectrumMeasures", response_model=list[MeasureRow],
    responses=documented(list[MeasureRow]),
)  # fmt: skip
def list_spectrum_measures(who: Reader) -> list[MeasureRow]:
    """List every measure of a spectrum: name, unit, definition, source; each is one number a step."""
    return [
        MeasureRow(name=m.name, dims=["step"], units=m.units, definition=m.definition, source=m.source)
        for m in SPECTRUM_MEASURES.values()
    ]


def _open(service: Service, run: str) -> tuple[Run, StoredSpectra]:
    opened = service.runs.open(run)
    found = opened.spectrum_answers()
    assert isinstance(found, StoredSpectra)
    return opened, found


def _answer(request: Request, service: Service, run: Run, found: StoredSpectra, makers: Makers) -> Response:
    """Answer with a tag of the run and of all of its spectra."""
    return answer(request, service, run, makers, also=found.digests())
