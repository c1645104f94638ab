"""What all requests to one server of the tests' Hub share: repositories, faults, counts, signatures, windows of rate limits."""

from __future__ import annotations

import hashlib
import hmac
import math
import threading
import time
from collections.abc import Collection, Iterable
from typing import Literal

from hub_faults import Faults
from hub_record import Record
from hub_repos import Repo

Cdn = Literal["other", "same", "off"]


class HubState:
    """``tokens``: those that the Hub knows (None: it takes any). ``page_size``: rows of a page of a listing (0: as the Hub's own)."""

    def __init__(
        self,
        repos: Iterable[Repo],
        *,
        cdn: Cdn = "other",
        tokens: Collection[str] | None = None,
        page_size: int = 0,
        seed: int = 0,
    ) -> None:
        self.repos = {repo.id: repo for repo in repos}
        self.cdn, self.tokens, self.page_size = cdn, tokens, page_size
        self.faults = Faults(seed)
        self.record = Record()
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        """of the server itself; none is expected"""
        self._lock = threading.Lock()
        self._secret = hashlib.sha256(b"%d" % seed).digest()
        self._serial = 0
        self._uses: dict[str, int] = {}
        self._windows: dict[str, tuple[int, int]] = {}

    def sign(self, path: str) -> str:
        """A query that opens ``path``, another one each time."""
        with self._lock:
            self._serial += 1
            serial = self._serial
        return f"Key-Pair-Id=K{serial}&Signature={self._signature(path, f'K{serial}')}"

    def signed(self, path: str, key: str, signature: str) -> bool:
        return hmac.compare_digest(signature, self._signature(path, key))

    def used(self, signature: str) -> int:
        """Count a use of a signed address; how many there were before."""
        with self._lock:
            before = self._uses.get(signature, 0)
            self._uses[signature] = before + 1
            return before

    def window(self, resource: str, limit: int) -> tuple[int, int]:
        """Count a request of ``resource`` in its window: (requests that remain, negative once over; seconds to the next window)."""
        length = self.faults.rate_window
        with self._lock:
            now = time.time()
            number = int(now // length)
            at, count = self._windows.get(resource, (number, 0))
            count = count + 1 if at == number else 1
            self._windows[resource] = (number, count)
            return limit - count, max(1, math.ceil((number + 1) * length - now))

    def _signature(self, path: str, key: str) -> str:
        return hmac.new(self._secret, f"{key} {path}".encode(), hashlib.sha256).hexdigest()[:40]
