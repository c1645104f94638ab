"""Routes of a run's results: checkpoints, groups, maps, measures, layers, Q/K/V, phases, and the Gram that all are computed from."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, Service, ServiceOf
from api.formats import (
    answer,
    csv_bytes,
    csv_models,
    documented,
    figure_makers,
    json_bytes,
    npy_bytes,
    npz_bytes,
)
from storage_schema.models.results import (
    CheckpointRow,
    CompareAnswer,
    CompareRow,
    GroupRow,
    LayerRow,
    MapAnswer,
    MapRange,
    MapsAnswer,
    MeasuresAnswer,
    PhaseRow,
    QkvAnswer,
    QkvRow,
    RunRow,
    Summary,
)
from storage_schema.models.service import NAME, BlockRow, GramAnswer, MeasureRow, RunAnswer
from trajsvc.figures import of_run
from trajsvc.measures.registry import MEASURES, names_in
from trajsvc.results import answers, tables
from trajsvc.results.labels import plain
from trajsvc.results.many_maps import many_maps
from trajsvc.results.map_range import MapKind, MapsOf, map_range
from trajsvc.results.run import Run

router = APIRouter(prefix="/v1", tags=["results"], route_class=AnswerRoute)

MOST_RUNS = 16
RunName = Annotated[str, Path(pattern=NAME, description="The run's name", examples=["pythia-70m"])]
Group = Annotated[str, Query(max_length=1024, description="A group's id", examples=["network", "layer/3/attention.q"])]
Origin = Annotated[int | None, Query(ge=-(2**62), le=2**62, description="Step that the map is relative to")]
Steps = Annotated[
    str | None, Query(max_length=10_000, description="Checkpoints: 0,1,2 · 1000..5000 · every:4 · last:5")
]
Of = Annotated[MapsOf, Query(description="Whose maps: layers, parts of layers, or Q, K and V")]
Kind = Annotated[MapKind, Query(description="Trajectory map, relative one, cosines of updates, random walk")]
Format = Annotated[str | None, Query(alias="f", max_length=8, description="Format, instead of Accept")]
ByLayer = Annotated[bool, Query(description="A map for every layer, on one scale (png, svg)")]


@router.get("/runs/{run}", operation_id="getRun", responses=documented(RunAnswer, "json"), response_class=Response)
def get_run(request: Request, service: ServiceOf, who: Reader, run: RunName) -> Response:
    """Return a run: what it is, what was noted of it, and the addresses of its parts."""
    opened = service.runs.open(run)

    def make() -> bytes:
        parts = (
            "summary",
            "checkpoints",
            "groups",
            "map",
            "measures",
            "losses",
            "layers",
            "qkv",
            "phases",
            "gram",
            "blocks",
            "zarr/",
        )
        found = RunAnswer(
            run=run,
            row=row_of(service, opened),
            digest=opened.stored.digest,
            generation=opened.stored.generation,
            attributes=service.places.plain(plain(dict(opened.attributes))),
            hyperparameters=service.runs.hyperparameters(opened),
            links={part.rstrip("/"): f"/v1/runs/{run}/{part}" for part in parts},
        )
        return json_bytes(found)

    return answer(request, service, opened, {"json": make}, also=service.runs.said(run))


@router.get(
    "/runs/{run}/summary", operation_id="getSummary", responses=documented(Summary, "json"), response_class=Response
)
def get_summary(request: Request, service: ServiceOf, who: Reader, run: RunName) -> Response:
    """Summarise a run: measures of the network, phases, layers, Q/K/V, integrity."""
    opened = service.runs.open(run)
    return answer(
        request, service, opened, {"json": lambda: json_bytes(_summary(service, opened))}, also=service.runs.said(run)
    )


@router.get(
    "/runs/{run}/checkpoints",
    operation_id="getCheckpoints",
    responses=documented(list[CheckpointRow], "json", "csv"),
    response_class=Response,
)
def get_checkpoints(request: Request, service: ServiceOf, who: Reader, run: RunName, form: Format = None) -> Response:
    """List the checkpoints of a run in order: step, label, type, fingerprint, commit, tokens."""
    opened = service.runs.open(run)
    makers = {
        "json": lambda: json_bytes(_checkpoints(service, opened)),
        "csv": lambda: csv_models(_checkpoints(service, opened), CheckpointRow),
    }
    return answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/groups",
    operation_id="getGroups",
    responses=documented(list[GroupRow], "json", "csv"),
    response_class=Response,
)
def get_groups(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    match: Annotated[str | None, Query(max_length=1024, description="A glob of ids")] = None,
    form: Format = None,
) -> Response:
    """List what can be measured: the network, layers, components, tensors."""
    opened = service.runs.open(run)
    makers = {
        "json": lambda: json_bytes(answers.groups(opened, match)),
        "csv": lambda: csv_models(answers.groups(opened, match), GroupRow),
    }
    return answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/map",
    operation_id="getMap",
    responses=documented(MapAnswer, "json", "csv", "npy", "png", "svg"),
    response_class=Response,
)
def get_map(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    group: Group = "network",
    origin: Origin = None,
    steps: Steps = None,
    by_layer: ByLayer = False,
    null: Annotated[
        bool, Query(description="As a picture: beside it the map of a random walk with the same update norms")
    ] = False,
    form: Format = None,
) -> Response:
    """Return the trajectory map of a group: cosines between its checkpoints, or relative to an origin."""
    opened = service.runs.open(run)

    def draw() -> Any:
        if by_layer:
            return of_run.layers_of(opened, origin, steps)
        return of_run.map_of(opened, group, origin, steps, null=null)

    def table() -> bytes:
        found = answers.trajectory_map(opened, group, origin, steps)
        rows = ([step, *row] for step, row in zip(found.steps, found.map, strict=True))
        return csv_bytes([found.axis, *map(str, found.steps)], rows)

    makers = {
        "json": lambda: json_bytes(answers.trajectory_map(opened, group, origin, steps)),
        "csv": table,
        "npy": lambda: npy_bytes(answers.trajectory_map(opened, group, origin, steps).map),
        **figure_makers(draw),
    }
    return answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/map/range",
    operation_id="getMapRange",
    responses=documented(MapRange, "json"),
    response_class=Response,
)
def get_map_range(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    of: Of = "layers",
    kind: Kind = "tm",
    origin: Origin = None,
    steps: Steps = None,
) -> Response:
    """Return the least and the greatest entry of the maps of all layers or their parts, for one colour scale for all of
    them.
    """
    opened = service.runs.open(run)
    return answer(request, service, opened, {"json": lambda: json_bytes(map_range(opened, of, kind, origin, steps))})


@router.get(
    "/runs/{run}/maps",
    operation_id="getMaps",
    responses=documented(MapsAnswer, "json", "npz"),
    response_class=Response,
)
def get_maps(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    of: Of = "layers",
    kind: Kind = "tm",
    origin: Origin = None,
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Return the maps of all layers or their parts at once, as upper triangles in float32."""
    opened = service.runs.open(run)

    def as_json() -> bytes:
        found = many_maps(opened, of, kind, origin, steps)
        return json_bytes(
            MapsAnswer(run=run, groups=found.groups, steps=found.steps.tolist(), maps=plain(found.triangles))
        )

    def as_npz() -> bytes:
        found = many_maps(opened, of, kind, origin, steps)
        return npz_bytes(groups=np.array(found.groups, dtype=np.str_), steps=found.steps, maps=found.triangles)

    return answer(request, service, opened, {"json": as_json, "npz": as_npz})


