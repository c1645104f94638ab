"""Open the source that a user's string names."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trajsvc.errors import NotFound, UnsupportedFormat, UsageError
from trajsvc.sources.base import CheckpointSource
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.named import PATHS, Naming
from trajsvc.sources.patterns import StepPattern

if TYPE_CHECKING:
    from trajsvc.sources.hub.source import HubOptions


from collections.abc import Callable, Mapping, Sequence

from trajsvc.settings import Settings, parse_bytes
from trajsvc.sources.base import Cache, never

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def open_source(
    spec: str | Path,
    hub: HubOptions | None = None,
    *,
    state: str | None = None,
    step_pattern: StepPattern | None = None,
    naming: Naming = PATHS,
) -> CheckpointSource:
    """Open the source that ``spec`` names: a local folder, a pattern, a file, or ``hf://org/name`` on the Hub.

    A local one is listed; no request is made to the Hub yet. ``naming`` is how local files are named; it, ``state`` and
    ``step_pattern`` are for local sources.

    Raises UnsupportedFormat (``unsupported-source``) for other addresses, NotFound (``source-not-found``,
    ``no-checkpoints``), UsageError (``bad-source``, ``bad-hub-address``), and what ``LocalSource.checkpoints`` raises.
    """
    text = os.fspath(spec)
    if not text.strip() or "\0" in text:
        raise UsageError("bad-source", "the source is empty", hint="Give a folder of checkpoints, or a quoted pattern.")
    if is_remote(text):
        from trajsvc.sources.hub.address import parse_address
        from trajsvc.sources.hub.source import HubSource

        return HubSource(parse_address(text), hub)
    if match := _SCHEME.match(text):
        raise _unsupported(text, match[1].lower())
    source = LocalSource(text, state=state, step_pattern=step_pattern, naming=naming)
    if not source.exists():
        raise _not_found(text, naming)
    source.checkpoints()
    return source


def is_remote(spec: str | Path) -> bool:
    """Return whether ``spec`` names a repository on the Hub."""
    return os.fspath(spec).startswith(("hf://", "https://huggingface.co/"))


def _unsupported(text: str, scheme: str) -> UnsupportedFormat:
    hint = f"Give a folder, or a repository on the Hub: hf://EleutherAI/pythia-70m. {text} was asked for."
    return UnsupportedFormat("unsupported-source", f"sources at {scheme}:// are not in this version", hint=hint)


_HUB: Final = re.compile(
    r"(?:hf|huggingface)(?::/*|/{2,})|(?:https?:/*)?(?:www\.)?(?:huggingface\.co|hf\.co)/+", re.IGNORECASE
)


def _hub_name(text: str) -> str:
    """Return the part of a repository's address that follows ``hf://``."""
    found = _HUB.match(text)
    name = text[found.end() :] if found else text
    return name.strip("/") or "org/name"


def _not_found(text: str, naming: Naming) -> NotFound:
    if naming.prefix:
        return NotFound("source-not-found", f"there is no {text}", hint="Is it spelled as on disk?", file=text)
    path = Path(text).expanduser()
    parent = path.parent
    names = sorted(os.listdir(parent))[:10_000] if parent.is_dir() else []  # noqa: PTH208
    near = difflib.get_close_matches(path.name, names, 3, 0.6)
    place = "this folder" if parent == Path() else os.fspath(parent)
    on_hub = f"A repository on the Hub is written hf://{_hub_name(text)}."
    if _HUB.match(text):
        hint = on_hub
    elif near:
        hint = f"Did you mean {' or '.join(os.fspath(parent / name) for name in near)}?"
    elif names:
        hint = f"{place[:1].upper()}{place[1:]} has: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
    else:
        hint = f"{place} does not exist or is empty."
        hint += f" {on_hub}" if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", text) else ""
    return NotFound("source-not-found", f"there is no folder or file {text}", hint=hint, file=text)


def open_named(
    source: str | Path,
    store: Path | None = None,
    revisions: str | Sequence[str] | None = None,
    commits: str | None = None,
    cache: str | int | None = None,
    connections: int | None = None,
    stop: Callable[[], bool] = never,
    pins: Mapping[str, str] | None = None,
    state: str | None = None,
    step_pattern: str | None = None,
    naming: Naming = PATHS,
) -> CheckpointSource:
    """Open the source that a user names; for the Hub, with what is to be read and how.

    What is read ahead lies in a folder of the store; ``stop`` is called while waiting for the Hub; ``pins`` (label →
    commit) fix revisions to their commits. ``state`` names the model to read if there are several, ``step_pattern`` is
    a regular expression that says where the step is in names.

    Raises UsageError (``hub-option``, ``bad-pattern``) for an option of the Hub with a folder, and what ``open_source``
    raises.
    """
    pattern = None if step_pattern is None else StepPattern.of(step_pattern)
    if not is_remote(source):
        if revisions or commits:
            option = "revisions" if revisions else "commits"
            hint = "Choose checkpoints with steps, or give a quoted glob."
            raise UsageError("hub-option", f"{option} are chosen of repositories on the Hub, not of folders", hint=hint)
        return open_source(source, state=state, step_pattern=pattern, naming=naming)
    from trajsvc.sources.hub.limits import HubLimits
    from trajsvc.sources.hub.source import HubOptions

    settings = Settings()
    room = settings.cache if cache is None else parse_bytes(cache) if isinstance(cache, str) else cache
    options = HubOptions(
        revisions=(revisions,) if isinstance(revisions, str) else tuple(revisions or ()),
        commits=commits,
        connections=connections or settings.connections,
        cache=Cache((store or settings.store) / "cache", room) if room > 0 else None,
        timeout=settings.timeout,
        limits=HubLimits.of(settings),
        stop=stop,
        pins=dict(pins or {}),
        state=state,
        step_pattern=pattern,
    )
    return open_source(source, options)
