"""Health checks (live, ready) and metrics for Prometheus."""

from __future__ import annotations

import os
import shutil
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from api.dependencies import Reader, Service, ServiceOf
from api.formats import PROBLEMS
from storage_schema.models.service import Health
from trajsvc.jobs.database import Replaced

router = APIRouter(tags=["health"])

BACK: Final = "bring it back, and start the server anew"
LEAST_DISK: Final = 64 * 2**20
registry: Final = CollectorRegistry()
REQUESTS: Final = Counter("trajsvc_requests", "Requests answered", ["route", "method", "status"], registry=registry)
SECONDS: Final = Histogram(
    "trajsvc_request_seconds", "Time until an answer began", ["route"], registry=registry,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)  # fmt: skip
JOBS: Final = Gauge("trajsvc_jobs", "Jobs by state", ["state"], registry=registry)
FREE: Final = Gauge("trajsvc_store_free_bytes", "Free disk of the store", registry=registry)


@router.get("/live", operation_id="live", response_model=Health, responses=PROBLEMS)
async def live() -> Health:
    """Report that the process answers."""
    return Health(status="ok")


@router.get(
    "/ready",
    operation_id="ready",
    response_model=Health,
    responses={503: {"model": Health, "description": "Something that jobs need does not answer"}},
)
def ready(service: ServiceOf) -> Response:
    """Check that the store is there, that the database and the disk answer, and the scheduler if one is configured."""
    checks = {"store": _store(service), "database": _database(service), "disk": _disk(service)}
    if service.settings.scheduler:
        checks["scheduler"] = _scheduler(service.settings.scheduler)
    good = all(v == "ok" for v in checks.values())
    found = Health(status="ok" if good else "failing", checks=checks)
    return JSONResponse(found.model_dump(), 200 if good else 503, {"cache-control": "no-store"})


@router.get("/metrics", operation_id="metrics", response_class=Response, responses=PROBLEMS)
def metrics(request: Request, service: ServiceOf, who: Reader) -> Response:
    """Return counters and gauges in Prometheus' format."""
    for state, count in service.queue.counts().items():
        JOBS.labels(state).set(count)
    FREE.set(shutil.disk_usage(service.runs.store).free)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _database(service: Service) -> str:
    try:
        service.queue.alive()
    except SQLAlchemyError as error:
        if isinstance(getattr(error, "orig", None), Replaced):
            return f"its file was deleted or replaced; {BACK}"
        return f"does not answer ({type(error).__name__})"
    return "ok"


def _store(service: Service) -> str:
    store = service.runs.store
    if store.is_dir():
        return "ok"
    return (
        f"a file stands in the place of its folder; {BACK}" if os.path.lexists(store) else f"its folder is gone; {BACK}"
    )


def _disk(service: Service) -> str:
    try:
        free = shutil.disk_usage(service.runs.store).free
    except OSError as error:
        return f"cannot be asked: {error.strerror}; look at it"
    return "ok" if free > LEAST_DISK else f"{free >> 20} MiB free; free some space"


def _scheduler(address: str) -> str:
    import socket
    from urllib.parse import urlsplit

    place = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        with socket.create_connection((place.hostname or "", place.port or 8786), timeout=2):
            return "ok"
    except OSError as error:
        return f"does not answer ({error.strerror or type(error).__name__})"
