"""Sockets that can be interrupted and that do not wait for ever: connecting, TLS, and reading answers from them.

Every wait is cut in slices, between which ``stop`` is asked. What is read goes through ``http.client``'s own parser of answers.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import ssl
import struct
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trajsvc.sources.transport.cancel import SLICE, Stop, check

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TRICKLE: Final = 1024
"""Bytes a second below which a connection is given up."""
_TIMEVAL: Final = struct.pack("ll", 0, int(SLICE * 1e6))
AT_ONCE: Final = 2**20
"""Bytes that one call of the system waits for: fewer calls leave more of the time to the network."""


class ConnectionFailed(Exception):
    """A connection that could not be made or did not hold. ``why`` names no address; ``final``: trying again will not help."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.why, self.final = why, final


def broken(error: OSError | HTTPException) -> ConnectionFailed:
    """``error`` in a few words that name no address."""
    if isinstance(error, socket.gaierror):
        return ConnectionFailed("the name of its server is not known")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            "the certificate of its server is not trusted (SSL_CERT_FILE names more authorities)", final=True
        )
    if isinstance(error, ssl.SSLError):
        return ConnectionFailed("the encrypted connection failed")
    if isinstance(error, TimeoutError):
        return ConnectionFailed(error.args[0] if isinstance(error, Stalled) else "the server does not answer")
    if isinstance(error, ConnectionRefusedError):
        return ConnectionFailed("the connection was refused")
    if isinstance(error, ConnectionError):
        return ConnectionFailed("the connection was closed")
    if isinstance(error, HTTPException):
        return ConnectionFailed("the answer is no HTTP, or was cut")
    return ConnectionFailed(os.strerror(error.errno).lower() if error.errno else "the connection failed")


class Stalled(TimeoutError):
    """Nothing comes, or too little."""


class Watch:
    """Judges what comes over one connection: Stalled after ``patience`` seconds of waiting with nothing, or with a trickle.

    Only time spent waiting for the network counts, not what the receiver does with the bytes.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.begin(lambda: False)

    def begin(self, stop: Stop) -> None:
        """A new request: nothing is held against the connection."""
        self.stop = stop
        self._asked = time.monotonic()
        self._quiet = self._spent = 0.0
        self._came = 0

    def look(self, now: float) -> None:
        """Ask ``stop``, if that was not done just now."""
        if now - self._asked > SLICE / 2:
            self._asked = now
            check(self.stop)

    def waited(self, seconds: float, count: int) -> None:
        """``count`` bytes came after ``seconds``."""
        self._quiet = 0.0 if count else self._quiet + seconds
        self._spent += seconds
        self._came += count
        if self._quiet >= self.patience:
            raise Stalled(f"nothing came for {self.patience:g} s")
        if self._spent >= self.patience:
            if self._came < TRICKLE * self._spent:
                raise Stalled(f"less than {TRICKLE // 1024} KiB/s came for {self.patience:g} s")
            self._spent, self._came = 0.0, 0


class _PatientReader(io.RawIOBase):
    """The bytes of a socket, waited for under a watch. Holds the socket open as the file it replaces did."""

    def __init__(self, sock: socket.socket, held: io.RawIOBase, watch: Watch) -> None:
        self._sock, self._held, self._watch = sock, held, watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while True:
            begun = time.monotonic()
            self._watch.look(begun)
            try:
                count = self._receive(buffer)
            except (TimeoutError, BlockingIOError):
                self._watch.waited(time.monotonic() - begun, 0)
                continue
            self._watch.waited(time.monotonic() - begun, count)
            return count

    def _receive(self, buffer: WriteableBuffer) -> int:
        if self._sock.gettimeout() is None and (room := memoryview(buffer)).nbytes > io.DEFAULT_BUFFER_SIZE:
            return self._sock.recv_into(room, min(room.nbytes, AT_ONCE), socket.MSG_WAITALL)
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self._held.close()
        super().close()


class PatientResponse(HTTPResponse):
    """An answer that is read from a socket, which waits for ``SLICE`` seconds at most, under a watch."""

    def __init__(self, sock: socket.socket, watch: Watch, method: str) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(_PatientReader(sock, self.fp.detach(), watch))


def ask(sock: socket.socket, method: str, head: bytes, watch: Watch, patience: float) -> PatientResponse:
    """Send a request without a body, and read the head of the answer."""
    sock.settimeout(patience)
    sock.sendall(head)
    if isinstance(sock, ssl.SSLSocket):
        sock.settimeout(SLICE)
    else:  # the system's own time limit, under which one call can wait for many bytes
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL)
    response = PatientResponse(sock, watch, method)
    try:
        response.begin()
    except BaseException:
        response.close()
        raise
    return response


def open_socket(host: str, port: int, timeout: float, stop: Stop) -> socket.socket:
    """A connection to the first of the host's addresses that answers; ``timeout`` seconds for each. Raises OSError, Interrupted."""
    error: OSError = ConnectionRefusedError()
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            _connect(sock, place, timeout, stop)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as failed:
            sock.close()
            error = failed
        except BaseException:
            sock.close()
            raise
    raise error


def _connect(sock: socket.socket, place: object, timeout: float, stop: Stop) -> None:
    sock.setblocking(False)
    code = sock.connect_ex(place)  # type: ignore[arg-type]
    if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        end = time.monotonic() + timeout
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while not poll.poll(SLICE * 1000):
            check(stop)
            if time.monotonic() > end:
                raise Stalled(f"no connection in {timeout:g} s")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def secure(sock: socket.socket, context: ssl.SSLContext, host: str, timeout: float, stop: Stop) -> ssl.SSLSocket:
    """TLS over a connected socket, which is closed if that fails. Raises OSError, Interrupted."""
    try:
        sock.settimeout(SLICE)
        wrapped = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        end = time.monotonic() + timeout
        while True:
            check(stop)
            try:
                wrapped.do_handshake()
                return wrapped
            except TimeoutError:
                if time.monotonic() > end:
                    raise Stalled(f"no encrypted connection in {timeout:g} s") from None
    except BaseException:
        wrapped.close()
        raise


def trusted_authorities() -> ssl.SSLContext:
    """The system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR; and those of REQUESTS_CA_BUNDLE. Raises ConnectionFailed."""
    context = ssl.create_default_context()
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle:
        folder = Path(bundle).is_dir()
        try:
            context.load_verify_locations(None if folder else bundle, bundle if folder else None)
        except (OSError, ValueError):
            raise ConnectionFailed("REQUESTS_CA_BUNDLE names no file of certificates", final=True) from None
    return context
