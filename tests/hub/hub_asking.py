"""Requests to the tests' Hub as they go over a socket: no client that mends, follows or retries stands between."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

BODY: Final = bytes(range(251)) * 997
"""no two places look the same within a power of two"""
RESOLVE: Final = "/org/run/resolve/main/model.safetensors"
CONFIG: Final = "/org/run/resolve/main/config.json"


class Answer:
    """What came back over a socket, as it came."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers = response.status, response.headers
        try:
            self.body, self.whole = response.read(), True
        except http.client.IncompleteRead as short:
            self.body, self.whole = short.partial, False


def ask(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """One request on a connection of its own, no redirect followed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=600)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, dict(headers or {}))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def span(lo: int, hi: int) -> dict[str, str]:
    return {"Range": f"bytes={lo}-{hi - 1}"}
