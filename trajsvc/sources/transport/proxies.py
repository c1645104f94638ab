"""Proxies as the environment names them: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from trajsvc.sources.transport.sockets import ConnectionFailed
from trajsvc.sources.transport.url import Origin


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where requests go instead; ``authorization`` is the value of Proxy-Authorization."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)


def proxy_of(origin: Origin) -> Proxy | None:
    """The proxy for an origin. Raises ConnectionFailed when the environment names one that cannot be used."""
    named = getproxies()
    url = named.get(origin.scheme) or named.get("all")
    if not url or proxy_bypass(f"{origin.host}:{origin.port}"):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme != "http" or not host:
        raise ConnectionFailed(
            f"{origin.scheme.upper()}_PROXY or ALL_PROXY is not of the form http://host:port", final=True
        )
    if parts.username is None:
        return Proxy(host, port or 80)
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or 80, f"Basic {b64encode(secret.encode()).decode()}")
