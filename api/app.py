"""Assemble the HTTP application: routes, middleware, errors, metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from api.dependencies import Service
from api.middleware import RequestMiddleware
from api.open_runs import RunCache
from api.routes import (
    against,
    cross,
    experiments,
    export,
    families,
    gradients,
    health,
    jobs,
    losses,
    manage,
    page,
    results,
    rows,
    run_list,
    spectra,
    zarr,
)
from api.work_processes import WorkProcesses
from storage_schema.runs.store import RunStore
from trajsvc.errors import UsageError
from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.database import connect
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.tokens import SCOPES, TokenStore
from trajsvc.settings import ServiceSettings
from trajsvc.version import __version__

DESCRIPTION: Final = """What checkpoints say about how a network learned.

Submit a repository of checkpoints (`POST /v1/runs`), follow its job (`/v1/jobs/{job}/events`), ask for maps and measures of any group of
its parameters. Undefined numbers are null. Every error is `application/problem+json` with a stable `type`. Results carry strong
ETags; formats are chosen by Accept or `?f=`."""
TAGS: Final = [
    {"name": "results", "description": "What is known of a run; computed from its stored Grams when asked for."},
    {"name": "runs", "description": "Runs removed into the trash, brought back, renamed."},
    {"name": "jobs", "description": "Work: submit, follow, cancel."},
    {
        "name": "gradients",
        "description": "Sets of gradients of a run at its checkpoints, and what is measured on them.",
    },
    {
        "name": "spectra",
        "description": "Singular values of a run's matrices at its checkpoints, and what is measured on them.",
    },
    {"name": "experiments", "description": "The papers' experiments: claims, and results that the store has."},
    {"name": "families", "description": "Related runs, compared by size, seed or hyperparameter."},
    {"name": "zarr", "description": "The stored arrays themselves, read-only."},
    {"name": "health", "description": "Whether the server lives and can work."},
]


METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
DESCRIBED: Final = (
    run_list, results, rows, losses, export, manage, jobs, gradients, spectra, cross, against, families, experiments, zarr,
    health,
)  # fmt: skip
"""The files of routes that ``openapi.json`` describes, in the order in which a request is compared with them."""


def make_service(settings: ServiceSettings, *, auth: bool, processes: WorkProcesses | None = None) -> Service:
    """Make the parts of a server whose results ``processes`` compute, or it itself.

    Raises UsageError, NotFound, Refused, TryAgain if the settings are invalid.
    """
    RunStore(settings.store).make()
    engine = connect(settings.database_url)
    tokens = TokenStore(engine)
    if settings.token:
        if len(settings.token) < 16:
            raise UsageError("weak-token", "TRAJSVC_TOKEN is short", hint="Use 16 characters or more.")
        tokens.create("TRAJSVC_TOKEN", SCOPES, settings.token)
    if auth and not tokens.any_valid():
        raise UsageError(
            "no-token", "the server is to ask for tokens, and none is valid",
            hint="Make one with `trajsvc tokens create NAME`, or set TRAJSVC_TOKEN.",
        )  # fmt: skip
    parts = settings, RunCache(settings.store), JobQueue(engine), Roots(settings.roots)
    apart = processes is not None
    return Service(*parts, tokens=tokens, processes=processes or WorkProcesses(settings), auth=auth, apart=apart)


def make_app(service: Service, hosts: tuple[str, ...] | None = (), most: int | None = None) -> FastAPI:
    """Make the application.

    Args:
        service: Its parts.
        hosts: The names it answers to beside those of the loopback; None: any.
        most: How many requests it answers at once; None: any number.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.processes.start()
        yield
        service.long_work.stopping.set()
        service.processes.close()
        service.queue.engine.dispose()

    app = routed(life)
    app.state.service = service
    app.state.places = service.places
    app.add_middleware(MetricsMiddleware)
    app.add_middleware(RequestMiddleware, hosts=hosts, most=most)
    return app


def routed(life: Any = None) -> FastAPI:
    """Make an application of all routes, which nothing checks or counts."""
    app = FastAPI(title="trajsvc", version=__version__, lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    errors.register(app)
    for routes in (*DESCRIBED, page):
        app.include_router(routes.router)
    return app


class MetricsMiddleware:
    """Counts and times requests by route. Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                method = (
                    scope["method"] if scope["method"] in METHODS else "other"
                )  # a label that is made up is kept for ever
                health.REQUESTS.labels(route, method, str(message["status"])).inc()
                health.SECONDS.labels(route).observe(time.perf_counter() - begun)
            await send(message)

        await self.app(scope, receive, counted)


def openapi() -> dict[str, Any]:
    """Describe all routes, as committed in ``openapi.json``."""
    app = FastAPI(title="trajsvc", version=__version__, description=DESCRIPTION, openapi_tags=TAGS)
    for routes in DESCRIBED:
        app.include_router(routes.router)
    return app.openapi()
