"""Kept connections for GET requests, at most so many at once, whose bodies are received straight into the caller's memory.

The library that speaks to the Hub elsewhere copies each body several times on its way; here a body goes from the socket into the caller's
buffer, which is what a fast network needs.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException
from types import TracebackType
from typing import Final, Self

from trajsvc.sources.base import never
from trajsvc.sources.transport.cancel import SLICE, Stop, check
from trajsvc.sources.transport.proxies import Proxy, proxy_of
from trajsvc.sources.transport.sockets import (
    ConnectionFailed,
    PatientResponse,
    Watch,
    ask,
    broken,
    open_socket,
    secure,
    trusted_authorities,
)
from trajsvc.sources.transport.url import Origin, Url

KEPT: Final = 60.0
"""Seconds after which an idle connection is not used again: what stands between may have forgotten it."""
SMALL: Final = 2**16
"""Bytes of an unwanted body that are read so that its connection can be kept."""
CHUNK: Final = 2**16


class _Wire:
    """One connection to an origin, direct or by way of a proxy."""

    def __init__(self, sock: socket.socket, proxy: Proxy | None, patience: float) -> None:
        self.sock, self.proxy = sock, proxy
        self.watch = Watch(patience)
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether an idle connection is still open. It is not when it has something to say: a farewell, or bytes nobody asked for."""
        if time.monotonic() - self.idle_since > KEPT:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self.sock.close()


