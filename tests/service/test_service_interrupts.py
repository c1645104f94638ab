"""^C on the commands of the service, which have something to bring to an end first: exit code 130 and no traceback, as for all others."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_process import Process, Server, descendants, environment, make_run, start_server
from slow_params import slow_but

pytestmark = [pytest.mark.timing, pytest.mark.dear]
PATIENCE = 120.0


def wait_for(found: Callable[[], object], process: Process) -> None:
    """Wait until ``found`` is true; fails where the process has ended by then."""
    until = time.monotonic() + PATIENCE
    while not found():
        assert process.popen.poll() is None, process.text()
        assert time.monotonic() < until, process.text()
        time.sleep(0.05)


def interrupt(process: Process, *, times: int = 1) -> int:
    """The exit code after ^C. What it had started must be gone too."""
    started = descendants(process.pid)
    for _ in range(times):
        process.popen.send_signal(signal.SIGINT)
        time.sleep(0.2)
    code = process.popen.wait(PATIENCE)
    until = time.monotonic() + PATIENCE
    while left := [pid for pid in started if Path(f"/proc/{pid}/exe").exists()]:
        assert time.monotonic() < until, f"still there: {left}"
        time.sleep(0.05)
    assert "Traceback" not in process.text()
    assert "Exception ignored" not in process.text()
    return code


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Server]:
    """A server without a runner: its jobs wait."""
    make_run(tmp_path / "data" / "plain", steps=3)
    found = start_server(tmp_path, "--root", f"runs={tmp_path / 'data'}", command="api")
    yield found
    found.process.stop()


@pytest.mark.slow
@pytest.mark.parametrize("times", slow_but([1, 2], [2]))
def test_a_server_ends_with_its_runner(tmp_path: Path, times: int) -> None:
    server = start_server(tmp_path)
    wait_for(lambda: "runner-started" in server.process.text(), server.process)
    assert interrupt(server.process, times=times) == 130


@pytest.mark.slow
def test_a_server_without_a_runner_ends(api: Server) -> None:
    assert interrupt(api.process) == 130


@pytest.mark.slow
@pytest.mark.parametrize("number", slow_but([signal.SIGINT, signal.SIGTERM], [signal.SIGINT]))
def test_a_runner_ends(tmp_path: Path, number: signal.Signals) -> None:
    words = ["runner", "--workers", "1"]
    process = Process(words, tmp_path / "log", environment(TRAJSVC_STORE=str(tmp_path / "store")), tmp_path)
    try:
        wait_for(lambda: "runner-started" in process.text(), process)
        if number == signal.SIGINT:
            assert interrupt(process) == 130
        else:
            assert process.stop(PATIENCE) == 0
    finally:
        process.kill_all()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of a dask scheduler."""
    log = tmp_path / "scheduler.log"
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
    ]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        until = time.monotonic() + PATIENCE
        while "Scheduler at:" not in (text := log.read_text()):
            assert time.monotonic() < until, text
            time.sleep(0.05)
        yield next(word for word in text.split() if word.startswith("tcp://"))
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", slow_but([signal.SIGINT, signal.SIGTERM], [signal.SIGTERM]))
def test_a_worker_leaves_its_scheduler_and_ends(tmp_path: Path, scheduler: str, number: signal.Signals) -> None:
    process = Process(["worker", scheduler, "--processes", "1"], tmp_path / "log", environment(), tmp_path)
    try:
        wait_for(lambda: "Registered to" in process.text(), process)
        if number == signal.SIGINT:
            assert interrupt(process) == 130
        else:
            assert process.stop(PATIENCE) == 0
    finally:
        process.kill_all()


def test_a_job_that_is_followed_goes_on_without_the_one_who_waited(tmp_path: Path, api: Server) -> None:
    words = ["submit", "runs:plain", "--server", api.address, "--wait"]
    process = Process(words, tmp_path / "log", environment(), tmp_path)
    try:
        wait_for(lambda: "accepted" in process.text(), process)
        assert interrupt(process) == 130
    finally:
        process.kill_all()
    assert process.text().split() == ["accepted", "interrupted"]
    (job,) = api.ask("/v1/jobs")[2]["items"]
    assert job["state"] == "accepted"
