"""The edges of a request: names, origins, sites, bodies, headers and cursors that no honest client sends. None is a 500, and every
refusal is a typed problem."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing
from asgi_asking import LOCAL, App
from hypothesis import given, settings
from hypothesis import strategies as st
from service_process import Server, make_run, start_server

from api import headers
from api.bodies import DEPTH


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp("edges")
    make_run(folder / "data" / "run", steps=2, tensors=1, size=256)
    return App(folder, ("server.example", "fd00::1"), runs=folder / "data")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:8000", "LOCALHOST:1", "localhost:65535", "[::1]", "[::1]:80", "[0:0:0:0:0:0:0:1]:80",
        "Server.Example:443", "[fd00::1]:8000",
    ],
)  # fmt: skip
def test_the_servers_own_names_are_answered(app: App, host: str) -> None:
    assert app.ask("/live", headers=[(b"host", host.encode())]).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:1.evil.com", "localhost:1@evil.com", "localhost:99999999", "localhost:65536", "localhost:0",
        "localhost:", "localhost:+1", "localhost:1 ", "127.0.0.1:1, evil.com", "127.0.0.1,evil.com", "evil.com", "",
        "localhost.evil.com", "localhost.", "user@localhost", "localhost/", "localhost#", "localhost?x", "::1", "[::1",
        "::1]", "[::1]evil.com", "[::1]:1:2", "[::1%25lo]", "127.0.0.1:1\t", "127.1", "2130706433", "0x7f.0.0.1",
        "localhost:１", "localhost:²",
    ],
)  # fmt: skip
def test_any_other_host_is_refused(app: App, host: str) -> None:
    found = app.ask("/live", headers=[(b"host", host.encode("utf-8"))])
    assert (found.status, found.kind) == (421, "bad-host")


def test_a_host_that_is_missing_or_there_twice_is_refused(app: App) -> None:
    assert app.ask("/live", headers=[]).kind == "bad-host"
    assert app.ask("/live", headers=[*LOCAL, (b"host", b"evil.com")]).kind == "bad-host"
    assert app.ask("/live", headers=[*LOCAL, *LOCAL]).kind == "bad-host"


def test_where_any_name_does_it_must_still_be_one(tmp_path: Path) -> None:
    anyone = App(tmp_path, None)
    assert anyone.ask("/live", headers=[(b"host", b"any.example:80")]).status == 200
    assert anyone.ask("/live", headers=[(b"host", b"any.example:80@evil.com")]).kind == "bad-host"


@pytest.mark.parametrize(
    "origin",
    [
        "http://[::1", "http://a]b", "http://[", "null", "", "http://", "http://127.0.0.1:8001", "http://127.0.0.1:8000/",
        "http://127.0.0.1:8000.evil.com", "http://evil.com", "ftp://127.0.0.1:8000", "http://x@127.0.0.1:8000",
        "http://127.0.0.1:8000, http://evil.com", "127.0.0.1:8000", "http://127.0.0.1:99999", "\x80\xff", "http://\x00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/runs", "/v1/plan", "/v1/audit", "/v1/jobs/" + "0" * 32 + "/retry"])
def test_a_write_from_another_origin_is_refused_however_it_is_spelt(app: App, origin: str, path: str) -> None:
    found = app.post(path, {"source": "runs:run"}, [*LOCAL, (b"origin", origin.encode("latin-1"))])
    assert (found.status, found.kind) == (403, "bad-origin")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"), ("localhost", "http://localhost"),
        ("localhost:80", "http://LOCALHOST"), ("server.example", "https://server.example"),
        ("[::1]:8000", "http://[::1]:8000"),
    ],
)  # fmt: skip
def test_a_write_from_the_servers_own_page_is_taken(app: App, host: str, origin: str) -> None:
    found = app.post("/v1/plan", {"source": "runs:run"}, [(b"host", host.encode()), (b"origin", origin.encode())])
    assert found.status == 200, found.body


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "", "whatever"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/runs"), ("POST", "/v1/plan"), ("GET", "/v1/plan"), ("DELETE", "/v1/jobs/" + "0" * 32), ("PUT", "/v1/families/f")],
)  # fmt: skip
def test_a_write_of_another_site_is_refused(app: App, site: str, method: str, path: str) -> None:
    found = app.ask(path, method, [*LOCAL, (b"sec-fetch-site", site.encode())], b"{}")
    assert (found.status, found.kind) == (403, "bad-origin")


def test_the_page_itself_and_a_program_may_write_and_reading_is_free(app: App) -> None:
    for site in (b"same-origin", b"none"):
        assert app.post("/v1/plan", {"source": "runs:run"}, [*LOCAL, (b"sec-fetch-site", site)]).status == 200
    assert app.post("/v1/plan", {"source": "runs:run"}).status == 200
    followed = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document")]
    assert app.ask("/v1/runs", headers=[*LOCAL, *followed]).status == 200
    for path in ("/", "/live", "/ready"):
        assert app.ask(path, headers=[*LOCAL, (b"sec-fetch-site", b"cross-site")]).status == 200


@pytest.mark.parametrize(
    "path", ["/v1/runs", "/v1/runs/x/export?f=csv", "/v1/runs/x/report", "/v1/runs/x/layers?f=png", "/v1/jobs"]
)
@pytest.mark.parametrize("site", [b"cross-site", b"same-site"])
@pytest.mark.parametrize(
    ("mode", "dest"),
    [
        (b"no-cors", b"image"),
        (b"cors", b"empty"),
        (b"navigate", b"iframe"),
        (b"navigate", b"embed"),
        (b"", b""),
        (b"no-cors", b"document"),
    ],
)
def test_another_site_cannot_have_results_made(app: App, path: str, site: bytes, mode: bytes, dest: bytes) -> None:
    """It cannot read them, but an image of a drive-by page had the server draw a figure."""
    for method in ("GET", "HEAD"):
        asked = [(b"sec-fetch-site", site), (b"sec-fetch-mode", mode), (b"sec-fetch-dest", dest)]
        found = app.ask(path, method, [*LOCAL, *asked])
        assert found.status == 403
        assert method == "HEAD" or found.kind == "bad-origin"


BODIES = {
    "deep arrays": b"[" * 60_000,
    "deep arrays, closed": b"[" * 30_000 + b"]" * 30_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "just too deep": b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
    "5,000 digits": b'{"source": "runs:run", "priority": ' + b"9" * 5_000 + b"}",
    "5,000 digits in a field of its own": b'{"' + b"9" * 5_000 + b'": 1}',
    "an exponent": b'{"source": "runs:run", "priority": 1e999}',
    "NaN": b'{"source": "runs:run", "priority": NaN}',
    "-Infinity": b'{"source": "runs:run", "priority": -Infinity}',
    "a key twice": b'{"source": "runs:run", "source": "runs:other"}',
    "an unknown key twice": b'{"source": "runs:run", "x": {"a": 1, "a": 2}}',
    "half a pair": b'{"source": "\\ud800"}',
    "half a pair as a key": b'{"\\ud800": 1}',
    "Latin-1": '{"source": "é"}'.encode("latin-1"),
    "UTF-16": '{"source": "runs:run"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half an object": b'{"source": ',
    "a list": b"[1]",
    "null": b"null",
    "text": b'"runs:run"',
    "a comment": b'{"source": "runs:run"} // all',
    "two values": b"{} {}",
    "nothing": b"",
    "blanks": b"  \n ",
}


@pytest.mark.parametrize("name", sorted(BODIES))
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/runs"), ("POST", "/v1/plan"), ("PUT", "/v1/families/f")])
def test_a_body_that_is_no_plain_json_is_a_bad_request(app: App, name: str, method: str, path: str) -> None:
    found = app.ask(path, method, [*LOCAL, (b"content-type", b"application/json")], BODIES[name])
    assert (found.status, found.kind) == (422, "bad-request"), found.problem


def test_a_body_of_another_type_is_a_bad_request(app: App) -> None:
    for kind in (b"text/plain", b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"\xff;;="):
        found = app.ask("/v1/runs", "POST", [*LOCAL, (b"content-type", kind)], b'{"source": "runs:run"}')
        assert (found.status, found.kind) == (422, "bad-request")


def test_a_key_twice_is_named(app: App) -> None:
    problem = app.post("/v1/runs", BODIES["a key twice"]).problem
    assert "'source' twice" in problem["detail"]


def test_problems_say_what_is_wrong_in_our_own_words(app: App) -> None:
    for body in (
        {"source": "runs:run", "memory": "much"},
        {"source": "runs:run", "preview": "x"},
        {"source": "runs:run", "heads": "x"},
    ):
        problem = app.post("/v1/runs", body).problem
        assert "Value error" not in json.dumps(problem), problem


def test_an_address_or_method_that_is_not_there_is_a_typed_problem(app: App) -> None:
    assert app.ask("/v1/nothing").kind == "no-such-address"
    assert app.ask("/v1/runs", "PATCH", LOCAL).kind == "method-not-allowed"
    assert app.ask("/v1/runs/x/zarr/y").kind == "run-not-found"
    assert app.ask("/" + "a" * 20_000).kind == "address-too-long"
    assert app.ask("/v1/runs", "POST", [*LOCAL, (b"content-length", b"9" * 5_000)]).kind == "body-too-large"
    assert app.ask("/v1/runs", "POST", [*LOCAL, (b"content-length", b"-1")]).kind == "body-too-large"


CURSORS = [
    b'"\\ud800"', b'{"before": "\\ud800"}', b'{"\\ud800": 1}', b"\xed\xa0\x80", b'{"before": 1e3}', b'{"before": true}',
    b'{"before": ' + b"9" * 100 + b"}", b'{"before": -1}', b'{"before": null}', b"[" * 140, b"\xff\xfe", b"", b"{}",
    b'{"before": 1, "after": 2}', b'{"before": [1]}', b"NaN",
]  # fmt: skip


@pytest.mark.parametrize("inside", CURSORS)
def test_a_cursor_of_anything_else_is_refused(app: App, inside: bytes) -> None:
    cursor = base64.urlsafe_b64encode(inside).decode().rstrip("=")
    found = app.ask(f"/v1/jobs?cursor={cursor}")
    assert (found.status, found.kind) == (422, "bad-cursor")


def test_a_cursor_is_read_as_it_was_written() -> None:
    assert headers.numbers_in(headers.cursor_of(before=12)) == {"before": 12}


@pytest.mark.parametrize(
    "query", [b"cursor=%ED%A0%80", b"cursor=\xed\xa0\x80", b"cursor=%00", b"cursor=%F0%9F%98%80", b"cursor==&cursor=%"]
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/runs"])
def test_a_cursor_in_bytes_that_are_no_text_is_no_error_of_the_server(app: App, path: str, query: bytes) -> None:
    assert app.ask(path, raw_query=query).status in (200, 422)


PARSED = ("accept", "if-none-match", "range", "last-event-id", "content-length", "host", "origin", "sec-fetch-site",
          "authorization", "idempotency-key", "content-type", "cookie", "x-forwarded-host", "expect", "via")  # fmt: skip
ODD = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"bytes=-", b"bytes=0-", b"bytes=" + b"9" * 30 + b"-", b"q=1e400", b"*/*;q=nan", b"W/\"", b"http://[", b"9" * 5000]),
    st.text(alphabet='[]:;,=@/%"\\*-0159abch ', max_size=30).map(str.encode),
)  # fmt: skip
TARGETS = ["/live", "/v1/runs", "/v1/jobs", "/v1/runs/run/map", "/v1/runs/run/zarr/zarr.json", "/", "/v1/measures"]


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(target=st.sampled_from(TARGETS), name=st.sampled_from(PARSED), value=ODD, own_host=st.booleans())
def test_no_header_whatever_its_bytes_breaks_the_server(
    app: App, target: str, name: str, value: bytes, own_host: bool
) -> None:
    given_headers = ([*LOCAL] if own_host else []) + [(name.encode(), value)]
    found = app.ask(target, headers=given_headers)
    assert found.status < 500
    if found.status >= 400:
        assert found.kind


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(PARSED),
    value=ODD,
    body=st.one_of(st.binary(max_size=80), st.sampled_from(sorted(BODIES.values()))),
)
def test_no_header_and_no_body_of_a_write_breaks_the_server(app: App, name: str, value: bytes, body: bytes) -> None:
    found = app.post("/v1/plan", body, [*LOCAL, (name.encode(), value)])
    assert 400 <= found.status < 500
    assert found.kind


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda b: b.decode("latin-1"))))
def test_the_parsers_take_any_text(text: str) -> None:
    for parse in (
        headers.place,
        headers.host_name,
        headers.number,
        headers.byte_range,
        headers.accepted,
        headers.tags,
        headers.numbers_in,
    ):
        parse(text)
    headers.host([text])
    headers.length([text])
    headers.same_origin([text], headers.Place("localhost", 80))


@settings(max_examples=200, deadline=None)
@given(cursor=st.text(max_size=150))
def test_any_cursor_is_answered_or_refused(app: App, cursor: str) -> None:
    assert app.ask("/v1/jobs", raw_query=b"cursor=" + cursor.encode("utf-8", "surrogatepass")).status in (200, 422)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = start_server(tmp_path_factory.mktemp("edges-api"), command="api")
    yield found
    found.process.stop()


@pytest.mark.timing
@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: 127.0.0.1:1, evil.com\r\nConnection: close\r\n\r\n",
        b"POST /v1/plan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /live HTTP/1.1\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        b"POST /v1/plan HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"POST /v1/plan HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[::1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_a_typed_problem(api: Server, sent: bytes) -> None:
    host, port = api.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=600) as wire:
        wire.sendall(sent)
        found = b""
        while part := wire.recv(65536):
            found += part
    head, _, body = found.partition(b"\r\n\r\n")
    assert b" 4" in head.splitlines()[0], head
    assert b"application/problem+json" in head
    assert json.loads(body)["type"].startswith(
        "urn:trajsvc:problem:"
    )  # and nothing after it: no second request was read


@pytest.mark.parametrize("target", ["/v1/runs", "/v1/plan", "/v1/cross"])
def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error_of_the_server(app: App, target: str) -> None:
    """Two tracebacks for each would let anybody fill the log."""
    with structlog.testing.capture_logs() as logged:
        found = app.ask(target, "POST", [*LOCAL, (b"content-length", b"100")], b'{"source": ', leaves=True)
    assert (found.status, found.kind) == (400, "bad-request")
    assert [entry for entry in logged if entry["log_level"] in ("warning", "error")] == []
