"""The Python client of a server: submit, follow and cancel jobs, and open runs that answer as local ones do.

Does not import torch.

::

    server = Client("http://127.0.0.1:8000")
    job = server.submit("hf://EleutherAI/pythia-70m", steps="every:4")
    server.wait(job["id"])
    run = trajsvc.open("http://127.0.0.1:8000", "pythia-70m")
    run.trajectory_map("layer/3/attention.q", origin=0)
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx2
import numpy as np

from trajsvc.errors import EXIT_FAILED, NotFound, Outcome, Refused, TrajsvcError, TryAgain, UsageError

FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
TIMEOUT: Final = 60.0
TRIES: Final = 5


class ServerError(TrajsvcError):
    """An error reported by a server, with the server's message."""

    def __init__(self, kind: str, message: str, *, hint: str = "", status: int = 500) -> None:
        super().__init__(kind, message, hint=hint)
        self.status = status

    @property
    def outcome(self) -> Outcome:
        """A server's fault is a failure, whatever its kind."""
        return Outcome(EXIT_FAILED, self.status)


class Client:
    """A client of the server at ``address``. ``token`` (else ``TRAJSVC_TOKEN``) is sent only there."""

    def __init__(self, address: str, token: str | None = None, *, timeout: float = TIMEOUT) -> None:
        if not address.startswith(("http://", "https://")):
            raise UsageError(
                "bad-server", f"{address!r} is no server's address", hint="Write it as http://127.0.0.1:8000."
            )
        self.address = address.rstrip("/")
        token = token or os.environ.get("TRAJSVC_TOKEN")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(base_url=self.address, headers=headers, timeout=timeout, follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- work -------------------------------------------------------------------------------------------------------

    def submit(self, source: str, *, key: str | None = None, **choices: Any) -> dict[str, Any]:
        """Submit ``source``; ``choices`` are the fields of a submission (name, steps, copy, preview, precision, family …). The job as JSON.

        ``key`` is an Idempotency-Key: with it a submission that got no answer can be repeated. Raises what the server says.
        """
        headers = {"idempotency-key": key} if key else {}
        return dict(self._json("POST", "/v1/runs", json=_chosen(source, choices), headers=headers))

    def plan(self, source: str, **choices: Any) -> dict[str, Any]:
        """Ask what a submission of ``source`` would read, cost and keep; nothing is started."""
        return dict(self._json("POST", "/v1/plan", json=_chosen(source, choices)))

    def audit(self, source: str, **choices: Any) -> dict[str, Any]:
        """Ask what is wrong with a published run, from listings, digests and headers alone; nothing is started."""
        return dict(self._json("POST", "/v1/audit", json=_chosen(source, choices)))

    def recompute(self, run: str, **choices: Any) -> dict[str, Any]:
        """Request that a stored run is computed anew, with other choices."""
        body = {k: v for k, v in choices.items() if v is not None}
        return dict(self._json("POST", f"/v1/runs/{quote(run, safe='')}/recompute", json=body))

    def submit_gradients(self, run: str, *, key: str | None = None, **choices: Any) -> dict[str, Any]:
        """Submit a job of gradients of a stored run; ``choices`` are the fields of the request (``probe`` and ``data`` by the names
        that the server has for them, sets, examples, batch, steps, name …). The job as JSON. Raises what the server says."""
        headers = {"idempotency-key": key} if key else {}
        body = {k: v for k, v in choices.items() if v is not None}
        return dict(self._json("POST", f"/v1/runs/{quote(run, safe='')}/gradients", json=body, headers=headers))

    def submit_spectra(self, run: str, *, key: str | None = None, **choices: Any) -> dict[str, Any]:
        """Submit a job of spectra of a stored run; ``choices`` are the fields of the request (of, steps, groups, heads, budget …).
        The job as JSON. Raises what the server says."""
        headers = {"idempotency-key": key} if key else {}
        body = {k: v for k, v in choices.items() if v is not None}
        return dict(self._json("POST", f"/v1/runs/{quote(run, safe='')}/spectra", json=body, headers=headers))

    def submit_cross(self, a: str, b: str, *, key: str | None = None, **choices: Any) -> dict[str, Any]:
        """Submit a comparison of two stored runs; ``choices`` are rename, common, device, memory, priority. The job as JSON."""
        headers = {"idempotency-key": key} if key else {}
        body = {"a": a, "b": b, **{k: v for k, v in choices.items() if v is not None}}
        return dict(self._json("POST", "/v1/cross", json=body, headers=headers))

    def job(self, job: str) -> dict[str, Any]:
        """Return one job as JSON. Raises NotFound (``job-not-found``)."""
        return dict(self._json("GET", f"/v1/jobs/{job}"))

    def jobs(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield jobs, the newest first, requesting page after page."""
        cursor = None
        while True:
            page = self._json("GET", "/v1/jobs", params={**filters, **({"cursor": cursor} if cursor else {})})
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def retry(self, job: str) -> dict[str, Any]:
        """Submit the work of a job that failed or was cancelled once more; return the new job.

        Raises NotFound (``job-not-found``).
        """
        return dict(self._json("POST", f"/v1/jobs/{job}/retry"))

    def cancel(self, job: str) -> dict[str, Any]:
        """Ask that a job stops, and return it. Raises NotFound (``job-not-found``)."""
        return dict(self._json("DELETE", f"/v1/jobs/{job}"))

    def events(self, job: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield events of a job as they happen, until it has ended; goes on where it was when the connection breaks."""
        failures = 0
        while True:
            try:
                for event in self._events(job, after):
                    after = event["id"]
                    failures = 0
                    yield event
                if self.job(job)["state"] in FINAL:
                    return
            except (httpx2.TransportError, TryAgain):
                failures += 1
                if failures > TRIES:
                    raise TryAgain(
                        "server-unreachable",
                        f"{self.address} does not answer",
                        hint="The job goes on there all the same.",
                    ) from None
                time.sleep(min(10.0, 2.0**failures / 4))

    def _events(self, job: str, after: int) -> Iterator[dict[str, Any]]:
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        with self._http.stream(
            "GET", f"/v1/jobs/{job}/events", headers=headers, timeout=httpx2.Timeout(TIMEOUT)
        ) as got:
            if got.status_code != 200:
                got.read()
                raise self._problem(got)
            facts: dict[str, str] = {}
            for line in got.iter_lines():
                if line:
                    name, _, value = line.partition(":")
                    facts[name] = value.removeprefix(" ")
                    continue
                if "data" in facts:
                    data = json.loads(facts["data"])
                    at = data.pop("at", None)
                    yield {"id": int(facts.get("id", 0)), "event": facts.get("event", ""), "at": at, "data": data}
                facts = {}

    def wait(self, job: str, told: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Wait until a job has ended and return it; ``told`` is called with its events.

        Does not raise if the job failed.
        """
        for event in self.events(job):
            if told is not None:
                told(event)
        return self.job(job)

    def succeeded(self, job: Mapping[str, Any], told: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Wait until a job has ended and return it; ``told`` is called with its events.

        Raises TrajsvcError of the job's kind if it failed, of ``cancelled`` if it was cancelled.
        """
        ended = self.wait(job["id"], told)
        if ended["state"] != "succeeded":
            cause = ended["cause"] or {"kind": "cancelled", "message": f"the job {job['id']} was cancelled"}
            raise TrajsvcError(cause["kind"], cause["message"], hint=cause.get("hint", ""))
        return ended

    # -- results ----------------------------------------------------------------------------------------------------

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield the runs of the server's store, requesting page after page."""
        cursor = None
        while True:
            page = self._json("GET", "/v1/runs", params={"cursor": cursor} if cursor else {})
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def get(self, path: str, **params: Any) -> Any:
        """Return JSON below ``/v1``."""
        return self._json("GET", f"/v1/{path}", params={k: v for k, v in params.items() if v is not None})

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """PUT ``body`` as JSON below ``/v1``; return the answer's JSON."""
        return self._json("PUT", f"/v1/{path}", json=dict(body))

    def arrays(self, path: str, **params: Any) -> dict[str, np.ndarray[Any, Any]]:
        """Return arrays (.npz) below ``/v1``."""
        got = self._ask("GET", f"/v1/{path}", params={**params, "f": "npz"})
        with np.load(io.BytesIO(got.content), allow_pickle=False) as found:
            return {name: found[name] for name in found.files}

    def remove(self, run: str) -> dict[str, Any]:
        """Move a run into the server's trash; return it as it lies there."""
        return dict(self._json("DELETE", f"/v1/runs/{quote(run, safe='')}"))

    def rename(self, run: str, name: str) -> dict[str, Any]:
        """Give a run another name."""
        return dict(self._json("PATCH", f"/v1/runs/{quote(run, safe='')}", json={"name": name}))

    def describe(self, run: str, **changes: Any) -> dict[str, Any]:
        """Change what is said of a run: ``tags``, ``notes``, ``hyperparameters`` (None forgets one)."""
        return dict(self._json("PATCH", f"/v1/runs/{quote(run, safe='')}", json=changes))

    def restore(self, removed: str, name: str | None = None) -> dict[str, Any]:
        """Bring a run back from the server's trash, by its id; ``name`` gives it another one."""
        body = {} if name is None else {"name": name}
        return dict(self._json("POST", f"/v1/trash/{quote(removed, safe='@')}/restore", json=body))

    # -- transport --------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, **given: Any) -> Any:
        return self._ask(method, path, **given).json()

    def _ask(self, method: str, path: str, **given: Any) -> httpx2.Response:
        headers = {"accept": "application/json", **given.pop("headers", {})}
        if "params" in given and given["params"].get("f"):
            headers.pop("accept")
        for attempt in range(1, TRIES + 1):
            try:
                got = self._http.request(method, path, headers=headers, **given)
            except httpx2.TransportError as error:
                repeatable = method in ("GET", "DELETE", "PUT") or "idempotency-key" in headers
                if attempt == TRIES or not repeatable or isinstance(error, httpx2.ConnectError):
                    raise TryAgain(
                        "server-unreachable",
                        f"{self.address} does not answer ({type(error).__name__})",
                        hint="Is `trajsvc serve` running there?",
                    ) from None
                time.sleep(2.0**attempt / 8)
                continue
            if got.status_code in (429, 503) and attempt < TRIES:
                time.sleep(min(30.0, float(got.headers.get("retry-after", "1"))))
                continue
            if got.status_code >= 400:
                raise self._problem(got)
            return got
        raise AssertionError("not reached")

    def _problem(self, got: httpx2.Response) -> TrajsvcError:
        try:
            facts = got.json()
            kind = str(facts["type"]).rpartition(":")[2]
            message, hint = str(facts["detail"]), str(facts.get("hint", ""))
        except (ValueError, KeyError, TypeError):
            return ServerError("bad-answer", f"{self.address} answered {got.status_code}", status=got.status_code)
        classes: dict[int, type[TrajsvcError]] = {404: NotFound, 422: UsageError, 503: TryAgain, 429: TryAgain}
        if got.status_code in (401, 403, 421):
            return Refused(kind, message, hint=hint)
        if got.status_code in classes:
            return classes[got.status_code](kind, message, hint=hint)
        return ServerError(kind, message, hint=hint, status=got.status_code)


def _chosen(source: str, choices: Mapping[str, Any]) -> dict[str, Any]:
    return {"source": source, **{k: v for k, v in choices.items() if v is not None}}
