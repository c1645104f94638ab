"""Connections of strangers: idle ones by the hundred, requests that do not come, bodies that do not end. The server goes on answering."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx2
import pytest
from service_process import Server, start_server

from api.connections import Connections, allowed, answered

DESCRIPTORS: Final = 128
HEAD: Final = (
    "POST /v1/plan HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may have few descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    try:
        found = start_server(tmp_path_factory.mktemp("connections"), command="api")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    yield found
    found.process.kill_all()


def connected(server: Server, sent: str = "") -> socket.socket:
    host, _, port = server.address.removeprefix("http://").rpartition(":")
    found = socket.create_connection((host, int(port)), timeout=120)
    found.sendall(sent.encode())
    return found


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("sent", ["", "GET /live HTTP/1.1\r\nHost:"], ids=["idle", "half a head"])
def test_it_answers_however_many_connections_are_idle(server: Server, sent: str) -> None:
    """With more of them than descriptors, the server's loop took a core and nobody was answered until they closed."""
    with ExitStack() as stack:
        for _ in range(3 * DESCRIPTORS):
            stack.enter_context(connected(server, sent))
        for _ in range(5):
            assert server.ask("/live")[0] == 200
        assert server.ask("/ready")[0] == 200
        assert server.ask("/v1/runs")[0] == 200
        begun, used = time.monotonic(), processor_seconds(server.process.pid)
        while time.monotonic() < begun + 2:
            time.sleep(0.1)
        share = (processor_seconds(server.process.pid) - used) / (time.monotonic() - begun)
    print(f"idle: {share:.0%} of a core")
    assert "out of system resource" not in server.process.text()


@pytest.mark.dear
@pytest.mark.timing
def test_it_lives_however_many_bodies_do_not_end_and_says_that_it_is_busy(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(3 * DESCRIPTORS):
            stack.enter_context(connected(server, HEAD))
        for _ in range(5):
            assert server.ask("/live")[0] == 200
        status, headers, problem = server.ask("/v1/runs")
        assert (status, problem["type"]) == (503, "urn:trajsvc:problem:too-busy")
        assert headers["retry-after"]
        assert "http_connections" in problem["hint"]
    until = time.monotonic() + 120
    while server.ask("/v1/runs")[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize(("sent", "answer"), [("", b""), ("GET /live HT", b""), (HEAD, b"HTTP/1.1 408")])
def test_what_does_not_come_is_not_waited_for(server: Server, sent: str, answer: bytes) -> None:
    with connected(server, sent) as one:
        found = b""
        while came := one.recv(2**16):
            found += came
    assert found.startswith(answer)
    assert bool(found) == bool(answer)
    assert not answer or b"urn:trajsvc:problem:body-slow" in found


@pytest.mark.timing
def test_a_connection_that_is_used_again_stays(server: Server) -> None:
    with httpx2.Client(base_url=server.address) as client:
        found = [client.get("/live") for _ in range(3)]
        stream = [found.extensions["network_stream"].get_extra_info("client_addr") for found in found]
    assert [f.status_code for f in found] == [200] * 3
    assert len(set(stream)) == 1


class One:
    """A connection that notes whether it was closed."""

    closed = False

    def abort(self) -> None:
        self.closed = True


def test_the_longest_idle_goes_first_and_one_that_is_answered_stays() -> None:
    connections, ones = Connections(3), [One() for _ in range(8)]
    for one in ones[:3]:
        connections.enter(one)
    connections.busy(ones[0])
    connections.enter(ones[3])
    assert [one.closed for one in ones] == [False, True, *[False] * 6]
    connections.idle(ones[0])
    connections.enter(ones[4])
    connections.enter(ones[5])
    assert [one.closed for one in ones] == [False, True, True, True, *[False] * 4]
    connections.enter(ones[6])
    assert ones[0].closed
    assert len(connections) == 3


def test_where_all_are_answered_the_new_one_goes() -> None:
    connections, ones = Connections(2), [One() for _ in range(3)]
    for one in ones[:2]:
        connections.enter(one)
        connections.busy(one)
    connections.enter(ones[2])
    assert [one.closed for one in ones] == [False, False, True]
    connections.idle(ones[2])
    assert len(connections) == 2
    connections.leave(ones[0])
    assert len(connections) == 1


def test_connections_leave_half_of_the_descriptors_to_the_rest() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert [allowed(n) for n in (1024, 100)] == [128, 100]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (answered(128), answered(8)) == (96, 6)
