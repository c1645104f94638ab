"""Listings of the Hub: refs, files of a commit, commits of a branch, repositories of a pattern.

No file is downloaded.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

from storage_schema.files.inside import read_inside, write_inside
from trajsvc.anatomy.linear_patterns import Glob
from trajsvc.errors import TrajsvcError, UsageError
from trajsvc.settings import Settings
from trajsvc.sources.base import never
from trajsvc.sources.hub import answers
from trajsvc.sources.hub.api_client import ApiClient
from trajsvc.sources.hub.limits import Budget, HubLimits
from trajsvc.sources.hub.selection import CommitInfo, RefInfo
from trajsvc.sources.transport.cancel import SYSTEM_CLOCK, Clock, Stop
from trajsvc.sources.transport.rate_limit import RateLimiter, shared_limiter

T = TypeVar("T")

THREADS: Final = 8
"""Commits whose files are listed at once."""
_A_PAGE: Final = 250
"""Repositories of a page: each comes with all its tags."""
_LARGEST_TREE: Final = 64 * 2**20
"""Bytes of a kept listing that is read."""


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a commit; ``sha256`` is that of its contents where they are kept as a large file."""

    path: str
    size: int
    blob_id: str
    sha256: str | None

    @property
    def texts(self) -> tuple[str, ...]:
        """What it holds beside its size."""
        return (self.path, self.blob_id) if self.sha256 is None else (self.path, self.blob_id, self.sha256)


@dataclass(frozen=True, slots=True)
class Tree:
    """All files of a commit."""

    commit: str
    files: tuple[TreeFile, ...]


