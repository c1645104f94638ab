"""Real jobs that stand still when a test wants to look: the processes that compute are stopped by signal and go on by signal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from service_process import Server, descendants, start_server

PAUSE = 5.0
"""seconds, more than a job leaves between two estimates of a small run"""
MEMORY = 40 * 2**20
"""so little that the job is many slabs, and can be held between them"""


@contextmanager
def slow_server(place: Path, *words: str) -> Iterator[SlowServer]:
    """``trajsvc serve`` with one worker, and everything stopped at the end."""
    server = SlowServer(start_server(place, "--workers", "1", *words))
    try:
        yield server
    finally:
        server.go_on()
        server.server.process.stop()


class SlowServer:
    """A server whose worker can be held. A held worker is a slow one: its job waits for it, everything else answers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.held: list[int] = []
        self.since = 0.0

    def hold(self) -> None:
        self.held = [pid for pid in descendants(self.server.process.pid) if "spawn_main" in _words(pid)]
        assert self.held
        _signal(self.held, signal.SIGSTOP)
        self.since = time.monotonic()

    def go_on(self) -> None:
        _signal(self.held, signal.SIGCONT)
        self.held = []

    def begin(self, source: str, name: str) -> dict[str, Any]:
        """A job that has been planned and of which nothing is computed yet."""
        self.go_on()
        for left in self.server.ask("/v1/jobs?state=running&state=accepted")[2]["items"]:
            self.server.wait(left["id"])  # of a test that failed
        self.hold()
        job = self.server.submit(source, name=name, memory=MEMORY)
        self._until(lambda: (self._job(job["id"])["progress"] or {}).get("phase") == "computing", job["id"])
        return job

    def digest(self, name: str) -> str | None:
        """That of what can be read under the run's name now."""
        status, _, answer = self.server.ask(f"/v1/runs/{name}")
        return str(answer["digest"]) if status == 200 else None

    def sharpen(self, job: dict[str, Any]) -> None:
        """Goes on until there is another estimate than before, and holds again."""
        before = self.digest(job["run"])
        # Held for longer than estimates are apart, the job makes the next one at once.
        time.sleep(max(0.0, self.since + PAUSE - time.monotonic()))
        self.go_on()
        self._until(lambda: self.digest(job["run"]) != before, job["id"], pause=0.0)
        self.hold()
        assert self._job(job["id"])["state"] == "running", "the job ended before it could be held: make its run larger"

    def finish(self, job: dict[str, Any]) -> dict[str, Any]:
        self.go_on()
        return self.server.wait(job["id"])

    def _job(self, job: str) -> dict[str, Any]:
        return dict(self.server.ask(f"/v1/jobs/{job}")[2])

    def _until(self, done: Any, job: str, pause: float = 0.05) -> None:
        while not done():
            assert self._job(job)["state"] in ("accepted", "running"), self._job(job)
            time.sleep(pause)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
