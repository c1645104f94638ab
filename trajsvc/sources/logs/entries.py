"""Read a log into entries: what was logged at one time, by name.

A log is optional: one that is missing, cut short, too large or malformed has no entries, or those before, and is never an error. Its
bytes may become many times as much in memory, so values are counted before they are parsed.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from trajsvc.errors import TrajsvcError
from trajsvc.sources.logs.places import Readable

MOST_BYTES: Final = 64 * 2**20
MOST_ENTRIES: Final = 1_000_000
MOST_VALUES: Final = 2_000_000
"""values of a log, of which each may take sixty bytes of memory"""
MOST_STRAY: Final = 10_000
"""lines of a log of JSON lines that are none, after which it is not read on"""
LONGEST: Final = 2**20
"""letters of a table's row, or bytes of an event: one with a picture is passed over"""
Entry = Mapping[str, Any]

_LINE: Final = re.compile(rb"[^\r\n]+")
_HEAD: Final = 12
"""bytes before an event's own, its length and a checksum; four more follow it"""


def entries(files: Readable, path: str) -> list[Entry]:
    """Return the entries of the log at ``path``, in its order, read by what its name says it is."""
    read = _reader(path.rpartition("/")[2])
    try:
        if not files.exists(path) or (region := files.region(path)).size > MOST_BYTES:
            return []
        return list(islice(read(region.bytes(0, region.size)), MOST_ENTRIES))
    except (TrajsvcError, OSError):
        return []


def _reader(name: str) -> Callable[[bytes], Iterator[Entry]]:
    if name.startswith("events.out.tfevents."):
        return _events
    return {"jsonl": _lines, "csv": _table}.get(name.rpartition(".")[2].lower(), _trainer_state)


def _lines(text: bytes) -> Iterator[Entry]:
    left, stray = MOST_VALUES, 0
    for line in _LINE.finditer(text):
        left -= _values(line[0])
        if left < 0 or stray > MOST_STRAY:
            return
        if isinstance(entry := _parsed(line[0]), dict):
            yield entry
        else:
            stray += 1


def _trainer_state(text: bytes) -> Iterator[Entry]:
    state = _parsed(text) if _values(text) <= MOST_VALUES else None
    history = state.get("log_history") if isinstance(state, dict) else None
    yield from (e for e in (history if isinstance(history, list) else ()) if isinstance(e, dict))


def _values(text: bytes) -> int:
    """Return how many values JSON has at most."""
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _table(text: bytes) -> Iterator[Entry]:
    """Read a table with a line of names; what is not a number is left out."""
    left = MOST_VALUES
    lines = _Lines(text)
    try:
        for row in csv.DictReader(lines):
            lines.letters = 0
            left -= len(row)
            if left < 0:
                return
            yield {k: v for k, v in ((k, _number(v)) for k, v in row.items() if k) if v is not None}
    except csv.Error:
        return


class _Lines:
    """The lines of a table. Raises csv.Error where a row has too many ``letters``: in quotes it may have any number of lines."""

    def __init__(self, text: bytes) -> None:
        self.letters, self._left = 0, MOST_ENTRIES
        self._text = io.TextIOWrapper(io.BytesIO(text), "utf-8-sig", "replace", newline="")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST)
        self.letters += len(line)
        self._left -= 1
        if not line or self._left < 0:
            raise StopIteration
        if self.letters >= LONGEST:
            raise csv.Error("too long a row")
        return line


def _number(text: Any) -> float | int | None:
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    return None


def _events(content: bytes) -> Iterator[Entry]:
    """Read the scalars of a TensorBoard event file; nothing where the package ``tensorboard`` is not installed."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    except ImportError:
        return
    left = MOST_VALUES
    with tempfile.NamedTemporaryFile(suffix=".tfevents") as kept:  # the library reads files by their names
        with Path(kept.name).open("wb") as out:
            out.writelines(_small_events(content))
        try:
            for event in LegacyEventFileLoader(kept.name).Load():
                found = list(_scalars(event))
                left -= len(found)
                if left < 0:
                    return
                yield from found
        except Exception:
            return


def _small_events(content: bytes) -> Iterator[bytes]:
    """Yield the records of events that are no larger than one of scalars is: the values of one take many times its bytes."""
    at, left = 0, MOST_ENTRIES
    while at + _HEAD <= len(content) and left > 0:
        size = int.from_bytes(content[at : at + 8], "little")
        end = at + _HEAD + size + 4
        if size <= LONGEST:
            yield content[at:end]
        at, left = end, left - 1


def _scalars(event: Any) -> Iterator[Entry]:
    for value in event.summary.value:
        if value.HasField("simple_value"):
            yield {"step": int(event.step), value.tag: float(value.simple_value)}
        elif value.HasField("tensor") and value.tensor.dtype in (1, 2) and not value.tensor.tensor_shape.dim:
            floats = [*value.tensor.float_val, *value.tensor.double_val]
            if len(floats) == 1:
                yield {"step": int(event.step), value.tag: float(floats[0])}
