"""Kept connections: their number, their ends, what is waited for and how long, and bodies of all kinds. The servers are scripted."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from scripted_server import Heard, ScriptedServer, answer

from trajsvc.sources.transport import connection
from trajsvc.sources.transport.cancel import Interrupted
from trajsvc.sources.transport.pool import ConnectionFailed, ConnectionPool
from trajsvc.sources.transport.url import Url

BODY = bytes(range(256)) * 4096

Serve = Callable[..., ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answering, tls=None: stack.enter_context(ScriptedServer(answering, tls))


@pytest.fixture
def pool() -> Iterator[ConnectionPool]:
    connections = ConnectionPool(4, connect_timeout=2.0, read_timeout=1.0)
    yield connections
    connections.close()


def whole(pool: ConnectionPool, url: str, headers: dict[str, str] | None = None) -> bytes:
    out, room = bytearray(), memoryview(bytearray(100_000))
    with pool.get(Url.parse(url), headers or {}) as got:
        assert got.status == 200
        while count := got.readinto(room):
            out += room[:count]
        got.discard()
    return bytes(out)


def ok(heard: Heard, sock: socket.socket) -> bool:
    sock.sendall(answer(200, BODY))
    return True


def test_a_connection_is_used_again(serve: Serve, pool: ConnectionPool) -> None:
    server = serve(ok)
    for _ in range(5):
        assert whole(pool, server.endpoint + "/x?y=%20z") == BODY
    assert server.accepted == 1
    assert server.heard[0].target == "/x?y=%20z"
    assert server.heard[0].headers["host"] == f"127.0.0.1:{server.port}"


def test_a_connection_whose_body_was_left_is_not(serve: Serve, pool: ConnectionPool) -> None:
    server = serve(ok)
    for _ in range(3):
        with pool.get(Url.parse(server.endpoint), {}) as got:
            assert got.readinto(memoryview(bytearray(10))) == 10
    assert server.accepted == 3
    with pool.get(Url.parse(server.endpoint), {}) as got:
        got.discard()  # too large to be read for a connection's sake
    assert whole(pool, server.endpoint) == BODY
    assert server.accepted == 5


def test_small_bodies_that_nobody_wants_do_not_cost_a_connection(serve: Serve, pool: ConnectionPool) -> None:
    def small(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(302, b"x" * 5000))
        return True

    server = serve(small)
    for _ in range(3):
        with pool.get(Url.parse(server.endpoint), {}) as got:
            got.discard()
    assert server.accepted == 1


def test_chunks_and_bodies_without_a_length(serve: Serve, pool: ConnectionPool) -> None:
    def chunked(heard: Heard, sock: socket.socket) -> bool:
        if heard.target == "/open":
            sock.sendall(answer(200, BODY, {"Content-Length": None}))
            return False
        sock.sendall(answer(200, b"", {"Content-Length": None, "Transfer-Encoding": "chunked"}))
        for at in range(0, len(BODY), 300_000):
            piece = BODY[at : at + 300_000]
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        sock.sendall(b"0\r\n\r\n")
        return True

    server = serve(chunked)
    assert whole(pool, server.endpoint + "/chunks") == BODY
    assert whole(pool, server.endpoint + "/chunks") == BODY
    assert whole(pool, server.endpoint + "/open") == BODY
    assert server.accepted == 1


def test_a_server_that_says_close_is_left(serve: Serve, pool: ConnectionPool) -> None:
    def closing(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(200, BODY, {"Connection": "close"}))
        return False

    server = serve(closing)
    assert whole(pool, server.endpoint) == whole(pool, server.endpoint) == BODY
    assert server.accepted == 2


@pytest.mark.timing
@pytest.mark.parametrize("early", [True, False])
def test_a_kept_connection_that_was_closed_is_replaced(serve: Serve, pool: ConnectionPool, early: bool) -> None:
    """Closed while idle, or at the very moment of the next request."""

    def once(heard: Heard, sock: socket.socket) -> bool:
        if early or heard.number in (0, 2):
            sock.sendall(answer(200, BODY))
            return not early
        return False

    server = serve(once)
    assert whole(pool, server.endpoint) == BODY
    time.sleep(0.1)
    assert whole(pool, server.endpoint) == BODY
    assert server.accepted == 2


def test_a_fresh_connection_that_is_closed_is_broken(serve: Serve, pool: ConnectionPool) -> None:
    server = serve(lambda heard, sock: False)
    with pytest.raises(ConnectionFailed, match="closed"):
        whole(pool, server.endpoint)
    assert server.accepted == 1


@pytest.mark.timing
def test_bytes_that_nobody_asked_for_do_not_begin_the_next_answer(serve: Serve, pool: ConnectionPool) -> None:
    def more(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(200, b"good"))
        time.sleep(0.05)
        sock.sendall(answer(200, b"evil"))
        return True

    server = serve(more)
    assert whole(pool, server.endpoint) == b"good"
    time.sleep(0.2)
    assert whole(pool, server.endpoint) == b"good"
    assert server.accepted == 2


@pytest.mark.parametrize(
    "words", [b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 70_000, b"\x16\x03\x01\0"]
)
def test_an_answer_that_is_no_http(serve: Serve, pool: ConnectionPool, words: bytes) -> None:
    def other(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(words)
        return False

    with pytest.raises(ConnectionFailed):
        whole(pool, serve(other).endpoint)


@pytest.mark.timing
def test_nothing_is_waited_for_longer_than_the_time_given(serve: Serve) -> None:
    pool = ConnectionPool(2, read_timeout=0.4)
    done = threading.Event()

    def silent(heard: Heard, sock: socket.socket) -> bool:
        if heard.target == "/half":
            sock.sendall(answer(200, BODY)[:5000])
        elif heard.target == "/head":
            sock.sendall(b"HTTP/1.1 200 O")
        done.wait(120)
        return False

    server = serve(silent)
    begun = time.monotonic()
    for target in ("/nothing", "/head", "/half"):
        with pytest.raises(ConnectionFailed, match="nothing came"):
            whole(pool, server.endpoint + target)
    assert 1.0 < time.monotonic() - begun < 60
    done.set()
    pool.close()


@pytest.mark.timing
def test_time_that_the_receiver_takes_is_not_held_against_the_server(serve: Serve) -> None:
    pool = ConnectionPool(1, read_timeout=0.3)
    server = serve(ok)
    with pool.get(Url.parse(server.endpoint), {}) as got:
        room, count = memoryview(bytearray(200_000)), 0
        while came := got.readinto(room):
            count += came
            time.sleep(0.15)
    assert count == len(BODY)
    pool.close()


@pytest.mark.timing
def test_at_most_so_many_at_once_and_those_who_wait_hear_stop(serve: Serve) -> None:
    pool = ConnectionPool(2, read_timeout=120.0)
    server = serve(ok)
    location = Url.parse(server.endpoint)
    stop = threading.Event()
    with pool.get(location, {}), pool.get(location, {}):
        threading.Timer(0.3, stop.set).start()
        begun = time.monotonic()
        with pytest.raises(Interrupted):
            pool.get(location, {}, stop.is_set)
        assert 0.2 < time.monotonic() - begun < 60
        assert server.accepted == 2
    assert whole(pool, server.endpoint) == BODY  # room was given back
    pool.close()


def test_room_is_given_back_whatever_happens(serve: Serve) -> None:
    pool = ConnectionPool(1, connect_timeout=0.5, read_timeout=0.5)
    server = serve(lambda heard, sock: False)
    for _ in range(3):
        with pytest.raises(ConnectionFailed):
            whole(pool, server.endpoint)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    for _ in range(3):
        with pytest.raises(ConnectionFailed, match="refused"):
            whole(pool, f"http://127.0.0.1:{port}/")
    with pytest.raises(ConnectionFailed, match="name"):
        whole(pool, "http://no-such-host.invalid/")
    assert whole(pool, serve(ok).endpoint) == BODY
    pool.close()


@pytest.mark.timing
def test_stop_is_heard_while_a_connection_is_made() -> None:
    with socket.socket() as listener:  # its backlog is full: further connections are neither taken nor refused
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.1)
        pool = ConnectionPool(1, connect_timeout=120.0)
        location = Url.parse(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        begun = time.monotonic()
        with pytest.raises(Interrupted):
            pool.get(location, {}, lambda: time.monotonic() - begun > 0.3)
        assert time.monotonic() - begun < 60
        pool = ConnectionPool(1, connect_timeout=0.6)
        with pytest.raises(ConnectionFailed, match="no connection"):
            pool.get(location, {})
        for filler in fillers:
            filler.close()
        pool.close()


@pytest.mark.timing
def test_stop_is_heard_while_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that does not answer is left behind."""
    over, asked = threading.Event(), threading.Event()

    def hanging(*_: object, **__: object) -> list[object]:
        asked.set()
        over.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    pool = ConnectionPool(1)
    with pytest.raises(Interrupted):
        pool.get(Url.parse("http://huggingface.invalid/"), {}, asked.is_set)
    assert not over.is_set()
    over.set()
    pool.close()