@router.get(
    "/runs/{run}/measures",
    operation_id="getMeasures",
    responses=documented(MeasuresAnswer, "json", "csv", "png", "svg"),
    response_class=Response,
)
def get_measures(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    group: Group = "network",
    names: Annotated[str | None, Query(max_length=4096, description="Only these, with commas between them")] = None,
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Return measures of a group: scalars, and curves against the step. Maps must be asked for by name."""
    opened = service.runs.open(run)
    chosen = names_in(names)

    def table() -> bytes:
        rows = tables.long_rows(tables.measures(opened, group, chosen, steps))
        return csv_bytes(tables.LONG, rows)

    makers = {
        "json": lambda: json_bytes(tables.measures(opened, group, chosen, steps)),
        "csv": table,
        **figure_makers(lambda: of_run.curves_of(opened, group, steps, chosen)),
    }
    return answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/layers",
    operation_id="getLayers",
    responses=documented(list[LayerRow], "json", "csv", "png", "svg"),
    response_class=Response,
)
def get_layers(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    steps: Steps = None,
    origin: Origin = None,
    form: Format = None,
) -> Response:
    """Return the table of layers, one row a layer in order of depth; as a picture, a map for every layer."""
    opened = service.runs.open(run)
    makers = {
        "json": lambda: json_bytes(tables.layers(opened, steps)),
        "csv": lambda: csv_models(tables.layers(opened, steps), LayerRow),
        **figure_makers(lambda: of_run.layers_of(opened, origin, steps)),
    }
    return answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/qkv",
    operation_id="getQkv",
    responses=documented(QkvAnswer, "json", "csv", "png", "svg"),
    response_class=Response,
)
def get_qkv(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    origin: Origin = None,
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Compare how Q, K and V move, layer by layer, by two distances between their maps."""
    opened = service.runs.open(run)

    def found() -> QkvAnswer:
        return tables.qkv(opened, steps, origin)

    makers = {
        "json": lambda: json_bytes(found()),
        "csv": lambda: csv_models(found().layers, QkvRow),
        **figure_makers(lambda: of_run.qkv_of(opened, found(), steps)),
    }
    return answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/phases",
    operation_id="getPhases",
    responses=documented(list[PhaseRow], "json"),
    response_class=Response,
)
def get_phases(
    request: Request, service: ServiceOf, who: Reader, run: RunName, group: Group = "network", steps: Steps = None
) -> Response:
    """Return the stretches of the trajectory between change points, each with its evidence."""
    opened = service.runs.open(run)
    return answer(request, service, opened, {"json": lambda: json_bytes(answers.phases(opened, group, steps))})


