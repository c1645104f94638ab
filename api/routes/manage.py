"""Routes that keep the store in order: runs removed into its trash, brought back, and renamed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.bodies import StrictRoute
from api.dependencies import Administrator, Reader, Service, ServiceOf
from api.formats import PROBLEMS, etag
from api.headers import tags
from api.routes.results import RunName
from storage_schema.models.results import Answer
from storage_schema.models.service import NAME
from storage_schema.runs import trash
from storage_schema.runs.store import RunStore
from trajsvc.errors import Refused

router = APIRouter(prefix="/v1", tags=["runs"], route_class=StrictRoute)

Match = Annotated[
    str | None, Header(alias="if-match", description="The ETag of the run: refused (412) when it has changed since")
]
TrashId = Annotated[
    str, Path(max_length=200, pattern=r"^[^/\\]+@\d{8}T\d{6}Z(-\d+)?$", description="An id of the trash")
]


class TrashedRun(Answer):
    """A run in the trash."""

    id: str
    run: str
    removed: str
    """when, in UTC"""
    bytes: int


class RunChange(BaseModel):
    """What is to be changed of a run."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern=NAME)]
    """its new name"""


class Restoration(BaseModel):
    """How a run is brought back."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str | None, Field(pattern=NAME)] = None
    """another name for it"""


class RunNamed(Answer):
    """The run as it is called now."""

    run: str


@router.delete("/runs/{run}", operation_id="removeRun", response_model=TrashedRun, responses=PROBLEMS)
def remove_run(
    request: Request, service: ServiceOf, who: Administrator, run: RunName, if_match: Match = None
) -> TrashedRun:
    """Move a run into the store's trash, from which it can be brought back."""
    _check(request, service, run, if_match)
    return _row(trash.discard(_store(service), run))


@router.patch("/runs/{run}", operation_id="changeRun", response_model=RunNamed, responses=PROBLEMS)
def change_run(
    request: Request,
    service: ServiceOf,
    who: Administrator,
    run: RunName,
    body: RunChange,
    response: Response,
    if_match: Match = None,
) -> RunNamed:
    """Give a run another name. Families name their members: change them too."""
    _check(request, service, run, if_match)
    trash.rename(_store(service), run, body.name)
    response.headers["location"] = f"/v1/runs/{body.name}"
    return RunNamed(run=body.name)


@router.get("/trash", operation_id="listTrash", response_model=list[TrashedRun], responses=PROBLEMS)
def list_trash(service: ServiceOf, who: Reader, response: Response) -> list[TrashedRun]:
    """List the removed runs. They are deleted for good by the operator: `trajsvc trash empty`."""
    response.headers["cache-control"] = "no-store"
    return [_row(one) for one in trash.trashed(_store(service))]


@router.post("/trash/{removed}/restore", operation_id="restoreRun", response_model=RunNamed, responses=PROBLEMS)
def restore_run(
    service: ServiceOf, who: Administrator, removed: TrashId, response: Response, body: Restoration | None = None
) -> RunNamed:
    """Bring a removed run back, by its own or another name."""
    name = trash.restore(_store(service), removed, body.name if body else None)
    response.headers["location"] = f"/v1/runs/{name}"
    return RunNamed(run=name)


def _check(request: Request, service: Service, run: str, if_match: str | None) -> None:
    """Raise NotFound for a run that is not there, and Refused (``run-changed``) if it is not the one that was meant."""
    opened = service.runs.open(run)
    if if_match is None or if_match.strip() == "*":
        return
    if etag(request, [opened.stored.digest, *service.runs.tags(run)], "json") not in tags(if_match):
        raise Refused(
            "run-changed",
            f"the run {run} has changed since it was read",
            hint=f"Read /v1/runs/{run} again, then decide.",
        )


def _store(service: Service) -> RunStore:
    return RunStore(service.settings.store)


def _row(one: trash.Trashed) -> TrashedRun:
    return TrashedRun(id=one.id, run=one.run, removed=one.removed, bytes=one.bytes)
