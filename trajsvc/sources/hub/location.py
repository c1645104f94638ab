"""Addresses on the network that never show what is secret in them: a signed address is as good as the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

PORTS: Final = {"http": 80, "https": 443}

_TARGET_SAFE: Final = "/%?&=+,;:@!$'()*~-._"
"""Left as it is when a server's own address is asked for: it was quoted there."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a token or a connection belongs to."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As the ``Host`` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Location:
    """One address: ``target`` is the path with the query, quoted."""

    origin: Origin
    target: str = field(repr=False)

    @staticmethod
    def parse(url: str) -> Location:
        """Raises ValueError, which does not repeat the address, unless it is a complete one of http or https."""
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme.lower(), (parts.hostname or "").encode("idna").decode(), parts.port
        except ValueError:
            scheme, host, port = "", "", None
        if scheme not in PORTS or not host:
            raise ValueError("not a complete http or https address")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Location(Origin(scheme, host, port or PORTS[scheme]), quote(target, safe=_TARGET_SAFE))

    def follow(self, location: str) -> Location:
        """Where a redirect from here leads. Raises ValueError as ``parse`` does."""
        return Location.parse(urljoin(self.url, location))

    @property
    def url(self) -> str:
        """The whole address, for requests by way of a proxy: not to be shown."""
        return f"{self.origin.scheme}://{self.origin.authority}{self.target}"
