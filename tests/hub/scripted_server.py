"""A server that answers what a test tells it, byte by byte: for answers that no Hub gives, and for proxies."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Heard:
    """A request: its first line, and its headers with names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    number: int
    """how many requests came before it"""

    @property
    def range(self) -> tuple[int, int]:
        """[lo, hi) as the Range header asks for it."""
        first, last = self.headers["range"].removeprefix("bytes=").split("-")
        return int(first), int(last) + 1


Answering = Callable[[Heard, socket.socket], bool]
"""Writes an answer to the socket; whether the connection goes on."""


def answer(status: int, body: bytes = b"", head: Mapping[str, object] | None = None) -> bytes:
    """An answer as it goes over the wire; its length is said unless ``head`` has one (None: none is said)."""
    said = {"Content-Length": len(body), **(head or {})}
    lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in said.items() if v is not None)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def part(data: bytes, lo: int, hi: int, head: Mapping[str, object] | None = None) -> bytes:
    """The 206 with the bytes [lo, hi) of a file."""
    return answer(206, data[lo:hi], {"Content-Range": f"bytes {lo}-{hi - 1}/{len(data)}", **(head or {})})


class ScriptedServer:
    """Listens on a free port of 127.0.0.1, a thread for each connection. ``heard`` has every request."""

    def __init__(self, answering: Answering, tls: ssl.SSLContext | None = None) -> None:
        self._answering, self._tls = answering, tls
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.heard: list[Heard] = []
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with suppress(OSError):  # closed by the other side
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    @staticmethod
    def wait_until(true: Callable[[], bool], limit: float = 60.0) -> None:
        """Wait for what another thread does. Raises TimeoutError after ``limit`` seconds."""
        end = time.monotonic() + limit
        while not true():
            if time.monotonic() > end:
                raise TimeoutError(f"nothing happened in {limit:g} s")
            time.sleep(0.01)

    def _start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self._open.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rb") as lines:
                while (heard := self._hear(lines)) is not None and self._answering(heard, sock):
                    pass
        except OSError:
            pass  # the client went away
        finally:
            sock.close()

    def _hear(self, lines: object) -> Heard | None:
        read = lines.readline  # type: ignore[attr-defined]
        first = read().decode("latin-1").split()
        if len(first) != 3:
            return None
        headers: dict[str, str] = {}
        while line := read().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        with self._lock:
            heard = Heard(first[0], first[1], headers, len(self.heard))
            self.heard.append(heard)
        return heard