class HubApi:
    """Listings of one endpoint: the one given, else HF_ENDPOINT, else the Hub. Thread-safe.

    Every listing raises the errors of ``hub.errors`` (``hub-no-repository``, ``hub-no-revision``, ``hub-gated``, ``hub-unauthorized``,
    ``hub-offline``; after ``attempts`` that failed ``hub-unreachable``, ``hub-unavailable``, ``hub-rate-limited``), ``hub-bad-answer`` and
    ``hub-limit`` for what no Hub says and for what is larger than ``limits`` (by default those of the settings), and Interrupted as soon as
    ``stop`` says so. ``backoff`` is the first pause between attempts, in seconds of ``clock``.
    """

    def __init__(
        self, endpoint: str | None = None, token: str | bool | None = None, *, limiter: RateLimiter | None = None, attempts: int = 6,
        backoff: float = 0.5, stop: Stop = never, clock: Clock = SYSTEM_CLOCK, limits: HubLimits | None = None,
    ) -> None:  # fmt: skip
        self.endpoint: str = (endpoint or _endpoint()).rstrip("/")
        if urlsplit(self.endpoint).scheme not in ("http", "https") or not urlsplit(self.endpoint).hostname:
            raise UsageError(
                "bad-endpoint", "the Hub's endpoint is no http address",
                hint="Set HF_ENDPOINT to an address such as https://huggingface.co, or unset it.",
            )  # fmt: skip
        self._given = token
        self.limits = limits or HubLimits.of(Settings())
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
            self.endpoint, self.token, self._limiter, self.limits, attempts=self._attempts, backoff=self._backoff, clock=self._clock
        )  # fmt: skip

    def refs(self, repo: str) -> list[RefInfo]:
        """List branches and tags, each with its commit."""
        where = f"the branches of {repo}"

        def ask() -> list[RefInfo]:
            found = answers.read(answers.Refs, self._client.get(f"{quote(repo)}/refs", where, self.stop), where)
            budget = Budget(self.limits)
            rows = []
            for kind, told in (("branch", found.branches), ("tag", found.tags)):
                for value in told:
                    row = answers.read(answers.RefRow, value, where)
                    budget.take(where, (row.name, row.commit))
                    rows.append(RefInfo(row.name, kind, row.commit))  # type: ignore[arg-type]
            return rows

        return self._client.call(repo, ask, self.stop)

    def tree(self, repo: str, commit: str, *, stop: Stop | None = None, budget: Budget | None = None) -> Tree:
        """List all files of a commit, with sizes in bytes and digests. ``budget`` bounds several trees together."""
        stop, budget = stop or self.stop, budget or Budget(self.limits)
        where = f"the files of {repo}@{commit[:8]}"

        def ask() -> Tree:
            files: list[TreeFile] = []
            path, query = f"{quote(repo)}/tree/{quote(commit, safe='')}", {"recursive": "true", "expand": "false"}
            try:
                for page in self._client.pages(path, query, where, stop):
                    for row in answers.files_of(page, where):
                        files.append(_tree_file(row))
                        budget.take(where, files[-1].texts)
            except TrajsvcError:
                raise
            except BaseException:  # it is asked for again
                budget.give_back(f.texts for f in files)
                raise
            return Tree(commit, tuple(files))

        return self._client.call(f"{repo}@{commit[:8]}", ask, stop)

    def trees_of(self, wanted: Sequence[tuple[str, str]], folder: Path | None) -> list[Tree]:
        """List the files of (repository, commit) pairs, several at once; a commit's files never change, so they are
        cached in ``folder``.

        The first failure stops the others.
        """
        failed, budget = threading.Event(), Budget(self.limits)

        def one(pair: tuple[str, str]) -> Tree:
            known = None if folder is None else self._kept(folder, *pair, budget)
            if known is None:
                known = self.tree(*pair, stop=lambda: failed.is_set() or self.stop(), budget=budget)
                if folder is not None:
                    _keep(folder, pair[0], known)
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
        """Return the history of a branch, newest first."""
        where, path = f"the commits of {repo}@{branch}", f"{quote(repo)}/commits/{quote(branch, safe='')}"

        def ask() -> list[CommitInfo]:
            budget, found = Budget(self.limits), []
            for page in self._client.pages(path, {}, where, self.stop):
                for value in page:
                    row = answers.read(answers.CommitRow, value, where)
                    budget.take(where, (row.id, row.title, row.date))
                    found.append(CommitInfo(row.id, row.title, row.date))
            return found

        return self._client.call(f"{repo}@{branch}", ask, self.stop)

    def repositories(self, pattern: str) -> list[str]:
        """Return the ids of the models that a pattern over names (``org/name-*``) matches, in alphabetical order."""
        org, _, name = pattern.partition("/")
        words = name.split("*")[0].split("?")[0].split("[")[0]
        query = {"author": org, "limit": str(_A_PAGE), **({"search": words} if words else {})}
        where, glob = f"the repositories of {org}", Glob.of(pattern)

        def ask() -> list[str]:
            budget, ids = Budget(self.limits), set()
            for page in self._client.pages("", query, where, self.stop):
                for value in page:
                    row = answers.read(answers.RepositoryRow, value, where)
                    budget.take(where, (row.id,))
                    ids.add(row.id)
            return sorted(i for i in ids if glob.meets(i))

        return self._client.call(pattern, ask, self.stop)

    def _kept(self, folder: Path, repo: str, commit: str, budget: Budget) -> Tree | None:
        """Return the cached files of a commit, validated like the Hub's answer; None if they are missing or invalid."""
        body = read_inside(folder, *_place(repo, commit), most=_LARGEST_TREE)
        if body is None:
            return None
        where = f"the kept files of {repo}@{commit[:8]}"
        try:
            files = tuple(_tree_file(row) for row in answers.files_of(answers.rows_of(json.loads(body), where), where))
        except (ValueError, RecursionError, TrajsvcError):
            return None
        for file in files:
            budget.take(where, file.texts)
        return Tree(commit, files)


def _tree_file(row: answers.FileRow) -> TreeFile:
    return TreeFile(sys.intern(row.path), row.size, row.oid, None if row.lfs is None else row.lfs.oid)


def _endpoint() -> str:
    """Return the current value of HF_ENDPOINT: the library reads it once, when it is imported."""
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)


def _place(repo: str, commit: str) -> tuple[str, ...]:
    return "trees", repo, f"{commit}.json"


def _keep(folder: Path, repo: str, tree: Tree) -> None:
    rows = [
        {"type": "file", "path": f.path, "size": f.size, "oid": f.blob_id, "lfs": None if f.sha256 is None else {"oid": f.sha256}}
        for f in tree.files
    ]  # fmt: skip
    write_inside(folder, *_place(repo, tree.commit), data=json.dumps(rows).encode())
