"""GET requests over kept connections, a bounded number at once: urllib3 with every wait bounded.

Connections, pools, TLS and proxies are urllib3's. Bodies go from the socket into the caller's buffer.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from types import TracebackType
from typing import Any, Final, Self

import urllib3
from urllib3.exceptions import HTTPError

from trajsvc.sources.base import never
from trajsvc.sources.transport.cancel import SLICE, Stop, check
from trajsvc.sources.transport.connection import (
    Watch,
    WatchedConnection,
    WatchedPool,
    WatchedTLSPool,
    busy,
    watched_by,
)
from trajsvc.sources.transport.environment import proxy_of, trusted_authorities
from trajsvc.sources.transport.errors import ConnectionFailed, cause_of, connection_failed
from trajsvc.sources.transport.url import Origin, Url

SMALL: Final = 2**16
"""Bytes of an unwanted body that are read so that its connection can be kept."""
CHUNK: Final = 2**16
"""Bytes of a chunked body asked for at once."""
_LOGGERS: Final = ("connection", "connectionpool", "poolmanager", "response", "util.retry")
_NO_RETRIES: Final = urllib3.Retry(False, redirect=False)


class Response:
    """A response whose head was read. A context manager: its connection is kept if the body was read to its end, else closed."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, watch: Watch, release: Callable[[], None]) -> None:
        connection = raw.connection
        assert isinstance(connection, WatchedConnection)
        self._raw, self._body, self._connection = raw, connection.body, connection
        self._watch, self._release = watch, release
        self.status = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.length: int | None = raw.length_remaining
        """bytes of the body, or None where the head does not say"""
        self._left = self.length

    def readinto(self, view: memoryview) -> int:
        """Receive up to ``len(view)`` bytes, as many as come at once; 0 at the body's end.

        Raises ConnectionFailed (cut, reset, stalled) and Interrupted.
        """
        if self._left is not None:
            view = view[: self._left]
        if not view.nbytes:
            return 0
        count, failure = 0, None
        self._watch.waiting()
        try:
            count = self._receive(view)
            self._watch.received(count)
        except (HTTPError, HTTPException, OSError, ConnectionFailed) as error:
            failure = connection_failed(error)
        if failure is not None:  # raised here, and not where it was caught, since urllib3's errors show addresses
            raise failure
        if self._left is not None:
            if not count:
                raise ConnectionFailed("the body was cut")
            self._left -= count
        return count

    def discard(self) -> None:
        """Read the rest of a small body that is not needed, so that the connection can be kept."""
        if (self._left is None and not self._raw.chunked) or (self._left is not None and self._left > SMALL):
            return
        scratch = memoryview(bytearray(4096))
        try:
            for _ in range(SMALL // 4096):
                if not self.readinto(scratch):
                    return
        except ConnectionFailed:
            return  # the connection is closed, and nothing is lost with it

    def _receive(self, view: memoryview) -> int:
        if self._raw.chunked:
            data = self._raw.read1(min(view.nbytes, CHUNK))
            view[: len(data)] = data
            return len(data)
        # not by its ``readinto``, which returns only when the whole view is full
        return int(self._body.fp.readinto1(view))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._left == 0:
            self._body.close()  # its reader; the connection stays open
        elif not self._body.isclosed():
            self._raw.close()
        self._connection.used_at = time.monotonic()
        self._raw.release_conn()
        self._release()


class ConnectionPool:
    """At most ``limit`` connections in use at once, over all hosts and threads. Times in seconds.

    ``connect_timeout`` bounds each step of making a connection, ``read_timeout`` the wait for more bytes. Proxies (HTTP_PROXY, HTTPS_PROXY,
    ALL_PROXY and NO_PROXY, in either case) and certificates are those of the environment when a host is first asked.
    """

    def __init__(self, limit: int, *, connect_timeout: float = 10.0, read_timeout: float = 20.0) -> None:
        if limit < 1:
            raise ValueError("a pool needs room for one connection")
        self._limit, self._patience = limit, read_timeout
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=None)  # reads are watched
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._hosts: dict[Origin, urllib3.HTTPConnectionPool] = {}
        for name in _LOGGERS:
            logging.getLogger(f"urllib3.{name}").addFilter(_not_ours)

    def get(self, url: Url, headers: Mapping[str, str], stop: Stop = never) -> Response:
        """Make a GET request and return the response.

        Waits while ``limit`` connections are in use. Raises ConnectionFailed and Interrupted.
        """
        check(stop)
        while not self._free.acquire(timeout=SLICE):
            check(stop)
        watch = Watch(stop, self._patience)
        try:
            return Response(self._ask(url, headers, watch), watch, self._free.release)
        except BaseException:
            self._free.release()
            raise

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are done."""
        with self._lock:
            hosts, self._hosts = self._hosts, {}
        for pool in hosts.values():
            pool.close()

    def _ask(self, url: Url, headers: Mapping[str, str], watch: Watch) -> urllib3.BaseHTTPResponse:
        pool = self._pool_of(url.origin)
        sent, target = dict(headers), url.target
        if pool.proxy is not None and url.origin.scheme == "http":  # the proxy makes the request
            sent["Host"], target = url.origin.authority, url.text
        while True:
            watch.reused = False
            try:
                with watched_by(watch):
                    return pool.urlopen(
                        "GET", target, headers=sent, retries=_NO_RETRIES, redirect=False, assert_same_host=False,
                        timeout=self._timeout, preload_content=False, decode_content=False,
                    )  # fmt: skip
            except (HTTPError, HTTPException, OSError, ConnectionFailed, ValueError) as error:
                failure = connection_failed(error)
                stale = watch.reused and isinstance(cause_of(error), ConnectionError | ssl.SSLEOFError)
            if not stale:  # else the server closed it while it was idle, as it may
                raise failure

    def _pool_of(self, origin: Origin) -> urllib3.HTTPConnectionPool:
        with self._lock:
            if origin not in self._hosts:
                self._hosts[origin] = self._new_pool(origin)
            return self._hosts[origin]

    def _new_pool(self, origin: Origin) -> urllib3.HTTPConnectionPool:
        options: dict[str, Any] = {"maxsize": self._limit}
        if origin.scheme == "https":
            options["ssl_context"] = trusted_authorities()
        proxy, credentials = proxy_of(origin)
        manager = urllib3.PoolManager(**options)
        if proxy is not None:
            manager = urllib3.ProxyManager(proxy, proxy_headers=credentials, **options)
        manager.pool_classes_by_scheme = {"http": WatchedPool, "https": WatchedTLSPool}
        return manager.connection_from_url(Url(origin, "/").text)


def _not_ours(_: logging.LogRecord) -> bool:
    """Drop urllib3's log records about our requests, which show signed URLs; those of other users of it pass."""
    return not busy()
