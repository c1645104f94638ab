"""The objects that routes depend on, assembled when the server starts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Self

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api.answer_cache import AnswerCache, KeptAnswers
from api.errors import Forbidden, Unauthorised
from api.long_work import LongWork
from api.open_runs import RunCache
from api.places import Places
from api.resources import Resources
from api.work_processes import WorkProcesses
from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.database import attach
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Quota
from trajsvc.jobs.tokens import ANYONE, Token, TokenStore
from trajsvc.settings import ServiceSettings

STREAMS: Final = 200
_bearer: Final = HTTPBearer(auto_error=False, description="a token of `trajsvc tokens create`")


@dataclass
class Service(Resources):
    """What routes use: the store's runs, the jobs, the tokens, and the cache of answers."""

    tokens: TokenStore
    processes: WorkProcesses
    """of their own, which plan and check submissions"""
    auth: bool
    apart: bool = False
    """whether ``processes`` compute results too"""
    answers: AnswerCache = field(default_factory=AnswerCache)
    kept: KeptAnswers = field(default_factory=KeptAnswers)
    streams: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(STREAMS))

    def __post_init__(self) -> None:
        self.places = Places(self.settings)
        self.long_work = LongWork.of(self.settings)
        _ = self.registered  # wrong ones are an error now

    @classmethod
    def attached(cls, settings: ServiceSettings) -> Self:
        """Return the service of a process that answers what the server has checked."""
        engine = attach(settings.database_url)
        parts = settings, RunCache(settings.store), JobQueue(engine), Roots(settings.roots)
        return cls(*parts, tokens=TokenStore(engine), processes=WorkProcesses(settings), auth=False)

    @property
    def quota(self) -> Quota:
        s = self.settings
        return Quota(s.quota_running, s.quota_queued, s.quota_per_minute)


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(service_of)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _who(service: Service, credentials: HTTPAuthorizationCredentials | None, scope: str) -> Token:
    if not service.auth:
        return ANYONE
    token = service.tokens.find(credentials.credentials) if credentials is not None else None
    if token is None:
        raise Unauthorised
    if not token.may(scope):
        raise Forbidden(scope)
    return token


def reader(service: ServiceOf, credentials: Credentials) -> Token:
    """Return the token of the request, which may read. Raises Unauthorised, Forbidden."""
    return _who(service, credentials, "read")


def submitter(service: ServiceOf, credentials: Credentials) -> Token:
    """Return the token of the request, which may submit. Raises Unauthorised, Forbidden."""
    return _who(service, credentials, "submit")


def administrator(service: ServiceOf, credentials: Credentials) -> Token:
    """Return the token of the request, which may change what others made. Raises Unauthorised, Forbidden."""
    return _who(service, credentials, "admin")


SCOPE_OF: Final[Mapping[object, str]] = {reader: "read", submitter: "submit", administrator: "admin"}
"""What each dependency of a route demands of the token."""


async def check_token(request: Request, service: Service, scope: str) -> None:
    """Check the token of a request whose dependencies are not resolved here. Raises Unauthorised, Forbidden."""
    await run_in_threadpool(_who, service, await _bearer(request), scope)


Reader = Annotated[Token, Depends(reader)]
Submitter = Annotated[Token, Depends(submitter)]
Administrator = Annotated[Token, Depends(administrator)]
