"""Ask a local Hub for listings, and look at what an error tells."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hub_repos import Repo, Revision
from hub_server import HubServer

from trajsvc.errors import TrajsvcError
from trajsvc.sources.hub.api import HubApi
from trajsvc.sources.transport.rate_limit import RateLimiter

CANARY = "hf_canaryTOKENcanary"


COMMIT = "0" * 40


ID = "org/run"


Hubs = Callable[..., HubServer]


Answer = tuple[int, dict[str, str], bytes]


def files(seed: int) -> dict[str, bytes]:
    return {"model.safetensors": bytes([seed]) * 50, "config.json": b"{}", "deep/er/notes.txt": b"x" * seed}


def run(**options: Any) -> Repo:
    newest = Revision(
        files(3), commits=[("initial commit", {"README.md": b""}), ("step 500", files(2))], title="step 1000"
    )
    return Repo(ID, {"main": newest, "step1": Revision(files(1))}, {"v1": newest}, **options)


def asked(hub: HubServer | str, token: str | bool | None = False, **options: Any) -> HubApi:
    """Asks with short pauses and a limiter of its own, so that one test's refusals are not the next one's."""
    endpoint = hub if isinstance(hub, str) else hub.endpoint
    return HubApi(endpoint, token, **{"limiter": RateLimiter(base=0.05), "backoff": 0.01, **options})


def failure(attempt: Callable[[], object], kind: str, expected: type[TrajsvcError] = TrajsvcError) -> TrajsvcError:
    """The error, from whose text, chain and traceback nobody learns a token or an address."""
    with pytest.raises(expected) as caught:
        attempt()
    error = caught.value
    assert error.kind == kind, str(error)
    assert error.hint
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    for secret in (CANARY, "127.0.0.1", "localhost", "Bearer", "request-id", "http://"):
        assert secret not in told
    return error


def said(value: object, **headers: str) -> Answer:
    return 200, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()
