"""Real processes of the service, on free ports: what the tests of every door start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
HUB = REPOSITORY / "tests" / "hub" / "hub_server.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """This environment without settings of anybody's, and with ``more``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRAJSVC_", "HF_", "HUGGING_FACE"))}
    path = os.pathsep.join(filter(None, [str(REPOSITORY), kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, "TRAJSVC_THREADS": "2", "HF_HUB_DISABLE_TELEMETRY": "1", **more}


@dataclass
class Process:
    """A process of trajsvc; ``log`` is what it wrote."""

    words: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    cwd: Path | None = None
    popen: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        with self.log.open("ab") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "trajsvc", *self.words], stdout=out, stderr=out, env=dict(self.environment),
                cwd=self.cwd, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.popen.pid

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def kill(self) -> None:
        """kill -9, this process alone."""
        self.popen.kill()
        self.popen.wait()

    def kill_all(self) -> None:
        """kill -9 for the process and everything that it started in its session."""
        for pid in descendants(self.popen.pid):
            _signal(pid, signal.SIGKILL)
        self.popen.kill()
        self.popen.wait()

    def stop(self, seconds: float = 120.0) -> int:
        """SIGTERM; returns the exit status."""
        started = descendants(self.popen.pid)
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(seconds)
        finally:
            for pid in (self.popen.pid, *started):
                _signal(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Every process that ``pid`` started, directly or not."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@dataclass
class Server:
    """A server that answers; ``process`` is ``trajsvc serve`` or ``trajsvc api``."""

    address: str
    store: Path
    process: Process
    token: str | None = None

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        raw: bool = False,
    ) -> tuple[int, dict[str, str], Any]:
        """(status, headers, JSON or bytes) of any answer, errors too."""
        given = dict(headers or {})
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            given.setdefault("content-type", "application/json")
        if self.token and "authorization" not in {name.lower() for name in given}:
            given["authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.address + path, data=data, headers=given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=600) as got:
                status, found, content = got.status, got.headers, got.read()
        except urllib.error.HTTPError as error:
            with error:
                status, found, content = error.code, error.headers, error.read()
        names = {k.lower(): v for k, v in found.items()}
        plain = not raw and "json" in names.get("content-type", "")
        return status, names, json.loads(content) if plain and content else content

    def submit(self, source: str, **choices: Any) -> dict[str, Any]:
        status, _, job = self.ask("/v1/runs", method="POST", body={"source": source, **choices})
        assert status in (200, 202), job
        return dict(job)

    def wait(self, job: str, seconds: float = 300.0, state: str | None = None) -> dict[str, Any]:
        """The job once it is final, or in ``state``."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            _, _, found = self.ask(f"/v1/jobs/{job}")
            if found["state"] == state or found["state"] in ("succeeded", "failed", "cancelled"):
                return dict(found)
            time.sleep(0.1)
        raise AssertionError(f"job {job} is {found['state']} after {seconds} s: {found}\n{self.process.text()[-3000:]}")


def wait_ready(address: str, process: Process, seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.popen.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/live", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the server does not answer:\n{process.text()}")


def start_server(folder: Path, *words: str, command: str = "serve", port: int = 0, **settings: str) -> Server:
    """``trajsvc serve`` (or ``api``) with a store in ``folder``; settings are variables of the environment."""
    port = port or free_port()
    store = folder / "store"
    given = environment(TRAJSVC_STORE=str(store), **settings)
    process = Process([command, "--port", str(port), *words], folder / f"{command}.log", given, folder)
    server = Server(f"http://127.0.0.1:{port}", store, process, settings.get("TRAJSVC_TOKEN"))
    try:
        wait_ready(server.address, process)
    except BaseException:
        process.kill_all()
        raise
    return server


def make_run(folder: Path, steps: int = 12, tensors: int = 6, size: int = 2**16, seed: int = 0) -> Path:
    """A run of float32 checkpoints with nothing known about its architecture."""
    rng = np.random.default_rng(seed)
    values = {f"layers.{i}.weight": rng.normal(size=(size // 256, 256)).astype(np.float32) for i in range(tensors)}
    for step in range(steps):
        place = folder / f"step{step * 10}"
        place.mkdir(parents=True)
        save_file(values, place / "model.safetensors")
        for value in values.values():
            value += (1e-3 * rng.normal(size=value.shape)).astype(np.float32)
    return folder


def start_hub(root: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The tests' Hub with the folders below ``root`` as repositories ``local/<folder>``."""
    port = free_port()
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, str(HUB), "--root", str(root), "--port", str(port)], stdout=out, stderr=out
        )
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{address}/_stats", timeout=5):
                return process, address
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError(log.read_text())
