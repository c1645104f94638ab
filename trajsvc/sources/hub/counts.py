"""What was done over the network so far, counted by all threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """A moment's state: ``requests`` are those answered, ``resolves`` those of them that asked the Hub itself, ``served`` those that
    brought what was asked for; the bytes of a body are counted at its end."""

    requests: int = 0
    resolves: int = 0
    served: int = 0
    retries: int = 0
    bytes: int = 0


class Tally:
    """Counts as they grow. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts = Counts()

    def add(self, *, requests: int = 0, resolves: int = 0, served: int = 0, retries: int = 0, bytes: int = 0) -> None:
        with self._lock:
            c = self.counts
            self.counts = Counts(
                c.requests + requests, c.resolves + resolves, c.served + served, c.retries + retries, c.bytes + bytes
            )
