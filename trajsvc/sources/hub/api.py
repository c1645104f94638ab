"""What the Hub lists: refs, files of a commit, commits of a branch, repositories of a pattern. No file is downloaded.

The requests go through the session of ``huggingface_hub``, so that its user's settings hold (certificates, proxies, offline mode), but not
through its listings: those wait without end for an answer and retry out of the caller's sight, whatever the session's timeout is.
"""

from __future__ import annotations

import fnmatch
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from storage_schema.files.durable import replace_file
from trajsvc.errors import TrajsvcError, UsageError
from trajsvc.sources.base import never
from trajsvc.sources.hub import errors
from trajsvc.sources.hub.selection import CommitInfo, RefInfo
from trajsvc.sources.transport.cancel import SYSTEM_CLOCK, Clock, Interrupted, Stop, check, pause
from trajsvc.sources.transport.rate_limit import RateLimiter, shared_limiter
from trajsvc.version import __version__

T = TypeVar("T")

THREADS: Final = 8
"""Commits whose files are listed at once."""
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


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a commit; ``sha256`` is that of its contents where they are kept as a large file."""

    path: str
    size: int
    blob_id: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Tree:
    """All files of a commit."""

    commit: str
    files: tuple[TreeFile, ...]


class _Answered(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers


class ApiClient:
    """Requests to one endpoint's ``/api/models``. Thread-safe."""

    def __init__(
        self, endpoint: str, token: str | None, limiter: RateLimiter, *, attempts: int, backoff: float, clock: Clock
    ) -> None:
        self._address = f"{endpoint}/api/models"
        self._signed_in, self._limiter = token is not None, limiter
        self._attempts, self._backoff, self._clock = attempts, backoff, clock
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
        """``ask`` as a whole, again and again while what fails may pass. Raises errors of ``hub.errors``, and Interrupted."""
        from huggingface_hub import constants
        from huggingface_hub.errors import OfflineModeIsEnabled

        if constants.is_offline_mode():
            raise errors.offline(where)
        failures = refusals = 0
        while True:
            try:
                return ask()
            except (Interrupted, TrajsvcError):
                raise
            except OfflineModeIsEnabled:
                raise errors.offline(where) from None
            except _Answered as answer:
                error = errors.of_response(answer.status, answer.headers, where, signed_in=self._signed_in)
            except Exception as broken:
                error = errors.unreachable(where, _why(broken))
            refusals += error.kind == "hub-rate-limited"
            failures += error.kind != "hub-rate-limited"
            if error.kind not in _PASSING or failures >= self._attempts or refusals > _PATIENT:
                raise error
            if error.kind != "hub-rate-limited":
                longest = min(_SLOWEST, self._backoff * 2 ** (failures - 1))
                pause(random.uniform(0.5, 1) * longest, stop, self._clock)


