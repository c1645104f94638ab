"""Asking the Hub's API for JSON, with patience: one page after the other, again when it fails, and for no longer than the caller wants.

The requests go through the session of ``huggingface_hub``, so that its user's settings hold (certificates, proxies, offline mode), but not
through its listings: those wait without end for an answer and retry out of the caller's sight, whatever the session's timeout is.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

from trajsvc.errors import TrajsvcError
from trajsvc.sources.hub import problems
from trajsvc.sources.hub.interrupt import Interrupted, Stop, check, pause
from trajsvc.sources.hub.limiter import Limiter
from trajsvc.version import __version__

T = TypeVar("T")

TIMEOUT: Final = 30.0
"""Seconds without a byte after which a request has failed."""
LONGEST: Final = 300.0
"""Seconds that one page of a listing may take, however steadily its bytes trickle."""
LARGEST: Final = 64 * 2**20
"""Bytes of one page; a thousand files take a third of a megabyte."""
_SLOWEST: Final = 30.0
_PATIENT: Final = 100
"""Refusals for asking too often that one call bears: the limiter makes everybody wait after each."""
_PASSING: Final = frozenset(["hub-rate-limited", "hub-unavailable", "hub-unreachable"])


class _Answered(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers


class Asker:
    """Requests to one endpoint's ``/api/models``. Thread-safe."""

    def __init__(self, endpoint: str, token: str | None, limiter: Limiter, *, attempts: int, backoff: float) -> None:
        self._address = f"{endpoint}/api/models"
        self._signed_in, self._limiter = token is not None, limiter
        self._attempts, self._backoff = attempts, backoff
        self._headers = {"User-Agent": f"trajsvc/{__version__}", "Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def pages(self, path: str, query: Mapping[str, str], stop: Stop) -> list[dict[str, Any]]:
        """All rows of a listing. Of the address of a next page only the query is followed: the token stays with the endpoint."""
        rows: list[dict[str, Any]] = []
        words: str | None = urlencode(query)
        seen: set[str] = set()
        while words is not None:
            if words in seen:
                raise ValueError("its pages go in a circle")
            seen.add(words)
            page, words = self.get(path, words, stop)
            if not isinstance(page, list):
                raise ValueError("no list")
            rows += page
        return rows

    def get(self, path: str, query: str, stop: Stop) -> tuple[Any, str | None]:
        """The JSON of one answer, and the query of the next page."""
        from huggingface_hub import get_session

        self._limiter.wait("api", stop)
        address = (f"{self._address}/{path}" if path else self._address) + (f"?{query}" if query else "")
        until = time.monotonic() + LONGEST
        with get_session().stream(
            "GET", address, headers=self._headers, timeout=TIMEOUT, follow_redirects=True
        ) as answer:
            told = {k.lower(): v for k, v in answer.headers.items()}
            self._limiter.note("api", answer.status_code, told)
            if not answer.is_success:
                raise _Answered(answer.status_code, told)
            body = bytearray()
            for piece in answer.iter_bytes():
                body += piece
                check(stop)
                if time.monotonic() > until or len(body) > LARGEST:
                    raise ValueError("too slow or too long")
            link = answer.links.get("next", {}).get("url")
        return json.loads(body), None if link is None else urlsplit(link).query

    def call(self, where: str, ask: Callable[[], T], stop: Stop) -> T:
        """``ask`` as a whole, again and again while what fails may pass. Raises errors of ``problems``, and Interrupted."""
        from huggingface_hub import constants
        from huggingface_hub.errors import OfflineModeIsEnabled

        if constants.is_offline_mode():
            raise problems.offline(where)
        failures = refusals = 0
        while True:
            try:
                return ask()
            except (Interrupted, TrajsvcError):
                raise
            except OfflineModeIsEnabled:
                raise problems.offline(where) from None
            except _Answered as answer:
                error = problems.of_status(
                    answer.status, answer.headers.get("x-error-code"), where, signed_in=self._signed_in
                )
            except Exception as broken:
                error = problems.unreachable(where, _why(broken))
            refusals += error.kind == "hub-rate-limited"
            failures += error.kind != "hub-rate-limited"
            if error.kind not in _PASSING or failures >= self._attempts or refusals > _PATIENT:
                raise error
            if error.kind != "hub-rate-limited":
                longest = min(_SLOWEST, self._backoff * 2 ** (failures - 1))
                pause(random.uniform(0.5, 1) * longest, stop)


def _why(error: Exception) -> str:
    """A few words on what broke, without any of its own: those may hold addresses. Raises what is no fault of the network."""
    import httpx2

    if isinstance(error, httpx2.TimeoutException):
        return "it does not answer in time"
    if isinstance(error, httpx2.ConnectError):
        return "there is no connection to it"
    if isinstance(error, httpx2.HTTPError | json.JSONDecodeError | UnicodeDecodeError | OSError):
        return "the answer breaks off"
    if isinstance(error, ValueError | LookupError | TypeError | RecursionError):
        return "its answer cannot be read"
    # Other users of the client library close its session when they lose their connection.
    if isinstance(error, RuntimeError) and "closed" in str(error):
        return "the connection was closed"
    raise error
