"""A cache of response bodies by ETag. A result depends only on the run's committed bytes and on the request."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache
from starlette.requests import Request

from api.work_messages import Head

ROOM: Final = 64 * 2**20
OVERHEAD: Final = 2**12
"""bytes of an answer's headers and of the request, about"""


@dataclass(frozen=True)
class Kept:
    """An answer with a strong tag, as it was sent."""

    tag: str
    head: Head
    body: bytes


class KeptAnswers:
    """The most recently used answers by request, each to be sent again while its tag is still that of the result.

    Within ``room`` bytes; one larger than a quarter of it is not kept. Thread-safe.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._held: LRUCache[tuple[str, ...], Kept] = LRUCache(room, getsizeof=lambda kept: len(kept.body) + OVERHEAD)
        self._lock = threading.Lock()

    def find(self, request: Request) -> Kept | None:
        """Return the last answer to the same request."""
        with self._lock:
            return self._held.get(_key(request))

    def keep(self, request: Request, head: Head, body: bytes) -> None:
        """Keep a whole answer that has a tag."""
        tag = next((value for name, value in head.headers if name == "etag"), None)
        if head.status == 200 and tag is not None and len(body) <= self._held.maxsize // 4:
            with self._lock:
                self._held[_key(request)] = Kept(tag, head, body)


def _key(request: Request) -> tuple[str, ...]:
    headers = (request.headers.get(name, "") for name in ("accept", "accept-encoding"))
    return (request.scope["path"], request.url.query, *headers)


class AnswerCache:
    """The most recently used answers, within ``room`` bytes; an answer larger than a quarter of it is not kept.

    Thread-safe.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._held: LRUCache[str, bytes] = LRUCache(room, getsizeof=len)
        self._lock = threading.Lock()

    def get(self, tag: str) -> bytes | None:
        with self._lock:
            return self._held.get(tag)

    def put(self, tag: str, body: bytes) -> None:
        if len(body) <= self._held.maxsize // 4:
            with self._lock:
                self._held[tag] = body
