"""What was asked of the tests' Hub: each request as it came, and sums over them."""

from __future__ import annotations

import copy
import threading
from typing import Any, Final, NamedTuple

KINDS: Final = ("refs", "tree", "commits", "models", "resolve", "cdn", "other")


class Seen(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    """with its query"""
    host: str
    authorization: str | None
    range: str | None


def kind_of(parts: list[str]) -> str:
    """Which of ``KINDS`` a request's path (in parts) is of."""
    if parts[:1] == ["_cdn"]:
        return "cdn"
    if parts[:2] == ["api", "models"]:
        return "models" if len(parts) == 2 else parts[4] if parts[4:5] and parts[4] in KINDS else "other"
    return "resolve" if parts[2:3] == ["resolve"] else "other"


class Record:
    """Counts of requests and of the bytes of their answers' bodies; shared by all threads of a server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.seen: list[Seen] = []
            self._most = self._in_flight
            self._sums: dict[str, Any] = {
                "requests": 0,
                "bytes": 0,
                "by_status": {},
                "kinds": dict.fromkeys(KINDS, 0),
                "paths": {},
            }

    def enter(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)
            self._in_flight += 1
            self._most = max(self._most, self._in_flight)

    def answer(self, kind: str, path: str, status: int, *, ranged: bool) -> None:
        """Count a request; called before its answer is sent, so that no client is ahead of the counts."""
        with self._lock:
            here = self._at(path)
            self._sums["requests"] += 1
            self._sums["kinds"][kind] += 1
            here["requests"] += 1
            here["ranged"] += ranged
            for statuses in (self._sums["by_status"], here["statuses"]):
                statuses[str(status)] = statuses.get(str(status), 0) + 1

    def sent(self, path: str, count: int) -> None:
        """Count bytes of a body; negative to take back what was not sent after all."""
        with self._lock:
            self._sums["bytes"] += count
            self._at(path)["bytes"] += count

    def leave(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def _at(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._sums["paths"].setdefault(
            path, {"requests": 0, "bytes": 0, "ranged": 0, "statuses": {}}
        )
        return found

    def as_json(self) -> dict[str, Any]:
        with self._lock:
            return copy.deepcopy(self._sums) | {"in_flight": self._in_flight, "most_in_flight": self._most}
