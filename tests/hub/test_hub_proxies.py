"""Requests by way of a proxy, plain and encrypted, and which certificates are trusted. Proxy and servers are the tests' own."""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from scripted_server import Heard, ScriptedServer, answer, part

from trajsvc.errors import TrajsvcError
from trajsvc.sources.hub.remote_file import HubFetcher, HubFile
from trajsvc.sources.transport.cancel import Interrupted
from trajsvc.sources.transport.pool import ConnectionFailed, ConnectionPool
from trajsvc.sources.transport.scatter import Scatter
from trajsvc.sources.transport.url import Url

BODY = bytes(range(256)) * 2000
SECRET = "p@ss"

Serve = Callable[..., ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answering, tls=None: stack.enter_context(ScriptedServer(answering, tls))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key in one file, which nobody signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, made, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", made, "-days", "2"]
    words += ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + made.read_bytes())
    return both


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def ok(heard: Heard, sock: socket.socket) -> bool:
    sock.sendall(answer(200, BODY))
    return True


def relay(heard: Heard, sock: socket.socket) -> bool:
    """What a proxy does: CONNECT joins two connections, an absolute address is asked for on the client's behalf."""
    if heard.headers.get("proxy-authorization") != f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}":
        sock.sendall(answer(407))
        return False
    if heard.method == "CONNECT":
        host, _, port = heard.target.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as other:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(other, sock), daemon=True)
            back.start()
            pump(sock, other)
            with suppress(OSError):
                other.shutdown(socket.SHUT_RDWR)
            back.join(5)
        return False
    place, _, target = heard.target.removeprefix("http://").partition("/")
    name, _, port = place.partition(":")
    with socket.create_connection((name, int(port)), 5) as other:
        other.sendall(f"GET /{target} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        other.shutdown(socket.SHUT_WR)
        pump(other, sock)
    return True


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)


def through(monkeypatch: pytest.MonkeyPatch, proxy: ScriptedServer, *names: str, who: str = "me:p%40ss@") -> None:
    for name in names or ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://{who}127.0.0.1:{proxy.port}")


def get(url: str, pool: ConnectionPool | None = None, headers: dict[str, str] | None = None) -> bytes:
    out, room = bytearray(), memoryview(bytearray(100_000))
    own = pool or ConnectionPool(1, connect_timeout=2.0, read_timeout=2.0)
    try:
        with own.get(Url.parse(url), headers or {}) as got:
            assert got.status == 200
            while count := got.readinto(room):
                out += room[:count]
    finally:
        if pool is None:
            own.close()
    return bytes(out)


@pytest.mark.timing
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_plain_requests_are_made_by_the_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    server, proxy = serve(ok), serve(relay)
    through(monkeypatch, proxy, name)
    pool = ConnectionPool(1)
    for _ in range(2):
        assert get(server.endpoint + "/a?b=c", pool) == BODY
    pool.close()
    assert proxy.accepted == 1
    assert proxy.heard[0].target == f"http://127.0.0.1:{server.port}/a?b=c"
    assert proxy.heard[0].headers["host"] == f"127.0.0.1:{server.port}"
    assert "proxy-authorization" not in server.heard[0].headers


@pytest.mark.timing
def test_no_proxy_goes_around_it(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server, proxy = serve(ok), serve(relay)
    through(monkeypatch, proxy)
    monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
    assert get(server.endpoint) == BODY
    assert not proxy.heard
    assert server.heard[0].target == "/"


@pytest.mark.timing
def test_encrypted_requests_pass_through_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, certificate: Path, tls: ssl.SSLContext
) -> None:
    server, proxy = serve(ok, tls), serve(relay)
    through(monkeypatch, proxy)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    pool = ConnectionPool(1)
    for _ in range(2):
        assert get(server.endpoint + "/a", pool, {"Authorization": "Bearer secret"}) == BODY
    pool.close()
    assert [h.method for h in proxy.heard] == ["CONNECT"]
    assert "authorization" not in proxy.heard[0].headers
    assert server.heard[0].target == "/a"
    assert server.heard[0].headers["authorization"] == "Bearer secret"
    assert "proxy-authorization" not in server.heard[0].headers


