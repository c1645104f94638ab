"""Read a log into entries: what was logged at one time, by name.

A log is optional: one that is missing, cut short, too large or malformed has no entries, and is never an error.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from trajsvc.errors import TrajsvcError
from trajsvc.sources.logs.places import Readable

MOST_BYTES: Final = 64 * 2**20
MOST_ENTRIES: Final = 1_000_000
Entry = Mapping[str, Any]


def entries(files: Readable, path: str) -> list[Entry]:
    """Return the entries of the log at ``path``, in its order, read by what its name says it is."""
    read = _reader(path.rpartition("/")[2])
    try:
        if not files.exists(path) or (region := files.region(path)).size > MOST_BYTES:
            return []
        found = read(region.bytes(0, region.size))
    except (TrajsvcError, OSError):
        return []
    return found[:MOST_ENTRIES]


def _reader(name: str) -> Callable[[bytes], list[Entry]]:
    if name.startswith("events.out.tfevents."):
        return _events
    return {"jsonl": _lines, "csv": _table}.get(name.rpartition(".")[2].lower(), _trainer_state)


def _lines(text: bytes) -> list[Entry]:
    return [entry for line in text.splitlines() if isinstance(entry := _parsed(line), dict)]


def _trainer_state(text: bytes) -> list[Entry]:
    state = _parsed(text)
    history = state.get("log_history") if isinstance(state, dict) else None
    return [e for e in history if isinstance(e, dict)] if isinstance(history, list) else []


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _table(text: bytes) -> list[Entry]:
    """Read a table with a line of names; what is not a number is left out."""
    try:
        rows = csv.DictReader(io.StringIO(text.decode("utf-8-sig", "replace"), newline=""))
        return [{k: v for k, v in ((k, _number(v)) for k, v in row.items() if k) if v is not None} for row in rows]
    except csv.Error:
        return []


def _number(text: Any) -> float | int | None:
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    return None


def _events(content: bytes) -> list[Entry]:
    """Read the scalars of a TensorBoard event file; nothing where the package ``tensorboard`` is not installed."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    except ImportError:
        return []
    with tempfile.NamedTemporaryFile(suffix=".tfevents") as kept:  # the library reads files by their names
        Path(kept.name).write_bytes(content)
        try:
            return [entry for event in LegacyEventFileLoader(kept.name).Load() for entry in _scalars(event)]
        except Exception:
            return []


def _scalars(event: Any) -> Iterator[Entry]:
    for value in event.summary.value:
        if value.HasField("simple_value"):
            yield {"step": int(event.step), value.tag: float(value.simple_value)}
        elif value.HasField("tensor") and value.tensor.dtype in (1, 2) and not value.tensor.tensor_shape.dim:
            floats = [*value.tensor.float_val, *value.tensor.double_val]
            if len(floats) == 1:
                yield {"step": int(event.step), value.tag: float(floats[0])}
