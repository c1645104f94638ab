"""Runs, clusters and hindrances for the tests of what computes on dask."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from storage_schema.runs.store import RunStore
from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.observer import NullObserver, Outcome
from trajsvc.analysis.options import Options
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.gram.engine import Progress, SlabPool
from trajsvc.sources.resolve import open_source
from workers.cluster import Cluster

REPOSITORY = Path(__file__).resolve().parents[2]
NANO = REPOSITORY / "examples" / "pythia-nano"
SMALL = 34 * 2**20
"""bytes of memory with which a run of ``make_run`` has two dozen slabs"""
OPTIONS = Options(memory=SMALL, threads=2)


def make_run(
    folder: Path, steps: int = 12, tensors: int = 8, size: int = 2**17, first: int = 0, corrupted: int = -1
) -> Path:
    """Checkpoints of float32 with nothing known about their architecture; the later ones of the same walk from ``first`` on. The
    ``corrupted`` one is a hundred thousand times too large."""
    rng = np.random.default_rng(5)
    values = {f"layers.{i}.weight": rng.normal(size=(size // 256, 256)).astype(np.float32) for i in range(tensors)}
    for step in range(steps):
        if step >= first:
            place = folder / f"step{step * 10}"
            place.mkdir(parents=True)
            factor = np.float32(1e5 if step == corrupted else 1.0)
            save_file({n: v * factor for n, v in values.items()}, place / "model.safetensors")
        for value in values.values():
            value += (1e-3 * rng.normal(size=value.shape)).astype(np.float32)
    return folder


def analyse(
    folder: Path,
    store: Path,
    pool: SlabPool,
    options: Options = OPTIONS,
    watch: NullObserver | None = None,
    stop: Any = None,
) -> Outcome:
    source = open_source(str(folder))
    try:
        return run_analysis(
            AnalysisJob(source, store, "run", options, pool, watch or NullObserver(), stop or threading.Event())
        )
    finally:
        source.close()


def bits(store: Path, name: str = "run") -> dict[str, bytes]:
    """Everything of a stored run that a computation made, bit by bit."""
    run = RunStore(store).open(name)
    contents = run.contents()
    out = {n: np.asarray(getattr(contents, n)).tobytes() for n in ("gram", "rounding", "nonfinite", "changes")}
    out["rows"] = b"" if contents.rows is None else contents.rows.norms.tobytes()
    out["fingerprint"] = "\n".join(contents.checkpoints.fingerprint).encode()
    if contents.trees is not None:
        out |= {
            f"trees {n}": np.asarray(getattr(contents.trees, n)).tobytes() for n in ("block", "start", "scale", "gram")
        }
    if run.has_theta and run.theta is not None:
        row = bytearray(run.theta.columns * run.theta.itemsize)
        for number in range(run.theta.rows):
            run.read_theta(number, 0, run.theta.columns, memoryview(row))
            out[f"theta {number}"] = bytes(row)
    return out


def generation(store: Path, name: str = "run") -> int:
    return RunStore(store).open(name).generation


@dataclass
class Watch(NullObserver):
    """Calls ``act`` once, when ``at`` slabs are added up; keeps how far the work had come each time."""

    at: int = 10**9
    act: Callable[[], object] = lambda: None
    cursors: list[int] = field(default_factory=list)
    acted: bool = False

    def progress(self) -> Callable[[Progress], None]:
        return self._show

    def _show(self, progress: Progress) -> None:
        self.cursors.append(progress.state.cursor)
        if progress.state.cursor >= self.at and not self.acted:
            self.acted = True
            self.act()


def slow_down(seconds: float) -> None:
    """Run on a worker: reading a slab takes ``seconds`` more, unless the job is stopped."""
    from trajsvc.gram.slab_worker import SlabWorker

    real = getattr(SlabWorker, "real_load", SlabWorker._load)
    SlabWorker.real_load = real  # type: ignore[attr-defined]

    def load(self: Any, slab: Any, result: Any, cancelled: Callable[[], bool]) -> Any:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not cancelled():
            time.sleep(0.01)
        return real(self, slab, result, cancelled)

    SlabWorker._load = load  # type: ignore[method-assign]


def busy_threads(dask_worker: Any) -> int:
    return len(dask_worker.active_threads)


@contextmanager
def slowly(cluster: Cluster, seconds: float) -> Iterator[None]:
    client = cluster.client()
    client.run(slow_down, seconds)
    try:
        yield
    finally:
        cluster.client().run(slow_down, 0.0)


def wait_for(fact: Callable[[], object], seconds: float = 600.0, what: str = "it") -> None:
    until = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Farm:
    """A scheduler and workers as processes of their own, on one port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])
        with (self.folder / "farm.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *words], stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path}, cwd=self.folder
            )  # fmt: skip

    def start_scheduler(self) -> None:
        words = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self.scheduler = self._start("distributed.cli.dask_scheduler", *words)

    def start_workers(self, count: int = 2) -> None:
        words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0", "--host", "127.0.0.1")
        self.workers += [self._start("distributed.cli.dask_worker", self.address, *words) for _ in range(count)]

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def alive(self) -> int:
        return sum(worker.poll() is None for worker in self.workers)

    def tend(self, over: threading.Event) -> None:
        """Keep two workers alive until ``over``, as whoever runs them does: a worker without its scheduler ends."""
        while not over.wait(0.2):
            if self.alive() < 2:
                self.start_workers(2 - self.alive())

    def close(self) -> None:
        for process in (*self.workers, *([self.scheduler] if self.scheduler else [])):
            process.kill()
            process.wait()

    def log(self) -> str:
        return (self.folder / "farm.log").read_text("utf-8", "replace")[-4000:]
