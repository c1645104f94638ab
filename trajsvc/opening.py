"""From what a user names to a source that is open: folders here, repositories on the Hub with what is to be read of them and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trajsvc.errors import UsageError
from trajsvc.settings import Settings, parse_bytes
from trajsvc.sources.base import Cache, CheckpointSource, never
from trajsvc.sources.resolve import is_remote, open_source


def open_named(
    source: str | Path,
    store: Path | None = None,
    revisions: str | Sequence[str] | None = None,
    commits: str | None = None,
    cache: str | int | None = None,
    connections: int | None = None,
    stop: Callable[[], bool] = never,
    pins: Mapping[str, str] | None = None,
) -> CheckpointSource:
    """The source that a user names; of the Hub, with what is to be read and how. What is read ahead lies in a folder of the store;
    ``stop`` is asked while the Hub is waited for; ``pins`` (label → commit) hold it to revisions as they were.

    Raises UsageError (``hub-option``) for an option of the Hub with a folder, and what ``open_source`` raises.
    """
    if not is_remote(source):
        if revisions or commits:
            option = "revisions" if revisions else "commits"
            hint = "Choose checkpoints with steps, or give a quoted glob."
            raise UsageError("hub-option", f"{option} are chosen of repositories on the Hub, not of folders", hint=hint)
        return open_source(source)
    from trajsvc.sources.hub.source import HubOptions

    settings = Settings()
    room = settings.cache if cache is None else parse_bytes(cache) if isinstance(cache, str) else cache
    options = HubOptions(
        revisions=(revisions,) if isinstance(revisions, str) else tuple(revisions or ()),
        commits=commits,
        connections=connections or settings.connections,
        cache=Cache((store or settings.store) / "cache", room) if room > 0 else None,
        timeout=settings.timeout,
        stop=stop,
        pins=dict(pins or {}),
    )
    return open_source(source, options)
