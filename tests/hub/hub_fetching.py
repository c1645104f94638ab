"""A Hub with one large file, and fetchers for it that wait little."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import numpy as np
from hub_repos import Repo, Revision
from hub_server import HubServer

from trajsvc.sources.hub.remote_file import HubFetcher, HubFile
from trajsvc.sources.transport.rate_limit import RateLimiter
from trajsvc.sources.transport.scatter import Scatter

SIZE: Final = 3_000_000
DATA: Final = np.random.default_rng(7).bytes(SIZE)
SMALL: Final = b'{"a": 1}'
TOKEN: Final = "hf_CANARYcanaryCANARY"
NAME: Final = "org/run"
PATH: Final = "weights of step 1/model.safetensors"

Make = Callable[..., tuple[HubServer, HubFetcher, HubFile]]


@contextmanager
def fetching(hub: Callable[..., HubServer]) -> Iterator[Make]:
    """``make(cdn=…, token=…, **options)``: a server with the file ``PATH``, a fetcher, and the file; fetchers are closed at the end."""
    fetchers: list[HubFetcher] = []

    def make(*, cdn: str = "other", token: str | None = TOKEN, **options: Any) -> tuple[HubServer, HubFetcher, HubFile]:
        server = hub([Repo(NAME, {"main": Revision({PATH: DATA, "config.json": SMALL})})], cdn=cdn)
        options = {"backoff": 0.01, "limiter": RateLimiter(base=0.01), "stall_seconds": 1.0, **options}
        fetchers.append(HubFetcher(server.endpoint, token, **options))
        return server, fetchers[-1], remote(server)

    try:
        yield make
    finally:
        for fetcher in fetchers:
            fetcher.close()


def remote(server: HubServer, path: str = PATH, size: int = SIZE, sha256: str | None = None) -> HubFile:
    commit = server.repos[NAME].heads["main"].id
    return HubFile(NAME, commit, path, size, sha256 or hashlib.sha256(DATA).hexdigest())


def fetched(fetcher: HubFetcher, file: HubFile, lo: int = 0, hi: int = SIZE, **more: Any) -> bytes:
    out = bytearray(hi - lo)
    fetcher.fetch(file, lo, hi, Scatter([(hi - lo, memoryview(out))]), **more)
    return bytes(out)


def pieces(fetcher: HubFetcher, file: HubFile, many: int = 12) -> bytes:
    """The whole file in ranges, several at once."""
    out = memoryview(bytearray(SIZE))
    cuts = [SIZE * i // many for i in range(many + 1)]
    fetcher.fetch_all([(file, a, b, Scatter([(b - a, out[a:b])])) for a, b in pairwise(cuts)])
    return bytes(out)
