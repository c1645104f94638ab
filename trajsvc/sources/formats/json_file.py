"""Parse untrusted JSON (headers, indexes, configurations) within limits of size, depth and memory."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from trajsvc.errors import DamagedCheckpoint, TrajsvcError
from trajsvc.sources.files import Region
from trajsvc.sources.formats.limits import MAX_HEADER, MAX_TENSORS, too_much

# All but brackets: strings (the last may lack its end) and what lies between them. Possessive, so that it is linear in any input.
_NO_BRACKETS: Final = re.compile(rb'(?:[^][{}"]*+"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z))*+[^][{}"]*+', re.DOTALL)
_MAX_DEPTH: Final = 8
_AGAIN: Final = "Fetch or copy the file again."


def read_object(region: Region, kind: str) -> dict[str, Any]:
    """Read the JSON object in a file of at most 16 MiB. Raises what ``parse_object`` raises."""
    if region.size > MAX_HEADER:
        raise too_much(region.path, f"{region.size:,} bytes of JSON", f"{MAX_HEADER:,}")
    return parse_object(region.bytes(0, region.size), region.path, kind)


def parse_object(raw: bytes, path: str, kind: str) -> dict[str, Any]:
    """Parse ``raw`` as a JSON object; no object in it may have a key twice.

    Raises DamagedCheckpoint (``kind``) when it is not one or nests too deeply, LimitExceeded when its values would need
    far more memory than its bytes.
    """
    _check_structure(raw, path, kind)
    try:
        words = json.loads(raw.decode(), object_pairs_hook=lambda pairs: _unique(pairs, path, kind))
    except TrajsvcError:
        raise
    except (ValueError, RecursionError) as error:
        raise bad_json(path, kind, f"it is not JSON ({str(error)[:100]})") from error
    if not isinstance(words, dict):
        raise bad_json(path, kind, "it is not a JSON object")
    return words


def bad_json(path: str, kind: str, what: str, tensor: str | None = None) -> DamagedCheckpoint:
    tensor = tensor and tensor[:200]
    return DamagedCheckpoint(kind, f"{path} cannot be read: {what}", hint=_AGAIN, file=path, tensor=tensor)


def _check_structure(raw: bytes, path: str, kind: str) -> None:
    # Brackets and commas within strings are counted too: no name needs a hundred thousand of them.
    entries = max(raw.count(b"{") - 2, raw.count(b"[") // 2 - 2)
    if entries > MAX_TENSORS:
        raise too_much(path, f"{entries:,} entries", f"{MAX_TENSORS:,} tensors")
    if raw.count(b",") > 10 * MAX_TENSORS:
        raise too_much(path, f"{raw.count(b','):,} values", f"{MAX_TENSORS:,} tensors")
    nested = _NO_BRACKETS.sub(b"", raw)
    # Each pass takes the innermost brackets away; what is left after eight nests deeper than any file that is read here.
    for _ in range(_MAX_DEPTH):
        nested = nested.replace(b"[]", b"").replace(b"{}", b"")
        if not nested:
            return
    raise bad_json(path, kind, "its brackets do not match, or nest too deeply")


def _unique(pairs: list[tuple[str, Any]], path: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise bad_json(path, kind, f"{name[:200]!r} appears twice", name)
        found[name] = value
    return found
