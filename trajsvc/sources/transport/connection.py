"""urllib3 connections whose waits can be ended: when the request is cancelled, or when nothing or too little comes.

A thread that blocks in the operating system cannot check whether it is to stop. So answers are read in slices of time,
below ``http.client``'s own parser, and connections are made in a thread of their own, which can be abandoned.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from http import client
from typing import TYPE_CHECKING, Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from trajsvc.sources.transport.cancel import SLICE, Stop, check
from trajsvc.sources.transport.errors import ConnectionFailed

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

KEPT: Final = 60.0
"""Seconds after which an idle connection is not used again: a router on the way may have dropped it."""
TRICKLE: Final = 1024
"""Bytes a second below which a connection is given up."""


class Watch:
    """Bound the time that one request spends waiting for its bytes; the time that the receiver needs for them does not
    count.

    ``patience`` is the maximum number of seconds without a head or more of a body; at least 1 KiB/s must come over so
    many seconds.
    """

    def __init__(self, stop: Stop, patience: float) -> None:
        self._stop, self._patience = stop, patience
        self._since = self._asked = time.monotonic()
        self._spent, self._came = 0.0, 0
        self.reused = False
        """whether an idle connection is used; one that its server closed meanwhile is no failure"""

    def waiting(self) -> None:
        """Start to count the time that is spent waiting for the network."""
        self._since = time.monotonic()

    def look(self) -> None:
        """Check for cancellation and timeout; called repeatedly while waiting for the network.

        Raises Interrupted and ConnectionFailed.
        """
        now = time.monotonic()
        if now - self._asked > SLICE / 2:
            self._asked = now
            check(self._stop)
        if now - self._since >= self._patience:
            raise ConnectionFailed(f"nothing came for {self._patience:g} s")

    def received(self, count: int) -> None:
        """Record the end of a wait that brought ``count`` bytes of a body.

        Raises ConnectionFailed when they are too few.
        """
        self._spent += time.monotonic() - self._since
        self._came += count
        if self._spent >= self._patience:
            if self._came < TRICKLE * self._spent:
                raise ConnectionFailed(f"less than {TRICKLE // 1024} KiB/s came for {self._patience:g} s")
            self._spent, self._came = 0.0, 0

    def call(self, work: Callable[[], None], undo: Callable[[], None]) -> None:
        """Do ``work`` in a thread of its own; when ``stop`` returns true, leave it behind, to be undone as soon as it is done."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                work()
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, name="trajsvc-connect", daemon=True).start()
        try:
            while not wait([done], SLICE / 2).done:
                check(self._stop)
        except BaseException:
            done.add_done_callback(lambda _: undo())
            raise
        done.result()


class _Current(threading.local):
    """The request that a thread is making."""

    watch: Watch | None = None


_current: Final = _Current()


@contextmanager
def watched_by(watch: Watch) -> Iterator[None]:
    """Put requests of the calling thread under ``watch`` within this block."""
    _current.watch = watch
    try:
        yield
    finally:
        _current.watch = None


def busy() -> bool:
    """Return whether the calling thread is making a request of this module."""
    return _current.watch is not None


class _Reader(io.RawIOBase):
    """Reads the bytes of a socket under a watch, and keeps the socket open as the file that it replaces did."""

    def __init__(self, sock: socket.socket, held: io.RawIOBase, watch: Watch) -> None:
        self._sock, self._held, self._watch = sock, held, watch
        self._timeout = sock.gettimeout()
        sock.settimeout(SLICE)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while True:
            self._watch.look()
            with suppress(TimeoutError):
                return self._sock.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            with suppress(OSError):  # closed already
                self._sock.settimeout(self._timeout)
            self._held.close()
        super().close()


class _Response(client.HTTPResponse):
    """A response that is read under a watch."""

    def __init__(self, watch: Watch, sock: socket.socket, **options: Any) -> None:
        super().__init__(sock, **options)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach(), watch))


class WatchedConnection(HTTPConnection):
    """A connection that is used under ``watched_by`` only."""

    body: client.HTTPResponse
    """the reader of the last answer, which fills buffers without a copy"""
    used_at = 0.0
    """when the last answer came, by the monotonic clock"""
    _watch: Watch
    _served = False

    @property
    def is_connected(self) -> bool:
        """Whether an idle connection can be used: it is open, has no unread data, and was used recently."""
        return time.monotonic() - self.used_at < KEPT and super().is_connected

    def connect(self) -> None:
        self._adopt()
        self._served = False
        self._watch.call(super().connect, self.close)

    def request(self, *args: Any, **options: Any) -> None:
        self._adopt()
        self._watch.reused = self._served and self.sock is not None
        super().request(*args, **options)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        self._watch.received(0)
        self._served, self.used_at = True, time.monotonic()
        return response

    def response_class(self, *args: Any, **options: Any) -> client.HTTPResponse:  # type: ignore[override]
        """Make the response for ``http.client``, which calls this to read the answer to a request, or a proxy's about a
        tunnel.
        """
        self._watch.waiting()
        self.body = _Response(self._watch, *args, **options)
        return self.body

    def _adopt(self) -> None:
        assert _current.watch is not None
        self._watch = _current.watch


class WatchedTLSConnection(WatchedConnection, HTTPSConnection):
    """The same, encrypted."""


class WatchedPool(urllib3.HTTPConnectionPool):
    """Its connections are watched."""

    ConnectionCls = WatchedConnection


class WatchedTLSPool(urllib3.HTTPSConnectionPool):
    """Its connections are watched."""

    ConnectionCls = WatchedTLSConnection
