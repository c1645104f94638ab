"""Answers that were made before, by their ETag: a result depends on the run's committed bytes and on what was asked, on nothing else."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

ROOM: Final = 64 * 2**20


class Answers:
    """The answers used last, within ``ROOM`` bytes. Safe from any thread."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, tag: str) -> bytes | None:
        with self._lock:
            body = self._held.get(tag)
            if body is not None:
                self._held.move_to_end(tag)
            return body

    def put(self, tag: str, body: bytes) -> None:
        if len(body) > self.room // 4:
            return
        with self._lock:
            old = self._held.pop(tag, b"")
            self._held[tag] = body
            self._size += len(body) - len(old)
            while self._size > self.room:
                _, gone = self._held.popitem(last=False)
                self._size -= len(gone)
