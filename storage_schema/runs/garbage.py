"""What lies in a store and nothing refers to any more: resume state of jobs that nobody continues, estimates of jobs that have
ended, and Grams of pairs of runs of which one is gone. All of that can be computed again. Runs are never among it; removed runs only
where their age is asked for.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from storage_schema.errors import BadRunName, RunMissing, StoreBusy, StoreDamaged
from storage_schema.files.durable import size_of, writing
from storage_schema.runs.store import RunStore
from storage_schema.runs.trash import alone, empty, trashed

Kind = Literal["unfinished", "estimate", "cross", "trash", "kernel"]


@dataclass(frozen=True)
class Garbage:
    """Something that may be removed."""

    kind: Kind
    name: str
    """of the run, or of the pair"""
    bytes: int
    days: float
    """since it last changed"""
    why: str


def garbage(store: RunStore, days: float = 7.0, trash: float | None = None) -> list[Garbage]:
    """List what may be removed. What an unfinished job needs to resume, and estimates, count once they have not changed for ``days``
    and no job writes their run; removed runs once they have been in the trash for ``trash`` days, None: never.
    """
    found = [*_unfinished(store), *_estimates(store)]
    old = [one for one in found if one.bytes and one.days >= days and _idle(store, one.name)]
    return [*old, *_pairs(store), *([] if trash is None else _trash(store, trash))]


def collect(store: RunStore, found: Sequence[Garbage]) -> list[Garbage]:
    """Remove what ``garbage`` listed, and return what was removed: not what a job has begun to write since."""
    gone = []
    for one in found:
        with suppress(StoreBusy, RunMissing):
            _remove(store, one)
            gone.append(one)
    return gone


def _remove(store: RunStore, one: Garbage) -> None:
    if one.kind == "cross":
        return store.cross.remove(one.name)
    if one.kind == "trash":
        empty(store, [one.name])
        return None
    with alone(store, one.name), writing(store.root):
        if one.kind == "estimate":
            store.live.remove(one.name)
        elif store.work(one.name).is_dir():
            shutil.rmtree(store.work(one.name))
    return None


def _unfinished(store: RunStore) -> Iterator[Garbage]:
    for folder in sorted(path for path in (store.root / "work").glob("[!.]*") if path.is_dir()):
        yield _of("unfinished", folder.name, folder, "an unfinished job could resume with it")


def _estimates(store: RunStore) -> Iterator[Garbage]:
    for name in store.live.names():
        yield _of("estimate", name, store.live.path(name), "of a job that has ended")


def _pairs(store: RunStore) -> Iterator[Garbage]:
    there = set(store.names())
    for name in store.cross.names():
        try:
            told = store.cross.open(name).attributes["cross"]["runs"]
            gone = sorted({str(run["run"]) for run in told} - there)
        except (RunMissing, StoreDamaged, KeyError, TypeError):
            continue
        if gone:
            yield _of(
                "cross", name, store.cross.path(name), f"{' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone"
            )


def _trash(store: RunStore, days: float) -> Iterator[Garbage]:
    """Yield the removed runs that have been in the trash for so long."""
    now = datetime.now(UTC)
    for one in trashed(store):
        age = max(0.0, (now - datetime.fromisoformat(one.removed)).total_seconds() / 86400)
        if age >= days:
            yield Garbage("trash", one.id, one.bytes, age, f"{one.run} was removed; trash restore brings it back")


def _of(kind: Kind, name: str, folder: Path, why: str) -> Garbage:
    times = [path.lstat().st_mtime for path in (folder, *folder.rglob("*"))]
    return Garbage(kind, name, size_of(folder), max(0.0, time.time() - max(times)) / 86400, why)


def _idle(store: RunStore, name: str) -> bool:
    """Return whether nobody writes the run."""
    try:
        with alone(store, name):
            return True
    except (StoreBusy, BadRunName):
        return False
