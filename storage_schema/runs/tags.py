"""The tags of a run: words that people and programs give it, to find it by.

::

    <store>/runs/<name>.zarr/about.json   {"version": 1, "tags": ["baseline", "experiment:h7"]}
    <store>/locks/about/<name>.lock       held for the moment of a change

They are no part of what was computed, so they change without a commit, also while a job writes the run. A run without the file has none.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage_schema.errors import StoreDamaged, UsageError
from storage_schema.files.durable import make_dir, replace_file, writing

ABOUT: Final = "about.json"
VERSION: Final = 1
MOST: Final = 64
"""tags of a run"""
TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9._:/=+-]{0,63}"


def check_tag(tag: str) -> str:
    """Return ``tag`` if it is one: 1 to 64 letters, digits and ``._:/=+-``, the first a letter, digit or ``_``.

    Raises UsageError (``bad-tag``).
    """
    if re.fullmatch(TAG, tag):
        return tag
    hint = "A tag is 1 to 64 letters, digits and ._:/=+- and begins with a letter, a digit or _."
    raise UsageError("bad-tag", f"{tag[:80]!a} is no tag", hint=hint)


def read_tags(run: Path) -> tuple[str, ...]:
    """Return the tags of the run in the folder ``run``, sorted. Raises StoreDamaged."""
    try:
        data = (run / ABOUT).read_bytes()
    except FileNotFoundError:
        return ()
    try:
        told = json.loads(data)
        if told["version"] == VERSION:
            return tuple(sorted({check_tag(tag) for tag in told["tags"]}))
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise StoreDamaged(
            run / ABOUT, "the tags of the run cannot be read", "Remove the file: it has nothing else."
        ) from error
    raise StoreDamaged(
        run / ABOUT, f"the tags are of format {told['version']!r}", "Read them with the version that wrote them."
    )


def change_tags(root: Path, run: Path, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
    """Add and remove tags of a run of the store ``root``, durably, and return what it has then.

    Raises UsageError (``bad-tag``), also where a run would have more than 64; StoreDamaged.
    """
    more, less = {check_tag(tag) for tag in add}, set(remove)
    with writing(run), _held(root / "locks" / "about" / f"{run.stem}.lock"):
        before = read_tags(run)
        after = tuple(sorted((set(before) - less) | more))
        if len(after) > MOST:
            raise UsageError("bad-tag", f"{run.stem} would have {len(after)} tags", hint=f"A run has at most {MOST}.")
        if after != before:
            replace_file(run / ABOUT, json.dumps({"version": VERSION, "tags": list(after)}).encode() + b"\n")
    return after


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock of a change, which takes milliseconds, waiting for the one before."""
    make_dir(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
