"""The process that forks those which work for a server is a fork of it: what it has of the server, and what takes its place."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import Server, descendants, make_run, start_server
from test_work_processes import alive, plan_of_the_folder, soon

from api.work_processes import one_thread

pytestmark = [pytest.mark.slow, pytest.mark.timing, pytest.mark.dear]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that answers, with a data root."""
    make_run(tmp_path / "data" / "run", steps=3)
    found = start_server(tmp_path, "--root", f"runs={tmp_path / 'data'}", command="api")
    yield found
    found.process.kill_all()


def words(pid: int) -> list[str]:
    """The command line of a process; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def forking(server: Server) -> int:
    """The one process that the server has started."""
    (found,) = (pid for pid in descendants(server.process.pid) if os.getpgid(pid) == pid)
    return found


def test_it_is_a_fork_in_a_group_of_its_own_that_holds_nothing_of_the_server(server: Server) -> None:
    pid = forking(server)
    assert words(pid) == words(server.process.pid)
    held = {int(entry.name): str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    assert held.pop(0) == held.pop(1) == os.devnull
    del held[2]  # the log
    (connection,) = held.values()
    assert connection.startswith("socket:")
    plan_of_the_folder(server)


def test_a_new_python_takes_its_place_when_it_has_died(server: Server) -> None:
    first = forking(server)
    os.kill(first, signal.SIGTERM)  # no handler of the server's
    soon(lambda: not alive(first))
    plan_of_the_folder(server)
    assert "api.work_server" in words(forking(server))


def test_it_ends_with_a_server_that_is_killed(server: Server) -> None:
    pid = forking(server)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.popen.wait(120)
    soon(lambda: not alive(pid))


def test_a_process_with_a_second_thread_does_not_fork() -> None:
    over = threading.Event()
    second = threading.Thread(target=over.wait)
    second.start()
    try:
        assert not one_thread()
    finally:
        over.set()
        second.join()
