"""SIGTERM in the middle of each kind of work: the server ends, and so does everything that it started."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest
from in_process import trajsvc
from service_process import Server, descendants, make_run, start_server
from test_long_work import ENDED
from test_work_processes import alive, soon

pytestmark = pytest.mark.timing
RUN: Final = "/v1/runs/small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run."""
    found = tmp_path_factory.mktemp("endings")
    source = make_run(found / "small", steps=6, tensors=4, size=2**20)
    trajsvc("analyze", str(source), "--store", str(found / "store"), "--no-figures", "--copy")
    return found


def sent(server: Server, text: str) -> socket.socket:
    """A connection through which ``text`` was sent."""
    host, _, port = server.address.removeprefix("http://").rpartition(":")
    found = socket.create_connection((host, int(port)), timeout=600)
    found.sendall(text.replace("\n", "\r\n").encode())
    return found


def computed(server: Server, path: str) -> socket.socket:
    """A connection for whose answer a process works."""
    found = sent(server, f"GET {path} HTTP/1.1\nHost: 127.0.0.1\n\n")
    soon(lambda: [p for first in descendants(server.process.pid)[:1] for p in descendants(first)])
    return found


def upload(server: Server) -> socket.socket:
    """A body that does not end."""
    head = "POST /v1/plan HTTP/1.1\nHost: 127.0.0.1\nContent-Type: application/json\nContent-Length: 1000\n\n"
    return sent(server, head + '{"source": ')


def slow_reader(server: Server) -> socket.socket:
    """A client that reads the first bytes of a file of 4 MiB and no more."""
    status, _, listed = server.ask(f"{RUN}/zarr/zarr.json")
    assert status == 200, listed
    found = sent(server, f"GET {RUN}/zarr/theta/c/0/0 HTTP/1.1\nHost: 127.0.0.1\n\n")
    assert found.recv(10) == b"HTTP/1.1 2"
    return found


def events(server: Server) -> socket.socket:
    """A job's events, of a job that waits: nothing runs jobs here."""
    job = server.submit("d:small")
    found = sent(server, f"GET /v1/jobs/{job['id']}/events HTTP/1.1\nHost: 127.0.0.1\n\n")
    assert found.recv(10) == b"HTTP/1.1 2"
    return found


KINDS: Final[dict[str, Callable[[Server], socket.socket]]] = {
    "figure": lambda server: computed(server, f"{RUN}/layers?f=png"),
    "export": lambda server: computed(server, f"{RUN}/export?f=csv"),
    "upload": upload,
    "slow reader": slow_reader,
    "events": events,
}


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    found = start_server(folder, "--root", f"d={folder}", command="api")
    yield found
    found.process.kill_all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_ends_the_server_whatever_is_running(kind: str, server: Server) -> None:
    with closing(KINDS[kind](server)):
        _ended(server, kind)


@pytest.mark.slow
def test_sigterm_ends_the_server_with_many_of_each_kind(server: Server) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        for made in pool.map(lambda open_: open_(server), [one for one in KINDS.values() for _ in range(4)]):
            stack.enter_context(closing(made))
        _ended(server, "four of each")


def _ended(server: Server, what: str) -> None:
    started = descendants(server.process.pid)
    begun = time.monotonic()
    server.process.popen.terminate()
    assert server.process.popen.wait(600) in ENDED
    print(f"{what}: ended {time.monotonic() - begun:.1f} s after SIGTERM")
    soon(lambda: not any(alive(pid) for pid in started))
