"""A cache of response bodies by ETag. A result depends only on the run's committed bytes and on the request."""

from __future__ import annotations

import threading
from typing import Final

from cachetools import LRUCache

ROOM: Final = 64 * 2**20


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
