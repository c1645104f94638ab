"""Processes that plan for a server: told to stop, killed, dead, orphaned; and what is answered then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from service_process import Server, descendants, make_run, start_server
from test_long_work import asking, hostile

pytestmark = [pytest.mark.timing, pytest.mark.dear]


@contextmanager
def planning(folder: Path, **settings: str) -> Iterator[tuple[Server, Callable[[], Future[Any]]]]:
    """A server whose Hub hangs, and a function that asks it for a plan in a thread."""
    make_run(folder / "data" / "run", steps=3)
    with hostile("silence", "refs") as hub, ThreadPoolExecutor(4) as pool:
        given = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "TRAJSVC_HUB_SECONDS": "600", **settings}
        server = start_server(folder, "--root", f"runs={folder / 'data'}", command="api", **given)
        try:
            yield server, lambda: pool.submit(server.ask, "/v1/plan", method="POST", body={"source": "hf://org/run"})
        finally:
            server.process.kill_all()


def soon(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What ``what`` gives once it is true."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def workers(server: Server) -> list[int]:
    """The processes that plan, without the one that forked them."""
    return [pid for first in descendants(server.process.pid)[:1] for pid in descendants(first)]


def working(server: Server) -> int:
    """The one process that works: it has asked the Hub something."""
    return int(soon(lambda: [p for p in workers(server) if sockets(p) > 1])[0])


def sockets(pid: int) -> int:
    """How many sockets a process has open."""
    found = 0
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found += str(entry.readlink()).startswith("socket:")
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def plan_of_the_folder(server: Server) -> None:
    status, _, plan = server.ask("/v1/plan", method="POST", body={"source": "runs:run"})
    assert status == 200, plan
    assert plan["steps"] == [0, 10, 20]


@pytest.mark.slow
def test_one_that_does_not_stop_for_a_client_that_went_is_killed(tmp_path: Path) -> None:
    with planning(tmp_path) as (server, _):
        client = asking(server)
        pid = working(server)
        os.kill(pid, signal.SIGSTOP)  # it cannot hear that it is to stop
        client.close()
        soon(lambda: not alive(pid))
        plan_of_the_folder(server)


@pytest.mark.slow
def test_one_that_takes_too_long_is_killed_and_the_answer_says_so(tmp_path: Path) -> None:
    with planning(tmp_path, TRAJSVC_PLAN_SECONDS="1") as (server, ask):
        asked = ask()
        pid = working(server)
        os.kill(pid, signal.SIGSTOP)
        status, headers, problem = asked.result(600)
        assert (status, problem["type"]) == (503, "urn:trajsvc:problem:planning-slow")
        assert "plan_seconds" in problem["detail"]
        assert int(headers["retry-after"]) > 0
        soon(lambda: not alive(pid))
        plan_of_the_folder(server)


@pytest.mark.slow
def test_one_that_dies_is_an_answer_and_the_next_plan_is_made(tmp_path: Path) -> None:
    with planning(tmp_path) as (server, ask):
        plan_of_the_folder(server)
        for pid in workers(server):
            os.kill(pid, signal.SIGKILL)  # one that waits to be asked again
        plan_of_the_folder(server)
        asked = ask()
        os.kill(working(server), signal.SIGKILL)
        status, headers, problem = asked.result(600)
        assert (status, problem["type"]) == (503, "urn:trajsvc:problem:planning-died")
        assert int(headers["retry-after"]) > 0
        for pid in (*workers(server), *descendants(server.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # the one that forks too
        plan_of_the_folder(server)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_none_outlives_the_server(end: signal.Signals, tmp_path: Path) -> None:
    with planning(tmp_path) as (server, ask):
        plan_of_the_folder(server)
        asked = ask()
        working(server)
        started = descendants(server.process.pid)
        assert len(started) >= 2
        os.kill(server.process.pid, end)
        soon(lambda: not any(alive(pid) for pid in started))
        server.process.popen.wait(600)
        asked.exception(120)
