"""The end of a server whose processes do not run any more (SIGSTOP, a debugger, a frozen container) or do not obey."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from service_process import descendants, environment, start_server
from test_service_interrupts import wait_for
from test_work_processes import alive, soon

from trajsvc.cli import service

pytestmark = [pytest.mark.timing, pytest.mark.dear]
WORKER = "import time; time.sleep(1000)"
CLUSTER = """
import multiprocessing, os, signal, sys
from workers import cluster

cluster.CLOSE_SECONDS = 2.0
made = cluster.Cluster(workers=2)
made.client()
pids = [child.pid for child in multiprocessing.active_children()]
for pid in pids:
    os.kill(pid, signal.SIGSTOP)
print(*pids, flush=True)
made.close()
"""
STUBBORN = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {WORKER!r}])
print(child.pid, flush=True)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(1000)
"""


@pytest.mark.slow
def test_a_server_whose_processes_are_stopped_ends_in_order(tmp_path: Path) -> None:
    """It waited for its runner for as long as it may take to end, 30 s."""
    server = start_server(tmp_path, "--workers", "1")
    try:
        wait_for(lambda: "runner-started" in server.process.text(), server.process)
        started = descendants(server.process.pid)
        for pid in started:
            os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        server.process.popen.terminate()
        server.process.popen.wait(120)
        print(f"ended {time.monotonic() - begun:.1f} s after SIGTERM")
        soon(lambda: not any(alive(pid) for pid in started))
        assert "runner-stopped" in server.process.text()
    finally:
        server.process.kill_all()


@pytest.mark.slow
def test_a_cluster_whose_workers_are_stopped_ends_with_them(tmp_path: Path) -> None:
    """Python waits for the processes that it started when it ends: for stopped ones it waited for ever."""
    told = tmp_path / "told"
    with told.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", CLUSTER], stdout=out, stderr=out, env=environment())
    try:
        assert process.wait(120) == 0, told.read_text()
    finally:
        process.kill()
        process.wait()
    pids, _, more = told.read_text().partition("\n")
    assert len(pids.split()) == 2
    assert not any(alive(int(pid)) for pid in pids.split())
    assert "cluster-not-closed" in more


def test_one_that_does_not_obey_is_killed_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "DRAIN", 0.5)
    told = tmp_path / "pid"
    command = [sys.executable, "-c", STUBBORN, str(told)]
    with service.Supervised(command, dict(os.environ)):
        child = int(soon(lambda: told.exists() and told.read_text()))
        assert alive(child)
    soon(lambda: not alive(child))


def test_one_that_begins_while_all_ends_ends_too(tmp_path: Path) -> None:
    with service.Supervised([sys.executable, "-c", WORKER], dict(os.environ)) as supervised:
        supervised.stop()
    process = supervised._process
    assert process is None or process.poll() is not None
