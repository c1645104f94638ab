"""Parse a JSON body strictly, before it is used."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from trajsvc.errors import UsageError

DEPTH: Final = 32
DIGITS: Final = 400
"""of a number: more than any double needs"""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """A route whose body, if it has one, must be strict JSON: see ``check_json``."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def checked(request: Request) -> Response:
            check_json(await request.body())  # starlette caches the body for the next reader
            return await handle(request)

        return checked


def check_json(raw: bytes) -> None:
    """Raise UsageError (``bad-request``) for a body that is not strict JSON. An empty body is left to the route.

    Refused is a body that is no JSON in UTF-8, has a key twice in one object, nests deeper than ``DEPTH``, or holds
    numbers or text that cannot be represented.
    """
    if not raw.strip():
        return
    if _depth(raw) > DEPTH:
        raise _bad(f"its brackets nest deeper than {DEPTH}")
    try:
        json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_real,
            parse_constant=_constant,
        )
    except UnicodeDecodeError:
        raise _bad("it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise _bad(f"it is not JSON ({str(error)[:100]})") from None
    if b"\\u" in raw:
        _check_text(json.loads(raw))


def _depth(raw: bytes) -> int:
    """Return the greatest depth of brackets; those within text count too, of which no body here has many."""
    depth = most = 0
    for byte in raw:
        if byte in b"[{":
            depth += 1
            most = max(most, depth)
        elif byte in b"]}":
            depth -= 1
    return most


def _bad(what: str) -> UsageError:
    return UsageError("bad-request", f"the body cannot be read: {what}", hint="/openapi.json describes every request.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise _bad(f"it has {twice[:100]!r} twice")
    return found


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise _bad(f"a number has {len(text):,} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _bad(f"the number {text[:40]} is too large")
    return value


def _constant(text: str) -> float:
    raise _bad(f"{text} is no JSON number")


def _check_text(value: Any) -> None:
    texts = [value] if isinstance(value, str) else [*value.keys()] if isinstance(value, dict) else []
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _bad("it holds half of a surrogate pair") from None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        _check_text(part)
