"""Open the source of a job, and pin it to its current revisions."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storage_schema.runs.reader import StoredRun
from trajsvc.analysis.identity import stored_source
from trajsvc.analysis.options import Options
from trajsvc.analysis.selected import source_of
from trajsvc.analysis.stored_rows import Opener
from trajsvc.errors import Cancelled, LimitExceeded, Refused, TryAgain
from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.spec import JobSpec
from trajsvc.sources.base import CheckpointSource, never
from trajsvc.sources.resolve import is_remote

if TYPE_CHECKING:
    from trajsvc.sources.hub.source import HubSource

MOST_FILES: Final = 200_000
ASKING: Final = 10.0
"""seconds that a submission waits for the Hub"""
FILES: Final = "files"
"""the pin of a folder: a digest of its files' names, sizes and times"""


class Deadline:
    """A stop function that returns True once ``seconds`` have passed, or ``stop`` does, for work that a client waits
    for.
    """

    def __init__(self, seconds: float, stop: Callable[[], bool] = never) -> None:
        self.seconds, self._stop = seconds, stop
        self._end = time.monotonic() + seconds

    def __call__(self) -> bool:
        return time.monotonic() > self._end or self._stop()

    def missed(self) -> TryAgain:
        """Return the error for a Hub that was too slow."""
        return TryAgain("hub-slow", f"the Hub did not answer within {self.seconds:.0f} s", hint="Ask again in a while.")


def open_job_source(spec: JobSpec, roots: Roots, store: Path, stop: Callable[[], bool] = never) -> CheckpointSource:
    """Open the source of a job, a repository at the commits that it had when the job was submitted.

    Raises what opening it raises.
    """
    if is_remote(spec.source):
        return source_of(spec.source, spec, store, stop, spec.pins)
    return source_of(spec.source, spec, store, naming=roots.naming(spec.source))


def opener_within(roots: Roots) -> Opener:
    """Return what opens the source of a stored run: on the Hub, or within the data roots and nowhere else.

    Raises Refused (``no-source``) for a folder that is in none.
    """

    def open_source_of(run: StoredRun, options: Options, stop: Callable[[], bool]) -> CheckpointSource:
        where, store = stored_source(run), run.path.parent.parent
        if is_remote(where):
            return source_of(where, options, store, stop)
        for root, folder in roots.folders.items():
            if Path(where).is_absolute() and Path(where).is_relative_to(folder):
                where = f"{root}:{Path(where).relative_to(folder)}"
        if where.partition(":")[0] not in roots.folders:
            words = f"{run.name} came from a folder that this server does not read"
            raise Refused("no-source", words, hint="Submit its source as a new run.")
        return source_of(where, options, store, stop, naming=roots.naming(where))

    return open_source_of


def pins_of(spec: JobSpec, roots: Roots, store: Path, stop: Callable[[], bool] = never) -> dict[str, str]:
    """Return what the source is now: of a repository its revisions' commits, of a folder a digest of its listing.

    Raises NotFound, Refused, UsageError and, if the Hub does not answer, TryAgain.
    """
    if not is_remote(spec.source):
        return {FILES: listing_digest(roots.resolve(spec.source), stop)}
    until = Deadline(ASKING, stop)
    source: HubSource = source_of(spec.source, spec, store, until)  # type: ignore[assignment]
    try:
        return source.pins()
    except Cancelled:
        raise until.missed() from None
    finally:
        source.close()


def listing_digest(path: Path, stop: Callable[[], bool] = never) -> str:
    """Return the SHA-256 of the names, sizes and times of all files below ``path``.

    Raises LimitExceeded (``too-many-files``), and Cancelled when ``stop`` returns True.
    """
    hasher = hashlib.sha256()
    count = 0
    if path.is_file():
        status = path.stat()
        return hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
    for folder, names, files in os.walk(path):
        names.sort()
        if stop():
            raise Cancelled
        for name in sorted(files):
            count += 1
            if count > MOST_FILES:
                raise LimitExceeded(
                    "too-many-files", f"more than {MOST_FILES} files", hint="Name a folder further down."
                )
            try:
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 (many files)
            except OSError:
                continue
            place = os.path.relpath(os.path.join(folder, name), path)  # noqa: PTH118
            hasher.update(f"{place!r} {status.st_size} {status.st_mtime_ns}\n".encode())
    return hasher.hexdigest()
