"""From the string that a user gives to the source it names."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from trajsvc.errors import NotFound, UnsupportedFormat, UsageError
from trajsvc.sources.base import CheckpointSource
from trajsvc.sources.local import LocalSource

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def open_source(spec: str | Path) -> CheckpointSource:
    """The source that ``spec`` names: a local folder, a pattern, or a file. Its checkpoints are listed, none is read.

    Raises UnsupportedFormat (``unsupported-source``) for ``hf://…`` and other addresses, NotFound (``source-not-found``,
    ``no-checkpoints``), UsageError (``bad-source``), and what ``LocalSource.checkpoints`` raises.
    """
    text = os.fspath(spec)
    if not text.strip() or "\0" in text:
        raise UsageError("bad-source", "the source is empty", hint="Give a folder of checkpoints, or a quoted pattern.")
    if match := _SCHEME.match(text):
        raise _unsupported(text, match[1].lower())
    source = LocalSource(text)
    if not source.exists():
        raise _not_found(text)
    source.checkpoints()
    return source


def _unsupported(text: str, scheme: str) -> UnsupportedFormat:
    what = "Sources on the Hub are" if scheme == "hf" else f"Sources at {scheme}:// are"
    download = f"Download the revisions first, a folder each (stepN), and give the folder that holds them. {text} was asked for."
    return UnsupportedFormat("unsupported-source", f"{what} not in this version", hint=download)


def _not_found(text: str) -> NotFound:
    path = Path(text).expanduser()
    parent = path.parent
    names = sorted(os.listdir(parent))[:10_000] if parent.is_dir() else []  # noqa: PTH208
    near = difflib.get_close_matches(path.name, names, 3, 0.5) or names[:3]
    hint = (
        f"In {parent} there are, among others: {', '.join(near)}." if near else f"{parent} does not exist or is empty."
    )
    return NotFound("source-not-found", f"there is no {text}", hint=hint, file=text)