@router.get(
    "/runs/{run}/blocks",
    operation_id="getBlocks",
    responses=documented(list[BlockRow], "json", "csv"),
    response_class=Response,
)
def get_blocks(request: Request, service: ServiceOf, who: Reader, run: RunName, form: Format = None) -> Response:
    """List the blocks that make up the groups."""
    opened = service.runs.open(run)

    def rows() -> list[BlockRow]:
        table = opened.stored.blocks
        columns = {name: getattr(table, name) for name in BlockRow.model_fields}
        return [BlockRow.model_validate({k: v[i] for k, v in columns.items()}) for i in range(len(table.size))]

    makers = {"json": lambda: json_bytes(rows()), "csv": lambda: csv_models(rows(), BlockRow)}
    return answer(request, service, opened, makers)


@router.get(
    "/runs/{run}/gram",
    operation_id="getGram",
    responses=documented(GramAnswer, "json", "npz"),
    response_class=Response,
)
def get_gram(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: RunName,
    group: Group = "network",
    rows: Annotated[bool, Query(description="The numbers of the rows of the group's matrices too")] = False,
    form: Format = None,
) -> Response:
    """Return the group's Gram in the update basis at all stored checkpoints, from which maps, at any origin, and
    measures are computed.
    """
    opened = service.runs.open(run)

    def facts() -> dict[str, Any]:
        gram = opened.gram(group, "all")
        usable = np.zeros(len(gram.steps), dtype=bool)
        usable[opened.selection()] = True
        left_out = opened.left_out(group)
        found = {
            "steps": gram.steps,
            "gram": gram.gram,
            "rounding": gram.rounding,
            "usable": usable,
            "error": gram.error,
            "same": gram.same,
        }
        if gram.changes is not None:
            found["changes"] = gram.changes
        numbers = gram.rows.columns() if rows and gram.rows is not None else None
        if numbers is not None:
            found["rows"] = numbers
        if gram.trees:
            found["tree_start"] = np.stack([tree.starts for tree in gram.trees])
            found["tree_gram"] = np.stack([tree.gram for tree in gram.trees])
            found["scale"] = gram.scale
        return found if left_out is None else {**found, "left_out": left_out}

    def as_json() -> bytes:
        parameters = opened.gram(group, "all").parameters
        return json_bytes(GramAnswer(run=run, group=group, parameters=parameters, **plain(facts())))

    makers = {
        "json": as_json,
        "npz": lambda: npz_bytes(parameters=opened.gram(group, "all").parameters, **facts()),
    }
    return answer(request, service, opened, makers)


