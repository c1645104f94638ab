"""Routes of jobs: submission, listing, progress as server-sent events, cancellation."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from api.bodies import StrictRoute
from api.dependencies import Reader, Service, ServiceOf, Submitter
from api.errors import Forbidden
from api.formats import PROBLEMS
from api.headers import MOST, accepted, cursor_of, number, numbers_in
from api.places import Places
from api.requests import Recomputation, Submission
from api.routes.results import RunName
from storage_schema.models.audit import AuditAnswer
from storage_schema.models.service import Cause, JobAnswer, JobProgress, JobsPage, JobState
from trajsvc.errors import TryAgain, UsageError
from trajsvc.jobs.records import Event, Job
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import State
from trajsvc.jobs.tokens import Token
from trajsvc.sources.resolve import is_remote
from trajsvc.sources.transport.cancel import Stop

router = APIRouter(prefix="/v1", tags=["jobs"], route_class=StrictRoute)

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="The job's id")]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", max_length=200, description="The same key and body give the same job")
]
POLL = 0.5
KEEP_ALIVE = 15.0
RETRY_AFTER = "2"

SUBMITTED: dict[int | str, dict[str, Any]] = {
    200: {"model": JobAnswer, "description": "The same work was submitted before: its job"},
    202: {"model": JobAnswer, "description": "Accepted", "headers": {"Location": {"schema": {"type": "string"}}}},
    **PROBLEMS,
}


@router.post("/runs", operation_id="submitRun", status_code=202, response_model=JobAnswer, responses=SUBMITTED)
async def submit_run(
    request: Request, service: ServiceOf, who: Submitter, body: Submission, key: IdempotencyKey = None
) -> Response:
    """Analyse a repository or a folder of a data root. The same work submitted twice is one job."""

    def work(stop: Stop) -> Response:
        spec = service.processes.spec("submit", stop, body=body)
        return submitted(service, who, spec, body.priority, key, body.model_dump_json())

    limits = service.long_work
    return await (limits.network if is_remote(body.source) else limits.submissions).run(request, work)


@router.post("/plan", operation_id="planRun", response_model=dict[str, Any], responses=PROBLEMS)
async def plan_run(request: Request, service: ServiceOf, who: Submitter, body: Submission) -> Response:
    """Report what a submission would read, cost and keep, from headers alone; nothing is started."""
    return await _worked_out(request, service, body, "plan")


@router.post("/audit", operation_id="auditRun", response_model=AuditAnswer, responses=PROBLEMS)
async def audit_run(request: Request, service: ServiceOf, who: Submitter, body: Submission) -> Response:
    """Report what is wrong with a published run, from listings, digests and headers alone; nothing is started."""
    return await _worked_out(request, service, body, "audit")


async def _worked_out(request: Request, service: Service, body: Submission, work: str) -> Response:
    """Answer with the JSON that a process makes, as it is."""
    limits = service.long_work
    limiter = limits.network if is_remote(body.source) else limits.plans
    content = await limiter.run(request, lambda stop: service.processes.run(work, stop, body=body))
    return Response(content, media_type="application/json", headers={"cache-control": "no-store"})


@router.post(
    "/runs/{run}/recompute",
    operation_id="recomputeRun",
    status_code=202,
    response_model=JobAnswer,
    responses=SUBMITTED,
)
async def recompute_run(
    request: Request,
    service: ServiceOf,
    who: Submitter,
    run: RunName,
    body: Recomputation,
    key: IdempotencyKey = None,
) -> Response:
    """Compute a stored run anew from its source: another precision, grouping, subset of steps, device."""

    def work(stop: Stop) -> Response:
        spec = service.processes.spec("recompute", stop, run=run, body=body)
        return submitted(service, who, spec, body.priority, key, f"{run} {body.model_dump_json()}")

    return await service.long_work.network.run(request, work)


def submitted(service: Service, who: Token, spec: JobSpec, priority: int, key: str | None, body: str) -> Response:
    """Put a job into the queue, and answer with it or with the job that is the same work. Raises UsageError, QuotaExceeded."""
    request = hashlib.sha256(body.encode()).hexdigest()
    job, new = service.queue.submit(
        spec, spec.digest(), token=who.id, priority=priority, key=key, request=request, quota=service.quota
    )
    headers = {"location": f"/v1/jobs/{job.id}", "cache-control": "no-store"}
    if not job.state.final:
        headers["retry-after"] = RETRY_AFTER
    return JSONResponse(job_answer(service, job).model_dump(), 202 if new else 200, headers)


@router.get("/jobs", operation_id="listJobs", response_model=JobsPage, responses=PROBLEMS)
def list_jobs(
    service: ServiceOf,
    who: Reader,
    state: Annotated[list[JobState], Query(max_length=6)] = [],  # noqa: B006 (FastAPI copies it)
    run: Annotated[str | None, Query(max_length=128)] = None,
    family: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """List jobs, the newest first."""
    found = service.queue.jobs(
        states=[State(s) for s in state], run=run, family=family, before=_cursor(cursor), limit=limit + 1
    )
    following = cursor_of(before=found[limit - 1].sequence) if len(found) > limit else None
    headers = {"cache-control": "no-store"}
    if following is not None:
        headers["link"] = f'</v1/jobs?limit={limit}&cursor={following}>; rel="next"'
    # One job at a time: the specs of a page may be megabytes, whose JSON made at once holds up all other answers.
    items = b",".join(job_answer(service, j).model_dump_json().encode() for j in found[:limit])
    content = b'{"items":[' + items + b'],"next":' + json.dumps(following).encode() + b"}"
    return Response(content, media_type="application/json", headers=headers)


@router.get("/jobs/{job}", operation_id="getJob", response_model=JobAnswer, responses=PROBLEMS)
def get_job(service: ServiceOf, who: Reader, job: JobId, response: Response) -> JobAnswer:
    """Return one job: its state, progress, result, or the cause of its failure."""
    found = service.queue.get(job)
    response.headers["cache-control"] = "no-store"
    if not found.state.final:
        response.headers["retry-after"] = RETRY_AFTER
    return job_answer(service, found)


@router.delete("/jobs/{job}", operation_id="cancelJob", response_model=JobAnswer, responses=PROBLEMS)
def cancel_job(service: ServiceOf, who: Submitter, job: JobId, response: Response) -> JobAnswer:
    """Request that a job stops.

    What it has done is kept for a later submission; a job that has ended stays as it is.
    """
    found = service.queue.get(job)
    if found.token != who.id and not who.may("admin"):
        raise Forbidden("admin")
    response.headers["cache-control"] = "no-store"
    return job_answer(service, service.queue.cancel(job))


@router.post(
    "/jobs/{job}/retry", operation_id="retryJob", status_code=202, response_model=JobAnswer, responses=SUBMITTED
)
async def retry_job(
    request: Request, service: ServiceOf, who: Submitter, job: JobId, key: IdempotencyKey = None
) -> Response:
    """Submit the work of a job that failed or was cancelled once more; it continues from what was done.

    A job that has not ended, or has succeeded, is returned itself.
    """
    found = await run_in_threadpool(service.queue.get, job)
    if found.state not in (State.FAILED, State.CANCELLED):
        return JSONResponse(
            job_answer(service, found).model_dump(),
            200,
            {"location": f"/v1/jobs/{found.id}", "cache-control": "no-store"},
        )

    def work(stop: Stop) -> Response:
        return submitted(service, who, _repetition(service, found, stop), found.priority, key, f"retry {job}")

    return await service.long_work.submissions.run(request, work)


def _repetition(service: Service, job: Job, stop: Stop) -> JobSpec:
    """Make the spec of the same work once more: of a repository at the same commits, of a folder as it is now.

    Raises NotFound, Refused.
    """
    spec = job.spec
    if is_remote(spec.source) and spec.gradients is None and spec.spectra is None and spec.cross is None:
        return spec
    digests = service.registered.known()
    made = service.processes.spec("again", stop, spec=spec.model_dump(mode="json"), digests=digests)
    service.registered.learn(digests, made.gradients, made.uses)
    return made


_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events as they happen; each with its number as id. The stream ends with the job.",
        "content": {
            "text/event-stream": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "array"}},
        },
    },
    **PROBLEMS,
}


@router.get("/jobs/{job}/events", operation_id="getJobEvents", response_class=Response, responses=_EVENTS)
async def get_job_events(
    request: Request,
    service: ServiceOf,
    who: Reader,
    job: JobId,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Only events after this number")] = 0,
    form: Annotated[str | None, Query(alias="f", max_length=8)] = None,
) -> Response:
    """Stream the events of a job (state, waiting, progress), from its first event or after the one named by
    Last-Event-ID.
    """
    await run_in_threadpool(service.queue.get, job)
    after = max(after, number(last_event_id) or 0)
    if form == "json" or (form is None and _prefers_json(request)):
        return await run_in_threadpool(_events, service, job, after)
    if form is not None:
        raise UsageError("not-acceptable", f"no format {form!r} here", hint="There are json and the stream itself.")
    if not service.streams.acquire(blocking=False):
        raise TryAgain("too-many-streams", "too many streams are open", hint="Poll ?f=json, or try again.")
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_stream(service, job, after), media_type="text/event-stream", headers=headers)


def _events(service: Service, job: str, after: int) -> Response:
    """Return the events as one list, made one by one: of a long job they are megabytes."""
    found = service.queue.events(job, after)
    items = b",".join(json.dumps(service.places.plain(_event(e)), allow_nan=False).encode() for e in found)
    return Response(b"[" + items + b"]", media_type="application/json", headers={"cache-control": "no-store"})


def _prefers_json(request: Request) -> bool:
    wanted = accepted(request.headers.get("accept", ""))
    return "application/json" in wanted and "text/event-stream" not in wanted


async def _stream(service: Service, job: str, after: int) -> AsyncIterator[bytes]:
    quiet = time.monotonic()
    try:
        yield b"retry: 2000\n\n"
        while True:
            # The state is read first: a job that is final by then has written its last event before.
            final = (await run_in_threadpool(service.queue.get, job)).state.final
            found = await run_in_threadpool(partial(service.queue.events, job, after))
            for event in found:
                after = event.seq
                yield _lines(event, service.places)
                quiet = time.monotonic()
            if final and not found:
                return
            if not found:
                if time.monotonic() - quiet > KEEP_ALIVE:
                    quiet = time.monotonic()
                    yield b": still there\n\n"
                await asyncio.sleep(POLL)
    finally:
        service.streams.release()


def _event(event: Event) -> dict[str, Any]:
    return {"id": event.seq, "at": event.at, "event": event.kind, "data": dict(event.data)}


def _lines(event: Event, places: Places) -> bytes:
    data = json.dumps(places.plain({"at": event.at, **event.data}), allow_nan=False)
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def job_answer(service: Service, job: Job) -> JobAnswer:
    """Return a job as it is shown. Pins and rules are left out: they may be long."""
    spec = job.spec.model_dump(mode="json", exclude={"pins", "rules"})
    return JobAnswer(
        id=job.id, kind=job.kind.value, state=job.state.value, run=job.run, source=job.spec.source, spec=spec,
        digest=job.digest, priority=job.priority, created=job.created, updated=job.updated, started=job.started,
        finished=job.finished, attempts=job.attempts, waiting=service.places.plain(job.waiting),
        progress=None if job.progress is None else JobProgress.model_validate(dict(job.progress)),
        result=None if job.result is None else service.places.plain(job.result),
        cause=None if job.cause is None else Cause.model_validate(service.places.plain(job.cause)), events=job.events,
    )  # fmt: skip


def _cursor(text: str | None) -> int | None:
    """Return the sequence number in a cursor.

    Raises UsageError (``bad-cursor``) for one of an older server, which has a time and an id.
    """
    if text is None:
        return None
    found = numbers_in(text) or {}
    before = found.get("before", 0)
    if found.keys() != {"before"} or not 0 < before <= MOST:
        raise UsageError("bad-cursor", "the cursor is not one of this server's", hint="Begin without one.")
    return before
