"""One HTTP exchange with the tests' Hub: the answer's head and body, counted, with the faults that befall any answer."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from hub_record import Seen, kind_of
from hub_state import HubState

JSON: Final = "application/json; charset=utf-8"
Head = Mapping[str, str]


class Refusal(Exception):
    """An answer that is no success: raised where it is found, sent in one place."""

    def __init__(self, status: int, message: str, code: str | None = None, head: Head | None = None) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.head = {**({"X-Error-Code": code} if code else {}), "X-Error-Message": message, **(head or {})}


class Listener(ThreadingHTTPServer):
    """Accepts connections, a thread each, and can close them all."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[Exchange], state: HubState) -> None:
        self.state = state
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        """Close every connection, idle or not."""
        for request in list(self._open):
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed already
                self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.state.errors.append(error)


class Exchange(BaseHTTPRequestHandler):
    """Reads a request and sends an answer; subclasses say which (``route``)."""

    protocol_version = "HTTP/1.1"
    server_version = "local-hub/2"
    disable_nagle_algorithm = True  # else a head and its body wait for each other's acknowledgement
    server: Listener

    def route(self, parts: list[str]) -> None:
        raise NotImplementedError

    def admin(self, parts: list[str]) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self._exchange()

    def do_HEAD(self) -> None:
        self._exchange()

    def do_POST(self) -> None:
        self._exchange()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: what was asked is in the record."""

    def _exchange(self) -> None:
        self.state = self.server.state
        self.faults = self.state.faults
        url = urlsplit(self.path)
        self.where, parts = url.path, [unquote(part) for part in url.path.split("/") if part]
        self.query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.kind, self.counted = kind_of(parts), not (self.where.startswith("/_") and parts[0] != "_cdn")
        self.extra: dict[str, str] = {}
        if not self.counted:
            return self.admin(parts)
        get = self.headers.get
        self.state.record.enter(Seen(self.command, self.path, get("Host") or "", get("Authorization"), get("Range")))
        try:
            self._befall()
            self.route(parts)
        except Refusal as refusal:
            self.reply(refusal.status, json.dumps({"error": refusal.message}).encode(), JSON, refusal.head)
        finally:
            self.state.record.leave()

    def _befall(self) -> None:
        """The faults that any request may meet, before it is looked at."""
        if delay := self.faults.take("latency_ms", self.where):
            self.pause(delay / 1000)
        if self.faults.take("rate_limited", self.where):
            self._too_many("any", 0, self.faults.retry_s)
        limit = self.faults.peek("rate_limit", self.where)
        if limit and self.kind != "cdn":
            resource = "resolvers" if self.kind == "resolve" else "api"
            remaining, seconds = self.state.window(resource, limit)
            if remaining < 0:
                self.faults.take("rate_limit", self.where)
                self._too_many(resource, limit, seconds)
            if self.faults.retry_after in ("both", "ratelimit"):
                self.extra = self._limit_head(resource, limit, remaining, seconds)
        if self.faults.take("fail_rate", self.where):
            fault = self.faults.active.get("fail_rate")
            status = 500 if fault is None or fault.times % 2 else 503
            raise Refusal(status, "Internal Error - We're working hard to fix this as soon as possible!")

    def _too_many(self, resource: str, limit: int, seconds: int) -> None:
        style, head = self.faults.retry_after, {}
        if style in ("both", "seconds"):
            head["Retry-After"] = str(seconds)
        elif style == "date":
            head["Retry-After"] = formatdate(time.time() + seconds, usegmt=True)
        if style in ("both", "ratelimit"):
            head |= self._limit_head(resource, limit, 0, seconds)
        raise Refusal(429, "We had to rate limit your IP.", head=head)

    def _limit_head(self, resource: str, limit: int, remaining: int, seconds: int) -> dict[str, str]:
        return {
            "RateLimit": f'"{resource}";r={remaining};t={seconds}',
            "RateLimit-Policy": f'"fixed window";"{resource}";q={limit};w={self.faults.rate_window}',
        }

    def pause(self, seconds: float) -> None:
        """Wait, but not for longer than the server runs."""
        self.state.stopping.wait(seconds)

    # ------------------------------------------------------------------ answers
    def head(self, status: int, kind: str, length: int, head: Head) -> None:
        """Send the status line and headers of an answer whose body is ``length`` bytes."""
        if self.counted:
            self.state.record.answer(self.kind, self.where, status, ranged="Range" in self.headers)
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **self.extra, **head}.items():
            self.send_header(name, value)
        self.end_headers()

    def reply(
        self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8", head: Head | None = None
    ) -> None:
        self.head(status, kind, len(body), head or {})
        if self.command == "HEAD":
            return
        cut = self.faults.take("cut_json", self.where) if self.counted and status == 200 and kind == JSON else None
        if cut is not None:
            body = body[: min(int(len(body) * cut), len(body) - 1)]
            self.close_connection = True
        self.send_bytes(body)

    def json(self, value: Any, head: Head | None = None) -> None:
        self.reply(200, json.dumps(value).encode(), JSON, head)

    def send_bytes(self, data: bytes | memoryview) -> None:
        if self.counted:
            self.state.record.sent(self.where, len(data))
        self.connection.sendall(data)