@router.get(
    "/compare",
    operation_id="compareRuns",
    responses=documented(CompareAnswer, "json", "csv", "png", "svg"),
    response_class=Response,
)
def compare_runs(
    request: Request,
    service: ServiceOf,
    who: Reader,
    run: Annotated[list[str], Query(min_length=1, max_length=MOST_RUNS, description="Names of runs, one each")],
    group: Group = "network",
    by_layer: Annotated[bool, Query(description="A row for every layer of every run")] = False,
    curves: Annotated[
        str | None, Query(max_length=4096, description="As a picture: these measures over training, a line a run")
    ] = None,
    steps: Steps = None,
    form: Format = None,
) -> Response:
    """Compare runs."""
    opened = [service.runs.open(name) for name in run]
    names = names_in(curves) or []
    layers = list(dict.fromkeys(layer for one in opened for layer in one.layer_ids()))

    def found() -> CompareAnswer:
        return answers.compare(opened, layers if by_layer else [group], steps)

    makers = {
        "json": lambda: json_bytes(found()),
        "csv": lambda: csv_models(found().rows, CompareRow),
        **figure_makers(lambda: of_run.overlaid(opened, group, names, steps) if names else of_run.comparison(found())),
    }
    return answer(request, service, opened[0], makers, also=[one.stored.digest for one in opened[1:]])


@router.get(
    "/measures", operation_id="listMeasures", response_model=list[MeasureRow], responses=documented(list[MeasureRow])
)
def list_measures(who: Reader) -> list[MeasureRow]:
    """List every measure: name, axes, unit, definition, source."""
    return [
        MeasureRow(name=m.name, dims=list(m.dims), units=m.units, definition=m.definition, source=m.source)
        for m in MEASURES.values()
    ]


def row_of(service: Service, run: Run) -> RunRow:
    """Return the row of a run without the path of a source on this machine, which a run stored by the command line has."""
    row = answers.run_row(run)
    shown = service.places.shown(row.source)
    about = service.runs.about(run.name)
    values = {one.name: one.value for one in service.runs.hyperparameters(run)}
    said = {"tags": list(about.tags), "notes": about.notes, "hyperparameters": values}
    return row.model_copy(update={"source": shown, **said})


def _checkpoints(service: Service, run: Run) -> list[CheckpointRow]:
    rows = answers.checkpoints(run)
    return [r.model_copy(update={"files": tuple(service.places.shown(f) for f in r.files)}) for r in rows]


def _summary(service: Service, run: Run) -> Summary:
    found = Summary.model_validate(service.places.plain(answers.summary(run).model_dump()))
    about = service.runs.about(run.name)
    said = {"tags": list(about.tags), "notes": about.notes, "hyperparameters": service.runs.hyperparameters(run)}
    return found.model_copy(update=said)
