"""Routes of families of runs: their descriptions and the comparison of their members."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from api.answer_route import AnswerRoute
from api.dependencies import Reader, Service, ServiceOf, Submitter
from api.formats import PROBLEMS, answer_of, csv_models, documented, figure_makers, json_bytes
from api.routes.results import Format, Origin
from storage_schema.models.families import FamilyAnswer, FamilyRow, StoredFamilyRow
from storage_schema.models.service import NAME
from storage_schema.runs.store import RunStore
from storage_schema.runs.trash import removed_runs
from trajsvc.errors import NotFound, UsageError
from trajsvc.families.compare import compare_family
from trajsvc.families.file import Family, family_names, open_family, save_family
from trajsvc.figures import of_family
from trajsvc.results.run import Run

router = APIRouter(prefix="/v1", tags=["families"], route_class=AnswerRoute)

FamilyName = Annotated[str, Path(pattern=NAME, description="The family's name", examples=["pythia"])]


@router.get("/families", operation_id="listFamilies", response_model=list[StoredFamilyRow], responses=PROBLEMS)
def list_families(service: ServiceOf, who: Reader) -> list[StoredFamilyRow]:
    """List the families that the store knows, and which of their runs are stored."""
    present = set(service.runs.names())
    removed, rows = removed_runs(RunStore(service.settings.store)), []
    for name in family_names(service.settings.store):
        family = _family(service, name)
        missing = [m.name for m in family.runs if m.name not in present]
        rows.append(
            StoredFamilyRow(
                family=name,
                title=family.title,
                members=len(family.runs),
                present=len(family.runs) - len(missing),
                missing=missing,
                removed={member: removed[member] for member in missing if member in removed},
                tags=family.tags,
            )
        )
    return rows


@router.get(
    "/families/{family}",
    operation_id="getFamily",
    response_model=Family,
    response_model_exclude_unset=True,
    responses=PROBLEMS,
)
def get_family(service: ServiceOf, who: Reader, family: FamilyName) -> Family:
    """Return a family: its members with source, size, seed and hyperparameters."""
    return _family(service, family)


@router.put(
    "/families/{family}",
    operation_id="putFamily",
    response_model=Family,
    response_model_exclude_unset=True,
    responses=PROBLEMS,
)
def put_family(service: ServiceOf, who: Submitter, family: FamilyName, body: Family) -> Family:
    """Store a family, replacing one of the same name. Its runs are submitted separately."""
    if body.name != family:
        raise UsageError("family-name", "the address and the body name different families", hint="Use one name.")
    save_family(service.settings.store, body)
    return body


@router.get(
    "/families/{family}/compare",
    operation_id="compareFamily",
    responses=documented(FamilyAnswer, "json", "csv", "png", "svg"),
    response_class=Response,
)
def compare_members(
    request: Request,
    service: ServiceOf,
    who: Reader,
    family: FamilyName,
    by: Annotated[
        str, Query(max_length=200, description="size, seed or a hyperparameter: the axis of the figure")
    ] = "size",
    show: Annotated[Literal["measures", "maps", "qkv"], Query(description="Which figure (png, svg)")] = "measures",
    origin: Origin = None,
    form: Format = None,
) -> Response:
    """Compare the members of a family: MDS, relative MDS, heterogeneity of Q, K and V, settling over depth."""
    found = _family(service, family)
    runs = _runs(service, found)
    removed = removed_runs(RunStore(service.settings.store))

    def rows() -> Any:
        return compare_family(found, runs, removed, origin)

    def draw() -> Any:
        if show == "maps":
            return of_family.maps_of(compare_family(found, runs, removed), runs, "network", origin, None)
        return of_family.qkv_of(rows()) if show == "qkv" else of_family.measures_of(rows(), by)

    makers = {
        "json": lambda: json_bytes(rows()),
        "csv": lambda: csv_models(rows().rows, FamilyRow),
        **figure_makers(draw),
    }
    words = [hashlib.sha256(found.model_dump_json().encode()).hexdigest(), *(r.stored.digest for r in runs.values())]
    words += [one for name, one in sorted(removed.items()) if name not in runs]
    words += [service.runs.about(name).as_json().decode() for name in runs]
    return answer_of(request, service, words, makers)


def _runs(service: Service, family: Family) -> dict[str, Run]:
    found = {}
    for member in family.runs:
        try:
            found[member.name] = service.runs.open(member.name)
        except NotFound:
            continue
    return found


def _family(service: Service, name: str) -> Family:
    try:
        return open_family(service.settings.store, name)
    except NotFound:
        raise NotFound("family-not-found", f"no family {name!r}", hint="GET /v1/families lists them.") from None
