"""Routes that keep the store in order: runs removed into its trash, brought back, renamed, and what is said of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.bodies import StrictRoute
from api.dependencies import Administrator, Reader, Service, ServiceOf
from api.encodings import plain_tags
from api.formats import PROBLEMS, etag
from api.headers import tags
from api.routes.results import RunName
from storage_schema.models.results import Answer, Scalar
from storage_schema.models.service import NAME
from storage_schema.runs import trash
from storage_schema.runs.about import LONGEST_NOTES, MOST
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
    """What is to be changed of a run: its name, or what is said of it. What is not named stays as it is."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    name: Annotated[str, Field(pattern=NAME)] | None = None
    """its new name; nothing else beside it"""
    tags: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MOST)] | None = None
    """instead of those that it has"""
    notes: Annotated[str, Field(max_length=LONGEST_NOTES)] | None = None
    """instead of those that it has; empty for none"""
    hyperparameters: dict[str, Scalar | None] | None = None
    """set by hand, beside the others; null takes one away that was set by hand"""

    @model_validator(mode="after")
    def _something(self) -> RunChange:
        given = self.model_fields_set
        if not any(getattr(self, field) is not None for field in given):
            raise ValueError("name what is to change: name, tags, notes, hyperparameters")
        if self.name is not None and len(given) > 1:
            raise ValueError("a new name is given alone: change the rest in another request")
        return self


class Restoration(BaseModel):
    """How a run is brought back."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str | None, Field(pattern=NAME)] = None
    """another name for it"""


class RunNamed(Answer):
    """The run as it is called now; ``GET /v1/runs/{run}`` has what is said of it."""

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
    """Give a run another name, or change its tags, notes and hyperparameters. Families name their members: change them too."""
    _check(request, service, run, if_match)
    if body.name is not None:
        trash.rename(_store(service), run, body.name)
    else:
        _describe(request, service, run, body, if_match)
    response.headers["location"] = f"/v1/runs/{body.name or run}"
    return RunNamed(run=body.name or run)


def _describe(request: Request, service: Service, run: str, body: RunChange, if_match: str | None) -> None:
    values = body.hyperparameters or {}
    _store(service).describe(
        run,
        add=body.tags or (),
        remove=() if body.tags is None else service.runs.about(run).tags,
        notes=body.notes,
        given={name: value for name, value in values.items() if value is not None},
        unset=[name for name, value in values.items() if value is None],
        before=lambda: _check(request, service, run, if_match),
    )


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
    if etag(request, [opened.stored.digest, *service.runs.said(run)], "json") not in plain_tags(tags(if_match)):
        raise Refused(
            "run-changed",
            f"the run {run} has changed since it was read",
            hint=f"Read /v1/runs/{run} again, then decide.",
        )


def _store(service: Service) -> RunStore:
    return RunStore(service.settings.store)


def _row(one: trash.Trashed) -> TrashedRun:
    return TrashedRun(id=one.id, run=one.run, removed=one.removed, bytes=one.bytes)