class HubApi:
    """Listings of one endpoint: the one given, else HF_ENDPOINT, else the Hub. Thread-safe.

    Every listing raises the errors of ``hub.errors`` (``hub-no-repository``, ``hub-no-revision``, ``hub-gated``, ``hub-unauthorized``,
    ``hub-offline``; after ``attempts`` that failed ``hub-unreachable``, ``hub-unavailable``, ``hub-rate-limited``), and Interrupted
    when ``stop`` says so between two requests. ``backoff`` is the first pause between attempts, in seconds
    of ``clock``.
    """

    def __init__(
        self, endpoint: str | None = None, token: str | bool | None = None, *, limiter: RateLimiter | None = None, attempts: int = 6,
        backoff: float = 0.5, stop: Stop = never, clock: Clock = SYSTEM_CLOCK,
    ) -> None:  # fmt: skip
        self.endpoint: str = (endpoint or _endpoint()).rstrip("/")
        if urlsplit(self.endpoint).scheme not in ("http", "https") or not urlsplit(self.endpoint).hostname:
            raise UsageError(
                "bad-endpoint", "the Hub's endpoint is no http address",
                hint="Set HF_ENDPOINT to an address such as https://huggingface.co, or unset it.",
            )  # fmt: skip
        self._given = token
        self._limiter = limiter or shared_limiter(self.endpoint, clock)
        self._attempts, self._backoff, self._clock, self.stop = attempts, backoff, clock, stop

    @cached_property
    def token(self) -> str | None:
        """What was given, else HF_TOKEN or the token of ``hf auth login``; None with ``token=False``. Raises UsageError (``bad-token``)."""
        from huggingface_hub import get_token

        token = self._given if isinstance(self._given, str) else None if self._given is False else get_token()
        token = (token or "").strip() or None
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise UsageError(
                "bad-token", "the Hub's token has characters that no token has",
                hint="Copy it again from the Hub's settings into HF_TOKEN.",
            )  # fmt: skip
        return token

    @property
    def signed_in(self) -> bool:
        """Whether a token is sent."""
        return self.token is not None

    @cached_property
    def _client(self) -> ApiClient:
        return ApiClient(
            self.endpoint, self.token, self._limiter, attempts=self._attempts, backoff=self._backoff, clock=self._clock
        )

    def refs(self, repo: str) -> list[RefInfo]:
        """Branches and tags, each with its commit."""

        def ask() -> list[RefInfo]:
            found, _ = self._client.get(f"{repo}/refs", "", self.stop)
            branches = [RefInfo(_text(r["name"]), "branch", _text(r["targetCommit"])) for r in found["branches"]]
            return branches + [RefInfo(_text(r["name"]), "tag", _text(r["targetCommit"])) for r in found["tags"]]

        return self._client.call(repo, ask, self.stop)

    def tree(self, repo: str, commit: str, *, stop: Stop | None = None) -> Tree:
        """All files of a commit, with sizes in bytes and digests."""

        stop = stop or self.stop

        def ask() -> Tree:
            path = f"{repo}/tree/{quote(commit, safe='')}"
            rows = self._client.pages(path, {"recursive": "true", "expand": "false"}, stop)
            return Tree(commit, tuple(_tree_file(row) for row in rows if row["type"] == "file"))

        return self._client.call(f"{repo}@{commit[:8]}", ask, stop)

    def trees_of(self, wanted: Sequence[tuple[str, str]], folder: Path | None) -> list[Tree]:
        """The files of (repository, commit) pairs, several at once; a commit's never change, so they are kept in ``folder``.

        The first that fails ends the others.
        """
        failed = threading.Event()

        def one(pair: tuple[str, str]) -> Tree:
            place = None if folder is None else folder / "trees" / pair[0] / f"{pair[1]}.json"
            known = None if place is None else _kept(place, pair[1])
            if known is None:
                known = self.tree(*pair, stop=lambda: failed.is_set() or self.stop())
                if place is not None:
                    _keep(place, known)
            return known

        distinct = list(dict.fromkeys(wanted))
        if len(distinct) < 2:
            return [one(pair) for pair in distinct] * len(wanted)
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="trajsvc-tree")
        try:
            asked = {pair: pool.submit(one, pair) for pair in distinct}
            done, _ = wait(asked.values(), return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [asked[pair].result() for pair in wanted]
        finally:
            failed.set()
            pool.shutdown(cancel_futures=True)

    def commits(self, repo: str, branch: str) -> list[CommitInfo]:
        """The history of a branch, newest first."""

        def ask() -> list[CommitInfo]:
            rows = self._client.pages(f"{repo}/commits/{quote(branch, safe='')}", {}, self.stop)
            return [CommitInfo(_text(r["id"]), _text(r["title"]), _text(r["date"])) for r in rows]

        return self._client.call(f"{repo}@{branch}", ask, self.stop)

    def repositories(self, pattern: str) -> list[str]:
        """Ids of the models that a pattern over names (``org/name-*``) meets, in alphabetical order."""
        org, _, name = pattern.partition("/")
        words = name.split("*")[0].split("?")[0].split("[")[0]
        query = {"author": org, **({"search": words} if words else {})}

        def ask() -> list[str]:
            ids = {_text(r["id"]) for r in self._client.pages("", query, self.stop)}
            return sorted(i for i in ids if fnmatch.fnmatchcase(i, pattern))

        return self._client.call(pattern, ask, self.stop)


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


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _tree_file(row: Mapping[str, Any]) -> TreeFile:
    size = row["size"]
    if not isinstance(size, int) or size < 0:
        raise TypeError("no size")
    large = row.get("lfs")
    return TreeFile(_text(row["path"]), size, _text(row["oid"]), None if large is None else _text(large["oid"]))


def _endpoint() -> str:
    """HF_ENDPOINT as it is now: the library reads it once, when it is imported."""
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)


def _kept(place: Path, commit: str) -> Tree | None:
    try:
        rows: Any = json.loads(place.read_bytes())
        return Tree(commit, tuple(TreeFile(*row) for row in rows))
    except (OSError, ValueError, TypeError):
        return None


def _keep(place: Path, tree: Tree) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    replace_file(place, json.dumps([[f.path, f.size, f.blob_id, f.sha256] for f in tree.files]).encode())