class Response:
    """An answer whose head was read. A context manager: its connection is kept if the body was read to its end, and dropped otherwise."""

    def __init__(self, pool: ConnectionPool, origin: Origin, wire: _Wire, response: PatientResponse) -> None:
        self._pool, self._origin, self._wire, self._response = pool, origin, wire, response
        self.status = response.status
        self.headers: Message = response.headers
        self.length: int | None = response.length
        """bytes of the body, or None where the head does not say"""
        self._left = self.length

    def readinto(self, view: memoryview) -> int:
        """Receive up to ``len(view)`` bytes, as many as come at once; 0 at the body's end.

        Raises ConnectionFailed (cut, reset, stalled) and Interrupted.
        """
        try:
            if self._response.chunked:
                return self._response.readinto(view[:CHUNK])
            if self._left is not None:
                view = view[: self._left]
            if not view.nbytes:
                return 0
            # not by the response's own readinto, which returns only when the whole view is full
            count = self._response.fp.readinto1(view)
        except (OSError, HTTPException) as error:
            raise broken(error) from None
        if self._left is not None:
            if not count:
                raise ConnectionFailed("the body was cut")
            self._left -= count
        return count

    def discard(self) -> None:
        """Read what is left of a small body that nobody wants, so that the connection can be kept."""
        if self._response.will_close or (self._left is not None and self._left > SMALL):
            return
        scratch = memoryview(bytearray(4096))
        try:
            for _ in range(SMALL // 4096):
                if not self.readinto(scratch):
                    return
        except ConnectionFailed:
            return  # the connection is dropped, and nothing is lost with it

    def drop(self) -> None:
        """Nothing of the body is wanted, and not the connection either."""
        self._left = None
        self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = self._left == 0 or (self._response.chunked and self._response.isclosed())
        keep = whole and not self._response.will_close
        self._response.close()
        self._pool._give_back(self._origin, self._wire if keep else None)
        if not keep:
            self._wire.close()


class ConnectionPool:
    """A pool of at most ``limit`` connections in use at once, over all hosts and threads. Times in seconds.

    ``connect_timeout`` bounds each step of making a connection, ``read_timeout`` the wait for more bytes. Proxies and certificates are
    those of the environment.
    """

    def __init__(self, limit: int, *, connect_timeout: float = 10.0, read_timeout: float = 20.0) -> None:
        if limit < 1:
            raise ValueError("a pool needs room for one connection")
        self._limit, self._connect_timeout, self._read_timeout = limit, connect_timeout, read_timeout
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._idle: deque[tuple[Origin, _Wire]] = deque()
        self._context: ssl.SSLContext | None = None
        self._closed = False

    def get(self, url: Url, headers: Mapping[str, str], stop: Stop = never) -> Response:
        """The answer to a GET request. Waits while ``limit`` connections are in use. Raises ConnectionFailed and Interrupted."""
        while not self._free.acquire(timeout=SLICE):
            check(stop)
        try:
            return self._get(url, headers, stop)
        except (OSError, HTTPException) as error:
            self._free.release()
            raise broken(error) from None
        except BaseException:
            self._free.release()
            raise

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, deque()
        for _, wire in idle:
            wire.close()

    def _get(self, url: Url, headers: Mapping[str, str], stop: Stop) -> Response:
        kept = self._take_idle(url.origin)
        if kept is not None:
            try:
                return self._ask(kept, url, headers, stop)
            except (ConnectionError, ssl.SSLEOFError):
                pass  # closed by the server while it was idle, which is its right
        return self._ask(self._open(url.origin, stop), url, headers, stop)

    def _ask(self, wire: _Wire, url: Url, headers: Mapping[str, str], stop: Stop) -> Response:
        try:
            wire.watch.begin(stop)
            response = ask(wire.sock, "GET", _head(url, headers, wire.proxy), wire.watch, self._read_timeout)
        except BaseException:
            wire.close()
            raise
        return Response(self, url.origin, wire, response)

    def _open(self, origin: Origin, stop: Stop) -> _Wire:
        check(stop)
        proxy = proxy_of(origin)
        to: Origin | Proxy = origin if proxy is None else proxy
        sock = open_socket(to.host, to.port, self._connect_timeout, stop)
        if origin.scheme == "https":
            if proxy is not None:
                self._tunnel(sock, origin, proxy, stop)
            sock = secure(sock, self._authorities(sock), origin.host, self._connect_timeout, stop)
            proxy = None  # what goes through the tunnel is as if there were no proxy
        return _Wire(sock, proxy, self._read_timeout)

    def _tunnel(self, sock: socket.socket, origin: Origin, proxy: Proxy, stop: Stop) -> None:
        """Have the proxy connect to the origin. Closes the socket if it does not."""
        name = f"[{origin.host}]" if ":" in origin.host else origin.host
        lines = [f"CONNECT {name}:{origin.port} HTTP/1.1", f"Host: {name}:{origin.port}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        watch = Watch(self._connect_timeout)
        watch.begin(stop)
        try:
            head = "\r\n".join([*lines, "", ""]).encode()
            with ask(sock, "CONNECT", head, watch, self._connect_timeout) as response:
                if response.status == 407:
                    raise ConnectionFailed("the proxy wants other credentials", final=True)
                if response.status != 200:
                    raise ConnectionFailed(f"the proxy answered {response.status}")
        except BaseException:
            sock.close()
            raise

    def _authorities(self, sock: socket.socket) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                try:
                    self._context = trusted_authorities()
                except BaseException:
                    sock.close()
                    raise
            return self._context

    def _take_idle(self, origin: Origin) -> _Wire | None:
        """The idle connection used last, if it is still open; those of the origin that are not are closed."""
        while True:
            with self._lock:
                found = next((pair for pair in reversed(self._idle) if pair[0] == origin), None)
                if found is None:
                    return None
                self._idle.remove(found)
            if found[1].usable:
                return found[1]
            found[1].close()

    def _give_back(self, origin: Origin, wire: _Wire | None) -> None:
        """A connection is done with; ``wire`` is to be kept."""
        over = wire
        if wire is not None:
            with self._lock:
                if not self._closed:
                    wire.idle_since = time.monotonic()
                    self._idle.append((origin, wire))
                    over = self._idle.popleft()[1] if len(self._idle) > self._limit else None
        if over is not None:
            over.close()
        self._free.release()


def _head(url: Url, headers: Mapping[str, str], proxy: Proxy | None) -> bytes:
    target = url.target if proxy is None else url.text
    lines = [f"GET {target} HTTP/1.1", f"Host: {url.origin.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if proxy is not None and proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
