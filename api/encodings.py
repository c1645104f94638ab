"""Compress the bodies of answers as ``Accept-Encoding`` allows."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from typing import Final

from api.headers import accepted

LEAST: Final = 4096
"""bytes below which a body is sent as it is"""
PLAIN: Final = frozenset({"png"})
"""formats that are compressed themselves"""


_STARTS: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""of gzip and of zstd; no format of an answer begins so"""


def zstd(body: bytes) -> bytes:
    from numcodecs.zstd import compress  # type: ignore[import-untyped]

    return bytes(compress(body, 3))


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, 1, mtime=0)


ENCODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {"zstd": zstd, "gzip": gzipped}


def chosen(accept: str | None, kind: str) -> str | None:
    """Return the encoding for a body of the format ``kind``: of those that the client takes the one it wants most, zstd before gzip."""
    if kind in PLAIN or not accept:
        return None
    wanted = [name for name in accepted(accept) if name in ENCODERS]
    equal = {part.strip() for part in accept.lower().split(",")}
    if {"zstd", "gzip"} <= equal:
        return "zstd"
    return wanted[0] if wanted else None


def encode(body: bytes, encoding: str | None) -> bytes:
    """Compress a body that is worth it."""
    return ENCODERS[encoding](body) if encoding and len(body) >= LEAST else body


def is_encoded(body: bytes) -> bool:
    return body.startswith(_STARTS)


def tag_of(tag: str, encoding: str | None) -> str:
    """Return the strong entity tag of the body in ``encoding``: other bytes, another tag."""
    return f'{tag[:-1]}-{encoding}"' if encoding else tag


def plain_tags(found: set[str]) -> set[str]:
    """Return entity tags without what tells encodings apart."""
    for name in ENCODERS:
        found = {tag.replace(f'-{name}"', '"') for tag in found}
    return found