@pytest.mark.timing
def test_what_a_proxy_refuses_is_said_without_its_password(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> None:
    server, proxy = serve(ok, tls), serve(relay)
    through(monkeypatch, proxy, who="me:wrong-secret@")
    fetcher = HubFetcher(server.endpoint, "hf_canary", backoff=0.01)
    with pytest.raises(TrajsvcError, match="credentials") as caught:
        fetcher.fetch(HubFile("org/run", "main", "a", 10), 0, 10, Scatter([(10, None)]))
    fetcher.close()
    assert len(proxy.heard) == 1  # it will not take them the next time either
    shown = "".join(traceback.format_exception(caught.value))
    for secret in ("wrong-secret", "hf_canary", "127.0.0.1", str(proxy.port)):
        assert secret not in shown


def test_a_proxy_that_cannot_connect(serve: Serve, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> None:
    def busy(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(503))
        return False

    server, proxy = serve(ok, tls), serve(busy)
    through(monkeypatch, proxy)
    with pytest.raises(ConnectionFailed, match="503"):
        get(server.endpoint)
    assert not server.heard


@pytest.mark.timing
def test_stop_is_heard_while_a_proxy_is_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> None:
    done = threading.Event()
    proxy = serve(lambda heard, sock: done.wait(60) and False)
    through(monkeypatch, proxy)
    pool = ConnectionPool(1, connect_timeout=60.0)
    with pytest.raises(Interrupted):
        pool.get(Url.parse("https://huggingface.invalid/"), {}, lambda: len(proxy.heard) == 1)
    done.set()
    pool.close()


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://", "http://h:port"])
def test_a_proxy_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConnectionFailed, match="HTTPS_PROXY") as caught:
        get("https://huggingface.invalid/")
    assert caught.value.final


@pytest.mark.timing
def test_a_proxy_need_not_name_its_scheme(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server, proxy = serve(ok), serve(relay)
    monkeypatch.setenv("HTTP_PROXY", f"me:p%40ss@127.0.0.1:{proxy.port}")
    assert get(server.endpoint) == BODY
    assert len(proxy.heard) == 1


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_authorities_of_the_environment_are_trusted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, certificate: Path, tls: ssl.SSLContext, name: str
) -> None:
    monkeypatch.setenv(name, str(certificate))
    assert get(serve(ok, tls).endpoint) == BODY


def test_no_one_else_is_trusted_and_that_is_said_at_once(serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(ok, tls)
    fetcher = HubFetcher(server.endpoint, "hf_canary")
    begun = time.monotonic()
    with pytest.raises(TrajsvcError, match="certificate") as caught:
        fetcher.fetch(HubFile("org/run", "main", "a", 10), 0, 10, Scatter([(10, None)]))
    fetcher.close()
    assert caught.value.kind == "hub-unreachable"
    assert time.monotonic() - begun < 30
    assert not server.heard
    assert server.accepted == 1


def test_a_bundle_that_is_none(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConnectionFailed, match="REQUESTS_CA_BUNDLE"):
        get(serve(ok, tls).endpoint)


def test_another_name_than_the_certificates_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, certificate: Path, tls: ssl.SSLContext
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = serve(ok, tls)
    with pytest.raises(ConnectionFailed, match="certificate"):
        get(f"https://localhost:{server.port}/")


@pytest.mark.timing
def test_ranges_over_tls_and_stop_during_a_handshake(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, certificate: Path, tls: ssl.SSLContext
) -> None:
    def ranges(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(part(BODY, *heard.range))
        return True

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetcher = HubFetcher(serve(ranges, tls).endpoint, None, connections=3)
    out = memoryview(bytearray(len(BODY)))
    file = HubFile("org/run", "main", "a", len(BODY))
    step = len(BODY) // 8
    fetcher.fetch_all([(file, i, i + step, Scatter([(step, out[i : i + step])])) for i in range(0, len(BODY), step)])
    fetcher.close()
    assert bytes(out) == BODY
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        pool = ConnectionPool(1, connect_timeout=120.0, read_timeout=120.0)
        with pytest.raises(Interrupted):
            pool.get(
                Url.parse(f"https://127.0.0.1:{silent.getsockname()[1]}/"),
                {},
                lambda: time.monotonic() - begun > 0.3,
            )
        assert time.monotonic() - begun < 60


def test_a_redirect_from_encrypted_to_plain_is_not_followed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, certificate: Path, tls: ssl.SSLContext
) -> None:
    storage = serve(ok)

    def leading(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(302, b"", {"Location": f"{storage.endpoint}/x?Signature=s"}))
        return True

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetcher = HubFetcher(serve(leading, tls).endpoint, "hf_canary")
    with pytest.raises(TrajsvcError) as caught:
        fetcher.fetch(HubFile("org/run", "main", "a", 10), 0, 10, Scatter([(10, None)]))
    fetcher.close()
    assert caught.value.kind == "hub-insecure"
    assert not storage.heard