def drip(sock: socket.socket, piece: bytes, over: threading.Event) -> None:
    """Send ``piece`` again and again, slowly, until the other side closes."""
    while not over.wait(0.05):
        sock.sendall(piece)


@pytest.mark.timing
@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["a line", "lines", "continue", "a chunk's size", "trailers"],
)
def test_an_answer_that_comes_in_drops_is_given_up(serve: Serve, begin: bytes, piece: bytes) -> None:
    over, given_up = threading.Event(), []

    def dripping(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(begin)
        try:
            drip(sock, piece, over)
        except OSError:
            given_up.append(True)
        return False

    pool = ConnectionPool(1, read_timeout=0.4)
    server = serve(dripping)
    with pytest.raises(ConnectionFailed, match="came for"):
        whole(pool, server.endpoint)
    pool.close()
    server.wait_until(lambda: bool(given_up))
    over.set()


def test_a_head_of_too_many_lines_is_refused(serve: Serve, pool: ConnectionPool) -> None:
    def many(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(200, BODY, {f"X-{i}": i for i in range(int(heard.target[1:]))}))
        return True

    server = serve(many)
    assert whole(pool, server.endpoint + "/90") == BODY
    with pytest.raises(ConnectionFailed, match="no HTTP"):
        whole(pool, server.endpoint + "/110")


@pytest.mark.timing
def test_a_connection_that_was_idle_for_long_is_not_used_again(
    serve: Serve, pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(ok)
    assert whole(pool, server.endpoint) == BODY
    monkeypatch.setattr(connection, "KEPT", 0.0)
    assert whole(pool, server.endpoint) == BODY
    assert server.accepted == 2


def test_what_the_library_logs_does_not_show_signed_addresses(
    serve: Serve, pool: ConnectionPool, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\rbad: header\r\nno header\r\n\r\n")
        return False

    server = serve(odd)
    with caplog.at_level(logging.DEBUG):
        with pool.get(Url.parse(server.endpoint + "/x?Signature=secret"), {}) as got:
            assert got.status == 200
        logging.getLogger("urllib3.connectionpool").debug("of another user")
    assert "secret" not in caplog.text
    assert "of another user" in caplog.text


@pytest.mark.timing
def test_an_error_of_stop_itself_is_the_callers(serve: Serve, pool: ConnectionPool) -> None:
    asked = []

    def failing() -> bool:
        asked.append(True)
        if len(asked) > 1:
            raise LookupError("of the caller's own")
        return False

    done = threading.Event()
    server = serve(lambda heard, sock: done.wait(60) and False)
    with pytest.raises(LookupError, match="own"):
        pool.get(Url.parse(server.endpoint), {}, failing)
    done.set()
