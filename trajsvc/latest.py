"""A few values by name, the ones used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """At most ``room`` values; the one that was not asked for longest goes first. Safe from any thread."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._held: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> T | None:
        with self._lock:
            if name not in self._held:
                return None
            self._held.move_to_end(name)
            return self._held[name]

    def put(self, name: str, value: T) -> None:
        with self._lock:
            self._held[name] = value
            self._held.move_to_end(name)
            while len(self._held) > self.room:
                self._held.popitem(last=False)
