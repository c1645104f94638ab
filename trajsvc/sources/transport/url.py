"""Parsed http URLs whose repr does not show their path: a signed URL gives access to the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

PORTS: Final = {"http": 80, "https": 443}

_TARGET_SAFE: Final = "/%?&=+,;:@!$'()*~-._"
"""Left as it is in a URL that a server gave: it was quoted there."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a connection or a token belongs to."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As the ``Host`` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Url:
    """One URL: ``target`` is the path with the query, quoted."""

    origin: Origin
    target: str = field(repr=False)

    @staticmethod
    def parse(text: str) -> Url:
        """Parse a complete http or https URL. Raises ValueError, which does not repeat the text, for anything else."""
        try:
            parts = urlsplit(text)
            scheme, host, port = parts.scheme.lower(), (parts.hostname or "").encode("idna").decode(), parts.port
        except ValueError:
            scheme, host, port = "", "", None
        if scheme not in PORTS or not host:
            raise ValueError("not a complete http or https address")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Url(Origin(scheme, host, port or PORTS[scheme]), quote(target, safe=_TARGET_SAFE))

    def follow(self, location: str) -> Url:
        """Return the URL to which a redirect from here leads. Raises ValueError as ``parse`` does."""
        return Url.parse(urljoin(self.text, location))

    @property
    def text(self) -> str:
        """The whole URL, which is not to be shown: it may be signed."""
        return f"{self.origin.scheme}://{self.origin.authority}{self.target}"
