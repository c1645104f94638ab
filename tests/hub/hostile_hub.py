"""A Hub that lies: a repository of two checkpoints, any field of whose answers can be another value, and answers without end.

In a test::

    with HostileHub(lies={"branches.targetCommit": "../../x"}) as hub:
        trajsvc.analyze("hf://org/run")       # with HF_ENDPOINT=hub.endpoint

    with HostileHub(mode="gzip-bomb", where="tree") as hub: ...

As a process: ``python tests/hub/hostile_hub.py MODE WHERE`` prints its address.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

ID: Final = "org/run"
STEPS: Final = (1, 2)
_PIECE: Final = 2**16


def weights(step: int) -> bytes:
    """A safetensors file of one tensor."""
    data = struct.pack("<64f", *((step + 1) * 0.5 + i / 7 for i in range(64)))
    head = json.dumps({"model.layers.0.mlp.weight": {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 256]}})
    head += " " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head.encode() + data


def commit_of(step: int) -> str:
    return hashlib.sha1(b"step %d" % step).hexdigest()


def blob_of(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


FILES: Final = {commit_of(s): weights(s) for s in STEPS}
MODES: Final[dict[str, Callable[[Exchange], None]]] = {}
"""Name → what an answer of that mode does in the place of the honest one."""


def mode(name: str) -> Callable[[Callable[[Exchange], None]], Callable[[Exchange], None]]:
    def register(function: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        MODES[name] = function
        return function

    return register


class Exchange(BaseHTTPRequestHandler):
    """One connection's requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def log_message(self, format: str, *args: Any) -> None:
        return None

    def do_GET(self) -> None:
        hub = self.server.hub
        url = urlsplit(self.path)
        self.query = {k: v[-1] for k, v in parse_qs(url.query).items()}
        self.parts = [unquote(p) for p in url.path.split("/") if p]
        self.kind = kind_of(self.parts)
        hub.heard.append(self.path)
        with suppress(OSError):
            if hub.mode is not None and self.kind == hub.where:
                MODES[hub.mode](self)
            else:
                self.honest()

    def honest(self) -> None:
        """The answer, with the lies that were asked for."""
        lie = self.server.hub.lie
        if self.kind == "file":
            self._file()
            return
        value: object = None
        if self.kind == "refs":
            named = {**{f"step{s}": commit_of(s) for s in STEPS}, "main": commit_of(STEPS[-1])}
            value = {"branches": [self._ref("branches", *b) for b in named.items()], "converts": [],
                     "tags": [self._ref("tags", "v1", commit_of(1))]}  # fmt: skip
        elif self.kind == "tree":
            data = FILES.get(self.parts[5], weights(1))
            lfs = {"oid": lie("lfs.oid", hashlib.sha256(data).hexdigest()), "size": len(data), "pointerSize": 130}
            row = {
                "type": lie("type", "file"),
                "path": lie("path", "model.safetensors"),
                "size": lie("size", len(data)),
            }
            value = [{**row, "oid": lie("oid", blob_of(data)), "lfs": lie("lfs", lfs)}]
        elif self.kind == "commits":
            value = [
                {"id": lie("id", commit_of(s)), "title": lie("title", f"step {s}"), "date": lie("date", "2026-01-01T00:00:00.000Z")}
                for s in reversed(STEPS)
            ]  # fmt: skip
        elif self.kind == "models":
            value = [{"id": lie("models.id", f"org/run-step{s}")} for s in STEPS]
        if value is None:
            self.send(404, b"{}")
            return
        self.json(lie(self.kind, value))

    def _ref(self, kind: str, name: str, commit: str) -> dict[str, object]:
        lie = self.server.hub.lie
        return {"name": lie(f"{kind}.name", name), "targetCommit": lie(f"{kind}.targetCommit", commit)}

    def _file(self) -> None:
        hub = self.server.hub
        data = FILES.get(self.parts[3], weights(1))
        head = {"X-Repo-Commit": self.parts[3], "X-Linked-Size": str(len(data)), "ETag": f'"{blob_of(data)}"',
                "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'}  # fmt: skip
        if "Location" in hub.lies:
            head["Location"] = ""
        told = {k: str(hub.lie(k, v)) for k, v in head.items()}
        if "Location" in told:
            self.send(302, b"", told)
            return
        lo, hi = 0, len(data)
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            lo, hi = int(first), min(int(last) + 1, len(data))
            told["Content-Range"] = str(hub.lie("Content-Range", f"bytes {lo}-{hi - 1}/{len(data)}"))
            self.send(206, data[lo:hi], told)
            return
        self.send(200, data, told)

    # ------------------------------------------------------------------ answers
    def json(self, value: object, head: Mapping[str, str] | None = None) -> None:
        told = dict(head or {})
        if link := self.server.hub.lies.get("Link"):
            told["Link"] = str(link).replace("{host}", self.headers["Host"]).replace("{path}", self.path)
        self.send(200, json.dumps(value).encode(), told)

    def send(self, status: int, body: bytes, head: Mapping[str, str] | None = None) -> None:
        self.begin(status, {"Content-Length": str(len(body)), **(head or {})})
        self.wfile.write(body)

    def begin(self, status: int = 200, head: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(head or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def stream(self, pieces: Iterator[bytes], head: Mapping[str, str] | None = None) -> None:
        """A body without a length, until the other side has had enough."""
        self.begin(200, {"Transfer-Encoding": "chunked", **(head or {})})
        for piece in pieces:
            if self.server.over.is_set():
                return
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def rows(self, count: int, first: int = 0) -> Iterator[bytes]:
        """So many rows of the kind that is asked for, in pieces, without brackets around them."""
        for at in range(first, first + count, 500):
            some = (row_of(self.kind, i) for i in range(at, min(at + 500, first + count)))
            yield (b"," if at > first else b"") + b",".join(json.dumps(r).encode() for r in some)

    def next_page(self, query: str) -> dict[str, str]:
        return {"Link": f'<http://{self.headers["Host"]}{urlsplit(self.path).path}?{query}>; rel="next"'}


def kind_of(parts: list[str]) -> str:
    if parts[:2] == ["api", "models"]:
        return "models" if len(parts) == 2 else parts[4] if len(parts) > 4 else "other"
    return "file" if len(parts) > 4 and parts[2] == "resolve" else "other"


def row_of(kind: str, number: int) -> dict[str, object]:
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    if kind == "tree":
        return {"type": "file", "path": f"folder/{number:07}/model.safetensors", "size": 1, "oid": digest[:40]}
    if kind == "commits":
        return {"id": digest[:40], "title": f"step {number}", "date": "2026-01-01T00:00:00.000Z"}
    if kind == "models":
        return {"id": f"org/run-step{number}"}
    return {"name": f"step{number}", "targetCommit": digest[:40]}


@mode("two-million-rows")
def _(exchange: Exchange) -> None:
    """One answer of two million rows."""
    before, after = (b'{"tags": [], "branches": [', b"]}") if exchange.kind == "refs" else (b"[", b"]")
    exchange.stream(itertools.chain([before], exchange.rows(2_000_000), [after]))


@mode("long-names")
def _(exchange: Exchange) -> None:
    """As many branches as are taken, and names as long as git has them: what patterns are matched against."""
    rows = [{"name": f"{'a' * 240}{i:06}", "targetCommit": commit_of(1)} for i in range(10_000)]
    exchange.send(200, json.dumps({"tags": [], "branches": rows}).encode())


@mode("many-pages-of-rows")
def _(exchange: Exchange) -> None:
    """A million and a half rows, a thousand a page."""
    at = int(exchange.query.get("cursor", "0"))
    body = b"[" + b"".join(exchange.rows(1000, at)) + b"]"
    exchange.send(200, body, exchange.next_page(f"cursor={at + 1000}") if at < 1_500_000 else {})


@mode("pages-without-end")
def _(exchange: Exchange) -> None:
    """Empty pages, each with another one after it."""
    exchange.send(200, b"[]", exchange.next_page(f"cursor={int(exchange.query.get('cursor', '0')) + 1}"))


@mode("page-is-its-own-next")
def _(exchange: Exchange) -> None:
    exchange.send(200, b"[]", {"Link": f'<http://{exchange.headers["Host"]}{exchange.path}>; rel="next"'})


@mode("pages-in-a-circle")
def _(exchange: Exchange) -> None:
    after = (int(exchange.query.get("cursor", "0")) + 1) % 3
    exchange.send(200, b"[]", exchange.next_page(f"cursor={after}"))


@mode("next-page-elsewhere")
def _(exchange: Exchange) -> None:
    exchange.send(200, b"[]", {"Link": '<http://169.254.169.254/latest/meta-data?cursor=1>; rel="next"'})


def _bomb(blank: bytes, size: int) -> Iterator[bytes]:
    pack = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    block = blank * 2**20
    yield pack.compress(b"[")
    for _ in range(size // 2**20):
        if piece := pack.compress(block):
            yield piece
    yield pack.compress(b"]") + pack.flush()


@mode("gzip-bomb")
def _(exchange: Exchange) -> None:
    """Two GiB of blanks in two megabytes."""
    exchange.stream(_bomb(b" ", 2**31), {"Content-Encoding": "gzip"})


@mode("bytes-without-end")
def _(exchange: Exchange) -> None:
    exchange.stream(itertools.chain([b"["], itertools.repeat(b" " * _PIECE)))


@mode("one-long-text")
def _(exchange: Exchange) -> None:
    exchange.stream(itertools.chain([b'["'], itertools.repeat(b"x" * _PIECE)))


@mode("many-small-values")
def _(exchange: Exchange) -> None:
    """The most that a few megabytes can become in memory."""
    exchange.stream(itertools.chain([b'[{"x": [[]'], itertools.repeat(b",[]" * 20_000, 30), [b"]}]"]))


@mode("deep")
def _(exchange: Exchange) -> None:
    exchange.send(200, b"[" * 100_000 + b"]" * 100_000)


@mode("deep-below-a-row")
def _(exchange: Exchange) -> None:
    """Deep where nobody looks: below a field that is not read."""
    row = json.dumps(row_of(exchange.kind, 1))[:-1]
    rows = f'[{row}, "more": {"[" * 500}{"]" * 500}}}]'
    exchange.send(200, (f'{{"tags": [], "branches": {rows}}}' if exchange.kind == "refs" else rows).encode())


@mode("long-header")
def _(exchange: Exchange) -> None:
    exchange.send(200, b"[]", {"X-Long": "x" * 60_000})


@mode("header-without-end")
def _(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not exchange.server.over.is_set():
        exchange.wfile.write(b"X-More: " + b"x" * 1000 + b"\r\n")


@mode("trickle")
def _(exchange: Exchange) -> None:
    """A byte now and then, for ever."""
    exchange.begin(200, {"Transfer-Encoding": "chunked"})
    while not exchange.server.over.wait(0.05):
        exchange.wfile.write(b"1\r\n \r\n")


@mode("head-in-drops")
def _(exchange: Exchange) -> None:
    """A header that goes on, a letter now and then."""
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not exchange.server.over.wait(0.05):
        exchange.wfile.write(b"x")


@mode("heads-before-the-head")
def _(exchange: Exchange) -> None:
    """Informational answers, of which there may be any number before the answer."""
    while not exchange.server.over.wait(0.05):
        exchange.wfile.write(b"HTTP/1.1 103 Early Hints\r\nX-More: x\r\n\r\n")


@mode("trailers-in-drops")
def _(exchange: Exchange) -> None:
    """Headers after the body."""
    exchange.begin(200, {"Transfer-Encoding": "chunked"})
    exchange.wfile.write(b"2\r\n[]\r\n0\r\n")
    while not exchange.server.over.wait(0.05):
        exchange.wfile.write(b"X: x\r\n")


@mode("silence")
def _(exchange: Exchange) -> None:
    """Nothing, as long as the other side waits."""
    exchange.server.over.wait(600)


@mode("redirects-without-end")
def _(exchange: Exchange) -> None:
    exchange.send(307, b"", {"Location": f"{exchange.path}{'&' if '?' in exchange.path else '?'}again=1"})


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, hub: HostileHub, port: int) -> None:
        self.hub, self.over = hub, threading.Event()
        super().__init__(("127.0.0.1", port), Exchange)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class HostileHub:
    """``lies``: field → value, as in ``Exchange.honest``; ``mode``: what answers of the kind ``where`` (refs, tree, commits, models) do."""

    def __init__(
        self, *, lies: Mapping[str, object] | None = None, mode: str | None = None, where: str = "tree", port: int = 0
    ) -> None:
        self.lies, self.mode, self.where = dict(lies or {}), mode, where
        self.heard: list[str] = []
        self._listener = Listener(self, port)
        self.endpoint = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)

    def lie(self, field: str, truth: object) -> object:
        return self.lies.get(field, truth)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.over.set()
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()


if __name__ == "__main__":
    with HostileHub(mode=sys.argv[1], where=sys.argv[2]) as served:
        print(served.endpoint, flush=True)
        threading.Event().wait()
