"""Parse the headers and cursors of a request.

Every function takes any text and never raises: if it cannot be parsed, the result is None or empty.

Starlette gives headers as Latin-1 text; a client may send any byte in them, a header twice, and any number of digits.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_PLACE: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253})(?::([0-9]{1,5}))?", re.ASCII)
_ORIGIN: Final = re.compile(r"(https?)://([^/?#@\\\s]+)", re.ASCII)
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}
MOST: Final = 2**63 - 1
_NUMBER: Final = TypeAdapter(dict[str, int])


@dataclass(frozen=True)
class Place:
    """A host's name in lower case (of IPv6 in brackets, shortened) and its port, where one is given."""

    name: str
    port: int | None = None


def host(values: list[str]) -> Place | None:
    """Parse a single ``Host`` header.

    None for several, for lists, user names, invalid ports, and anything else that is not a name and a port.
    """
    return place(values[0]) if len(values) == 1 else None


def place(text: str) -> Place | None:
    """Parse ``name``, ``name:port`` or ``[address]:port``."""
    match = _PLACE.fullmatch(text.lower())
    if match is None:
        return None
    name = host_name(match[1])
    port = None if match[2] is None else int(match[2])
    if name is None or (port is not None and not 0 < port < 2**16):
        return None
    return Place(name, port)


def host_name(text: str) -> str | None:
    """Normalise a name or an address for comparison: an IPv6 address is shortened and in brackets."""
    bare = text.lower().removeprefix("[").removesuffix("]")
    if ":" in bare or text.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(bare)}]"
        except ValueError:
            return None
    return bare if _NAME.fullmatch(bare) else None


def same_origin(values: list[str], here: Place) -> bool:
    """Return whether the single ``Origin`` is that of ``here``; False for ``null``, several, and what cannot be parsed."""
    match = _ORIGIN.fullmatch(values[0].lower()) if len(values) == 1 else None
    there = place(match[2]) if match else None
    if match is None or there is None or there.name != here.name:
        return False
    usual = _PORTS[match[1]]
    return (there.port or usual) == (here.port or usual)


def from_this_site(values: list[str]) -> bool:
    """Return whether ``Sec-Fetch-Site``, if a browser sends it, says that this server's page or the user made the
    request.

    Another port of the same name is another page: ``same-site`` does not suffice.
    """
    return all(value.strip().lower() in ("same-origin", "none") for value in values)


def length(values: list[str]) -> int | None:
    """Parse ``Content-Length``; 0 if there is none, None if it is not a number.

    Numbers larger than any body are reduced to ``MOST``.
    """
    if not values:
        return 0
    found = [number(v) for v in values]
    return found[0] if len(set(found)) == 1 else None


def number(text: str | None) -> int | None:
    """Parse a decimal number, at most ``MOST``; None for anything else."""
    if text is None or not (text.isascii() and text.isdecimal()):
        return None
    digits = text.lstrip("0") or "0"
    return min(int(digits), MOST) if len(digits) <= 19 else MOST


def byte_range(text: str | None) -> tuple[int | None, int | None] | None:
    """Parse (first, last) of one range of bytes, either of which may be missing.

    None for several ranges and other units.
    """
    match = None if text is None else _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    return number(match[1]), number(match[2])


def accepted(text: str) -> list[str]:
    """Return the media types of ``Accept`` by their weights, the most wanted first."""
    found: list[tuple[float, str]] = []
    for part in text.split(","):
        media, *parameters = (p.strip() for p in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                weight = _weight(parameter[2:])
        if media and weight > 0:
            found.append((weight, media.lower()))
    return [media for _, media in sorted(found, key=lambda f: -f[0])]


def _weight(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.[0-9]{0,9})?", text, re.ASCII) else 0.0


def tags(text: str | None) -> set[str]:
    """Return the entity tags of ``If-None-Match``."""
    return {tag.strip().removeprefix("W/") for tag in (text or "").split(",")}


def numbers_in(text: str) -> dict[str, int] | None:
    """Parse the numbers in a cursor that ``cursor_of`` wrote; None for anything else."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return _NUMBER.validate_json(raw, strict=True)
    except (binascii.Error, ValidationError, ValueError):
        return None


def cursor_of(**numbers: int) -> str:
    """Encode numbers as an opaque cursor."""
    return base64.urlsafe_b64encode(_NUMBER.dump_json(numbers)).decode().rstrip("=")
