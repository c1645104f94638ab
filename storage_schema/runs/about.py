"""What people say of a run: tags to find it by, a text of notes, and hyperparameters set by hand.

::

    <store>/runs/<name>.zarr/about.json   {"version": 1, "tags": ["baseline"], "notes": "…", "hyperparameters": {"lr": 0.1}}
    <store>/locks/about/<name>.lock       held for the moment of a change

They are no part of what was computed, so they change without a commit, also while a job writes the run. A run without the file has none.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from storage_schema.errors import StoreDamaged, UsageError
from storage_schema.files.durable import make_dir, replace_file, writing
from storage_schema.files.regular import NotRegular, open_regular, read_file
from storage_schema.models.results import Scalar

ABOUT: Final = "about.json"
VERSION: Final = 1
MOST: Final = 64
"""tags of a run"""
MOST_SET: Final = 128
"""hyperparameters of a run that are set by hand"""
LONGEST_NOTES: Final = 10_000
"""characters"""
LONGEST_VALUE: Final = 500
"""characters of a hyperparameter that is text"""
TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9._:/=+-]{0,63}"
NAME: Final = r"[A-Za-z_][A-Za-z0-9_.:/-]{0,99}"
"""of a hyperparameter"""


@dataclass(frozen=True)
class About:
    """What is said of a run."""

    tags: tuple[str, ...] = ()
    """sorted"""
    notes: str = ""
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    """those set by hand, by name in order of the alphabet"""

    def as_json(self) -> bytes:
        """Return the contents of the file."""
        kept: dict[str, Any] = {"version": VERSION, "tags": list(self.tags)}
        if self.notes:
            kept["notes"] = self.notes
        if self.hyperparameters:
            kept["hyperparameters"] = dict(self.hyperparameters)
        return json.dumps(kept, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def check_tag(tag: str) -> str:
    """Return ``tag`` if it is one: 1 to 64 letters, digits and ``._:/=+-``, the first a letter, digit or ``_``.

    Raises UsageError (``bad-tag``).
    """
    if re.fullmatch(TAG, tag):
        return tag
    hint = "A tag is 1 to 64 letters, digits and ._:/=+- and begins with a letter, a digit or _."
    raise UsageError("bad-tag", f"{tag[:80]!a} is no tag", hint=hint)


def check_notes(text: str) -> str:
    """Return ``text`` without the white space around it.

    Raises UsageError (``bad-notes``) if it is too long or holds control characters.
    """
    text = text.strip()
    if len(text) > LONGEST_NOTES:
        hint = f"Notes have at most {LONGEST_NOTES:,} characters; keep the rest in a file and name it here."
        raise UsageError("bad-notes", f"notes of {len(text):,} characters", hint=hint)
    if any(not c.isprintable() and c not in "\n\t" for c in text):
        raise UsageError("bad-notes", "the notes hold control characters", hint="Write plain text.")
    return text


def check_hyperparameter(name: str, value: object) -> Scalar:
    """Return ``value`` if it is one number, text or boolean under a proper name.

    Raises UsageError (``bad-hyperparameter``).
    """
    if not re.fullmatch(NAME, name):
        hint = "A name is 1 to 100 letters, digits and _.:/- and begins with a letter or _: trajsvc set RUN lr=0.1"
        raise UsageError("bad-hyperparameter", f"{name[:80]!a} is no name of a hyperparameter", hint=hint)
    problem = _problem(value)
    if problem:
        hint = "A value is true, false, a number below 2^63, or a text of at most 500 characters."
        raise UsageError("bad-hyperparameter", f"the hyperparameter {name} {problem}", hint=hint)
    assert isinstance(value, bool | int | float | str)
    return value


def _problem(value: object) -> str:
    """Say what is wrong with the value of a hyperparameter; nothing if it may be kept."""
    if isinstance(value, str):
        if len(value) > LONGEST_VALUE:
            return f"has {len(value)} characters"
        return "" if value.isprintable() else "holds control characters"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "is too large a number"
    return "" if isinstance(value, bool | int | float) else "is no number, text or boolean"


def read_about(run: Path) -> About:
    """Return what is said of the run in the folder ``run``. Raises StoreDamaged."""
    try:
        data = read_file(run / ABOUT)
    except FileNotFoundError:
        return About()
    except NotRegular:
        raise StoreDamaged(run / ABOUT, f"{run / ABOUT} is not a regular file", "Remove it.") from None
    try:
        told = json.loads(data)
        version = told["version"]
        if version == VERSION:
            return About(
                tuple(sorted({check_tag(tag) for tag in told["tags"]})),
                check_notes(told.get("notes", "")),
                {k: check_hyperparameter(k, v) for k, v in sorted(told.get("hyperparameters", {}).items())},
            )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        what = "the tags, notes and hyperparameters of the run cannot be read"
        raise StoreDamaged(run / ABOUT, what, "Remove the file: it has nothing else.") from error
    what = f"the tags, notes and hyperparameters are of format {version!r}"
    raise StoreDamaged(run / ABOUT, what, "Read them with the version that wrote them.")


def change_about(
    root: Path,
    run: Path,
    *,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
    notes: str | None = None,
    given: Mapping[str, Scalar] | None = None,
    unset: Iterable[str] = (),
    before: Callable[[], None] = lambda: None,
) -> About:
    """Change what is said of a run of the store ``root``, durably, and return what is said then.

    Tags are added and removed, ``notes`` replaces the text (empty: none), hyperparameters are ``given`` and ``unset``. ``before``
    is called while nobody else can change them, and may raise. Raises UsageError (``bad-tag``, ``bad-notes``,
    ``bad-hyperparameter``), also where a run would have too many; StoreDamaged.
    """
    more, less, names = {check_tag(tag) for tag in add}, set(remove), set(unset)
    values = {name: check_hyperparameter(name, value) for name, value in (given or {}).items()}
    text = None if notes is None else check_notes(notes)
    with writing(run), _held(root / "locks" / "about" / f"{run.stem}.lock"):
        before()
        old = read_about(run)
        kept = {name: value for name, value in old.hyperparameters.items() if name not in names}
        new = replace(
            old,
            tags=tuple(sorted((set(old.tags) - less) | more)),
            notes=old.notes if text is None else text,
            hyperparameters=dict(sorted({**kept, **values}.items())),
        )
        _check_counts(run.stem, new)
        if new.as_json() != old.as_json():
            replace_file(run / ABOUT, new.as_json())
    return new


def _check_counts(name: str, about: About) -> None:
    if len(about.tags) > MOST:
        raise UsageError("bad-tag", f"{name} would have {len(about.tags)} tags", hint=f"A run has at most {MOST}.")
    count = len(about.hyperparameters)
    if count > MOST_SET:
        hint = f"At most {MOST_SET} are set by hand; those in the trainer's files are read by the analysis."
        raise UsageError("bad-hyperparameter", f"{name} would have {count} hyperparameters set by hand", hint=hint)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock of a change, which takes milliseconds, waiting for the one before."""
    make_dir(path.parent)
    fd = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
