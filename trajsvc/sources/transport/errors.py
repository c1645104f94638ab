"""Describe connection failures in words that name no address, which urllib3's exceptions would show."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import Final

from urllib3.exceptions import ConnectTimeoutError, HTTPError

_TUNNEL: Final = re.compile(r"Tunnel connection failed: (\d{3})")


class ConnectionFailed(Exception):
    """A connection that could not be made or did not hold. ``why`` names no address; ``final``: trying again will not help."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.why, self.final = why, final


def connection_failed(error: Exception) -> ConnectionFailed:
    """Describe ``error`` in a few words that name no address, which its own message would show."""
    cause = cause_of(error)
    if isinstance(cause, ConnectionFailed):
        return cause
    if isinstance(cause, socket.gaierror):
        return ConnectionFailed("the name of its server is not known")
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = "the certificate of its server is not trusted (SSL_CERT_FILE names more authorities)"
        return ConnectionFailed(why, final=True)
    if isinstance(cause, ssl.SSLError):
        return ConnectionFailed("the encrypted connection failed")
    if isinstance(cause, TimeoutError):
        made = not isinstance(error, ConnectTimeoutError)
        return ConnectionFailed("the server does not answer" if made else "no connection was made in time")
    if isinstance(cause, ConnectionRefusedError):
        return ConnectionFailed("the connection was refused")
    if isinstance(cause, ConnectionError):
        return ConnectionFailed("the connection was closed")
    if isinstance(cause, OSError) and (refusal := _TUNNEL.match(str(cause))):
        if refusal[1] == "407":
            return ConnectionFailed("the proxy wants other credentials", final=True)
        return ConnectionFailed(f"the proxy answered {refusal[1]}")
    if isinstance(cause, OSError) and cause.errno:
        return ConnectionFailed(os.strerror(cause.errno).lower())
    return ConnectionFailed("the answer is no HTTP, or was cut")


def cause_of(error: BaseException) -> BaseException:
    """Return the exception that urllib3 wrapped."""
    while isinstance(error, HTTPError):
        wrapped = [a for a in (error.__cause__, *error.args) if isinstance(a, BaseException)]
        if not wrapped:
            return error
        error = wrapped[0]
    return error
