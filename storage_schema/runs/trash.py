"""Removing, restoring and renaming runs. A removed run lies in the store's trash, whole, until the trash is emptied.

::

    <root>/trash/<id>.zarr/    the run's folder as it was; <id> is <name>@<when>, when in UTC: 20261127T183000Z

A rename of a folder is one step: readers see a run under one name or the other, whatever happens in between.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from storage_schema.errors import NotFound, Refused
from storage_schema.files.durable import make_dir, size_of, sync_dir, writing
from storage_schema.format.arrays import SUFFIX
from storage_schema.format.names import check_name
from storage_schema.runs.beside import ALL
from storage_schema.runs.gradient_writer import lock_of
from storage_schema.runs.store import RunStore

FOLDER: Final = "trash"
_ID: Final = re.compile(r"(?P<run>.+)@(?P<when>\d{8}T\d{6}Z(-\d+)?)")


@dataclass(frozen=True)
class Trashed:
    """A run in the trash."""

    id: str
    run: str
    removed: str
    """when, in UTC, ISO 8601"""
    bytes: int


def discard(store: RunStore, name: str, now: datetime | None = None) -> Trashed:
    """Move a run into the trash, and drop what its unfinished jobs kept; gone at once for readers.

    Raises RunMissing, and StoreBusy while a job writes the run or its gradients.
    """
    store.open(name)
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    with alone(store, name), writing(store.root):
        make_dir(store.root / FOLDER)
        target = _free(store, f"{name}@{stamp}")
        store.path(name).rename(target)
        sync_dir(store.runs)
        sync_dir(target.parent)
        if store.work(name).is_dir():
            shutil.rmtree(store.work(name))
    return _trashed(target)


def trashed(store: RunStore) -> list[Trashed]:
    """List the trash, by name and time of removal."""
    found = sorted((store.root / FOLDER).glob(f"*@*{SUFFIX}"))
    return [_trashed(path) for path in found if _ID.fullmatch(path.name.removesuffix(SUFFIX))]


def removed_runs(store: RunStore) -> dict[str, str]:
    """Return the runs whose name is in the trash and not in the store, each with the id of its last removal."""
    ids = sorted(path.name.removesuffix(SUFFIX) for path in (store.root / FOLDER).glob(f"*@*{SUFFIX}"))
    last = {found["run"]: one for one in ids if (found := _ID.fullmatch(one))}
    return {run: one for run, one in last.items() if not store.path(run).exists()}


def restore(store: RunStore, wanted: str, name: str | None = None) -> str:
    """Bring a run back from the trash, by its id or, where that says which, by its name; return the name it has then.

    ``name`` gives it another one. Raises NotFound (``not-in-trash``), Refused (``run-exists``), StoreBusy.
    """
    one = _find(store, wanted)
    back = check_name(name or one.run)
    with alone(store, back), writing(store.root):
        _check_free(store, back, f"trajsvc trash restore {one.id} --name OTHER")
        make_dir(store.runs)
        _path(store, one).rename(store.path(back))
        sync_dir(store.runs)
    return back


def empty(store: RunStore, wanted: Sequence[str] = ()) -> list[Trashed]:
    """Delete runs of the trash for good, all by default; return those that were. Raises NotFound (``not-in-trash``)."""
    gone = [_find(store, one) for one in wanted] if wanted else trashed(store)
    with writing(store.root):
        for one in gone:
            shutil.rmtree(_path(store, one))
    return gone


def rename(store: RunStore, name: str, new: str) -> None:
    """Give a run another name. Raises RunMissing, BadRunName, Refused (``run-exists``), and StoreBusy while a job writes it."""
    store.open(name)
    _check_free(store, check_name(new), f"trajsvc mv {name} OTHER")
    with alone(store, name), alone(store, new), writing(store.root):
        _check_free(store, new, f"trajsvc mv {name} OTHER")
        store.path(name).rename(store.path(new))
        sync_dir(store.runs)
        if store.work(name).is_dir():
            shutil.rmtree(store.work(name))


@contextmanager
def alone(store: RunStore, name: str) -> Iterator[None]:
    """Hold the locks of a run's writers, of its Grams and of what is kept beside it. Raises StoreBusy."""
    with ExitStack() as held:
        writer = store.writer(name)
        writer.hold()
        held.callback(writer.release)
        for beside in ALL:
            lock = lock_of(store.root, name, beside)
            lock.acquire()
            held.callback(lock.release)
        yield


def _check_free(store: RunStore, name: str, command: str) -> None:
    if store.path(name).exists():
        raise Refused("run-exists", f"there is a run {name!r} already", hint=f"Take another name: {command}.")


def _free(store: RunStore, wanted: str) -> Path:
    """Return a path in the trash that nothing has: two removals within a second are numbered."""
    folder, number = store.root / FOLDER, 1
    path = folder / f"{wanted}{SUFFIX}"
    while path.exists():
        number += 1
        path = folder / f"{wanted}-{number}{SUFFIX}"
    return path


def _path(store: RunStore, one: Trashed) -> Path:
    return store.root / FOLDER / f"{one.id}{SUFFIX}"


def _trashed(path: Path) -> Trashed:
    found = _ID.fullmatch(path.name.removesuffix(SUFFIX))
    assert found is not None
    when = datetime.strptime(found["when"].partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return Trashed(path.name.removesuffix(SUFFIX), found["run"], when.isoformat(), size_of(path))


def _find(store: RunStore, wanted: str) -> Trashed:
    known = trashed(store)
    found = [one for one in known if one.id == wanted] or [one for one in known if one.run == wanted]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.id for one in (found or known)[:8]) or "nothing"
    what = f"{len(found)} runs of the trash are called {wanted!r}" if found else f"{wanted!r} is not in the trash"
    raise NotFound("not-in-trash", what, hint=f"There: {names}. `trajsvc trash ls` lists it.")
