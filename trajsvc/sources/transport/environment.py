"""Read proxies and certificates from the environment."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import LocationParseError

from trajsvc.sources.transport.errors import ConnectionFailed
from trajsvc.sources.transport.url import Origin


def proxy_of(origin: Origin) -> tuple[str | None, dict[str, str]]:
    """Return the proxy that the environment names for an origin, and the headers to send to it.

    Raises ConnectionFailed when it names one that cannot be used.
    """
    named = getproxies()
    text = named.get(origin.scheme) or named.get("all")
    if not text or proxy_bypass(f"{origin.host}:{origin.port}"):
        return None, {}
    proxy = None
    with suppress(LocationParseError):
        proxy = urllib3.util.parse_url(text if "://" in text else f"http://{text}")
    if proxy is None or proxy.scheme != "http" or not proxy.host:
        raise ConnectionFailed(
            f"{origin.scheme.upper()}_PROXY or ALL_PROXY is not of the form http://host:port", final=True
        )
    secret = proxy.auth_decoded_joined
    shown = urllib3.make_headers(proxy_basic_auth=secret, proxy_basic_auth_encoding="utf-8") if secret else {}
    return f"http://{proxy.netloc}", shown


def trusted_authorities() -> ssl.SSLContext:
    """Load the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR; and those of REQUESTS_CA_BUNDLE.

    Raises ConnectionFailed.
    """
    context = ssl.create_default_context()
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle:
        folder = Path(bundle).is_dir()
        with suppress(OSError, ValueError):
            context.load_verify_locations(None if folder else bundle, bundle if folder else None)
            return context
        raise ConnectionFailed("REQUESTS_CA_BUNDLE names no file of certificates", final=True)
    return context
