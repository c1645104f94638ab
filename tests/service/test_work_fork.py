"""The process that forks those which work for a server is a fork of it: what it has of the server, and what takes its place."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
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
    """The one process that the server has started, once it has a group of its own."""

    def leaders() -> list[int]:
        found = []
        for pid in descendants(server.process.pid):
            with suppress(ProcessLookupError):
                found += [pid] if os.getpgid(pid) == pid else []
        return found

    (found,) = soon(leaders)
    return int(found)


def held(pid: int) -> dict[int, str]:
    """What each descriptor of a process leads to; one that is closed meanwhile is left out."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[int(entry.name)] = str(entry.readlink())
    return found


def only_the_socket(pid: int) -> bool:
    """Whether a process has the null device, the log and one socket: while it imports it opens other files for an instant."""
    found = held(pid)
    rest = [path for number, path in found.items() if number > 2]
    return found[0] == found[1] == os.devnull and len(rest) == 1 and rest[0].startswith("socket:")


def test_it_is_a_fork_in_a_group_of_its_own_that_holds_nothing_of_the_server(server: Server) -> None:
    pid = forking(server)
    assert words(pid) == words(server.process.pid)
    soon(lambda: only_the_socket(pid))
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
    server.process.popen.wait(600)
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


def test_a_server_that_ends_before_it_knows_of_the_other_leaves_no_traceback() -> None:
    """A socket that is closed with something unread is reset, which is no end as one that was read to its end has."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, "-m", "api.work_server"], stdin=theirs, stderr=subprocess.PIPE)
    with process:
        try:
            assert select.select([ours], [], [], 300.0)[0], "it says that it is ready"
            ours.close()
            _, said = process.communicate(timeout=300.0)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, b"")
