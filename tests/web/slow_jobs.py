"""Real jobs that stand still when a test wants to look: their worker begins no slab before it is let through a gate.

What a job shows follows from how many slabs it has, however slow or busy the machine is: nothing here depends on being quick enough.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service_process import Server, start_server

MEMORY = 40 * 2**20
"""so little that a job is many slabs"""
SECONDS = 120.0
GATE = Path(__file__).with_name("worker_gate.py")


@contextmanager
def slow_server(place: Path, *words: str) -> Iterator[SlowServer]:
    """``trajsvc serve`` with one worker behind a gate, and everything stopped at the end."""
    gate = place / "gate"
    gate.mkdir()
    preload = {"DASK_DISTRIBUTED__WORKER__PRELOAD": str(GATE), "GATE": str(gate)}
    server = SlowServer(start_server(place, "--workers", "1", *words, **preload), gate)
    try:
        yield server
    finally:
        server.go_on()
        server.server.process.stop()


class SlowServer:
    """A server whose worker can be held. A held worker is a slow one: its job waits for it, everything else answers."""

    def __init__(self, server: Server, gate: Path) -> None:
        self.server, self.gate = server, gate
        self.over: set[str] = set()
        """sessions of jobs before this one"""
        self._named = 0

    def go_on(self) -> None:
        (self.gate / "allowed").unlink(missing_ok=True)

    def begin(self, source: str, name: str) -> dict[str, Any]:
        """A job that has been planned and of which nothing is computed yet; its run's name begins with ``name``, and is new."""
        self.go_on()
        for left in self.server.ask("/v1/jobs?state=running&state=accepted")[2]["items"]:
            self.server.wait(left["id"])  # of a test that failed
        self.over |= self._sessions()
        self._allow(0)
        job = self.server.submit(source, name=self.new(name), memory=MEMORY)
        self._until(lambda: (self._job(job["id"])["progress"] or {}).get("phase") == "computing", job["id"])
        return job

    def new(self, name: str) -> str:
        """A name that no job of this server had: the same work under the same name is the job that has done it."""
        self._named += 1
        return f"{name}-{self._named:04}"

    def digest(self, name: str) -> str | None:
        """That of what can be read under the run's name now."""
        status, _, answer = self.server.ask(f"/v1/runs/{name}")
        return str(answer["digest"]) if status == 200 else None

    def sharpen(self, job: dict[str, Any]) -> None:
        """Goes on slab by slab until there is another estimate than before; the job stands still again."""
        before = self.digest(job["run"])
        while self.digest(job["run"]) == before:
            self._one_slab(job["id"])
        row = self.server.ask(f"/v1/runs/{job['run']}")[2]["row"]
        assert row["estimate"], f"the run is exact before the job is let go on: {row}"

    def _one_slab(self, job: str) -> None:
        """Lets the worker compute one more slab, and waits until the runner has made of it what it makes of it."""
        progress = self._job(job)["progress"]
        slabs, total = progress["slabs"] + 1, progress["slabs_total"]
        assert slabs < total, f"all of the job's {total} slabs are needed for an estimate: give it more of them"
        self._allow(slabs)
        # Progress is told after the estimate is there.
        self._until(lambda: self._job(job)["progress"]["slabs"] == slabs, job)

    def finish(self, job: dict[str, Any]) -> dict[str, Any]:
        self.go_on()
        return self.server.wait(job["id"])

    def _allow(self, tasks: int) -> None:
        new = self.gate / "new"
        new.write_text(json.dumps({"tasks": tasks, "over": sorted(self.over)}))
        new.replace(self.gate / "allowed")

    def _sessions(self) -> set[str]:
        return {path.name.partition(".")[0] for path in self.gate.glob("trajsvc-stop-*")}

    def _job(self, job: str) -> dict[str, Any]:
        return dict(self.server.ask(f"/v1/jobs/{job}")[2])

    def _until(self, done: Callable[[], bool], job: str) -> None:
        end = time.monotonic() + SECONDS
        while not done():
            found = self._job(job)
            assert found["state"] in ("accepted", "running"), found
            assert time.monotonic() < end, f"not after {SECONDS:g} s: {found}, {sorted(self.gate.iterdir())}"
            time.sleep(0.05)
