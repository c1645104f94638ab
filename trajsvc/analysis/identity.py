"""Identify a run by where it came from and what it holds; its name does not identify it.

Two analyses under one name belong together if the checkpoints that both have are the same: the same files, else the
same values in a sample of every checkpoint. Anything else is another run, and what is stored is not replaced without a
request.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from storage_schema.format.arrays import ITEMSIZE
from storage_schema.runs.contents import RunContents
from storage_schema.runs.store import RunStore, StoredRun, run_name
from trajsvc.errors import RunExists
from trajsvc.sources.base import CheckpointSource
from trajsvc.trajectory.elements import read_elements
from trajsvc.trajectory.matrix import Row, Trajectory
from trajsvc.trajectory.tables import files_json

SAMPLED: Final = 16
"""tensors of a checkpoint of which a part is read: half of them the largest, half spread over all"""
SAMPLE_BYTES: Final = 256
ATTRIBUTE: Final = "identity"


@dataclass(frozen=True)
class Continued:
    """The part of a stored run that the source still has.

    ``moved``: steps whose files are the stored ones in another place.
    """

    moved: frozenset[int] = frozenset()


def recorded(
    trajectory: Trajectory, old: StoredRun | None, state: str | None = None, moved: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the identity of a run as its attributes keep it.

    It has ``source``, ``parameters`` (a digest of names and shapes), ``digests`` (step → digest of its files if the
    source knows it, else of a sample of its values), and the ``state`` that was chosen, if one was.

    ``old`` is the stored run that is continued: digests of files that are still the same are taken from it. ``moved`` are the tensors
    that change in the run: where others are frozen, the digests are of these, so that two trainings of a few layers of one
    model are told apart.
    """
    same = old is not None and _parameters(trajectory) == _stored_parameters(old) and stored_state(old) == state
    before = _stored_digests(old) if old is not None and same else {}
    some = tuple(moved) if moved and len(moved) < len(trajectory.columns) else ()
    sampled = _stored_sampled(old) if old is not None and same else some
    files = {} if old is None else dict(zip(old.checkpoints.step.tolist(), old.checkpoints.files, strict=True))
    digests = {}
    for row in trajectory.rows:
        known = before.get(row.step) if files.get(row.step) == files_json(row) else None
        digests[str(row.step)] = known or digest_of(trajectory, row, state, sampled)
    here = {"source": trajectory.source.uri, "parameters": _parameters(trajectory), "digests": digests}
    return here | ({"state": state} if state else {}) | ({"sampled": _narrowed(trajectory, sampled)} if sampled else {})


def digest_of(trajectory: Trajectory, row: Row, state: str | None = None, among: Sequence[str] = ()) -> str:
    """Return a digest of what a checkpoint holds.

    ``files:`` and a digest of its files' own SHA-256 (and the ``state`` that was chosen in them) if they are known,
    else ``values:`` and a digest of the stored bytes at fixed places of some tensors (``among`` those named, if any).
    """
    weights = [f.sha256 for f in row.checkpoint.files if not f.path.endswith(".json")]
    if weights and all(weights):
        inside = row.checkpoint.extra.get("inside")
        named = [*weights, *(w for w in (state, inside) if w)]
        return "files:" + hashlib.sha256(json.dumps(named).encode()).hexdigest()
    hasher = hashlib.sha256()
    for column in _columns(trajectory, among):
        entry = row.entries[column]
        item = ITEMSIZE[entry.dtype]
        count = min(entry.size, SAMPLE_BYTES // item)
        lo = (entry.size - count) // 2
        out = bytearray(count * item)
        if entry.strides is None and count:
            read_elements(trajectory.source, entry, lo, lo + count, memoryview(out))
        hasher.update(f"{trajectory.columns[column].name} {entry.dtype} {lo}\n".encode() + out)
    return "values:" + hasher.hexdigest()


def check(
    old: StoredRun, trajectory: Trajectory, *, state: str | None = None, replace: bool = False
) -> Continued | None:
    """Return how ``trajectory`` continues the run ``old``, as far as the checkpoints that both have show.

    None if it is another run and may ``replace`` the stored one. ``state`` is the user's choice among several models in
    the files.

    Raises RunExists if it is another one, or if the stored run recorded too little to tell.
    """
    try:
        return _compared(old, trajectory, state)
    except RunExists:
        if replace:
            return None
        raise


def _compared(old: StoredRun, trajectory: Trajectory, state: str | None) -> Continued:
    theirs = dict(zip(old.checkpoints.step.tolist(), old.checkpoints.files, strict=True))
    shared = [row for row in trajectory.rows if row.step in theirs]
    digests, sampled = _stored_digests(old), _stored_sampled(old)
    comparable = _parameters(trajectory) == _stored_parameters(old)
    if not shared and not _same_place(old, trajectory):
        raise _another(old, trajectory, "they have no step in common")
    moved = []
    for row in shared:
        same_state = stored_state(old) == state
        if files_json(row) == theirs[row.step] and same_state:
            continue
        if not _same_blocks(old, trajectory):
            raise _another(old, trajectory, "its parameters have other names or shapes")
        alike = _alike(files_json(row), theirs[row.step])
        known = digests.get(row.step) if comparable else None
        if known is not None and known != digest_of(trajectory, row, state, sampled):
            what = "holds other values" if same_state else f"holds other values under {state or 'its model'}"
            raise _another(old, trajectory, f"step {row.step} {what}")
        if known is None and not (alike and same_state):
            raise _another(old, trajectory, f"the files of step {row.step} are others")
        if alike:
            moved.append(row.step)
    return Continued(frozenset(moved))


def name_in(runs: RunStore, source: CheckpointSource) -> str:
    """Return the name of a run in a store when the user gives none: the source's own name.

    If an earlier version stored this source under its folder's name alone, that run is continued.
    """
    name, earlier = run_name(source.name), run_name(_last_part(source.uri))
    known = runs.names()
    if name not in known and earlier in known and stored_source(runs.open(earlier)) == source.uri:
        return earlier
    return name


def _last_part(uri: str) -> str:
    return PurePosixPath(uri.partition(":")[2] if re.match(r"[a-z0-9_-]+:", uri) else uri).stem


def stored_source(old: StoredRun) -> str:
    """Return where a stored run came from."""
    return str((old.attributes.get(ATTRIBUTE) or {}).get("source") or old.attributes.get("source", ""))


def relocated(old: StoredRun, trajectory: Trajectory, moved: frozenset[int]) -> RunContents:
    """Return the stored run as if its files had been read where they are now."""
    contents = old.contents()
    now = {row.step: files_json(row) for row in trajectory.rows if row.step in moved}
    steps = contents.checkpoints.step.tolist()
    files = tuple(now.get(step, was) for step, was in zip(steps, contents.checkpoints.files, strict=True))
    here = trajectory.source.uri
    kept = {**(contents.attributes.get(ATTRIBUTE) or {}), "source": here}
    attributes = {**contents.attributes, "source": here, ATTRIBUTE: kept}
    return replace(contents, checkpoints=replace(contents.checkpoints, files=files), attributes=attributes)


def _sampled(sizes: Sequence[int]) -> list[int]:
    """Return the columns that a digest samples: the largest, and others spread evenly."""
    largest = sorted(range(len(sizes)), key=lambda c: (-sizes[c], c))[: SAMPLED // 2]
    rest = [c for c in range(len(sizes)) if c not in set(largest)]
    step = max(1, -(-len(rest) // (SAMPLED - len(largest))))
    return sorted([*largest, *rest[::step]])


def _columns(trajectory: Trajectory, among: Sequence[str]) -> list[int]:
    """Return the columns that a digest samples, of all or of those with the names ``among``."""
    names = set(among)
    chosen = [i for i, c in enumerate(trajectory.columns) if not names or c.name in names]
    return [chosen[i] for i in _sampled([trajectory.columns[c].size for c in chosen])]


def _narrowed(trajectory: Trajectory, among: Sequence[str]) -> list[str]:
    """Return the names of the columns that are sampled among these."""
    return [trajectory.columns[c].name for c in _columns(trajectory, among)]


def _stored_sampled(old: StoredRun) -> tuple[str, ...]:
    """Return the tensors that a stored run's digests are of; empty for the usual ones."""
    return tuple((old.attributes.get(ATTRIBUTE) or {}).get("sampled") or ())


def _parameters(trajectory: Trajectory) -> str:
    named = [[c.name, list(shape)] for c, shape in zip(trajectory.columns, trajectory.shapes, strict=True)]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _stored_parameters(old: StoredRun) -> str | None:
    found = (old.attributes.get(ATTRIBUTE) or {}).get("parameters")
    return found if isinstance(found, str) else None


def stored_state(old: StoredRun) -> str | None:
    """Return which of several models in its files a stored run is, if that was chosen."""
    found = (old.attributes.get(ATTRIBUTE) or {}).get("state")
    return found if isinstance(found, str) else None


def _stored_digests(old: StoredRun) -> dict[int, str]:
    """Return the digests that the run recorded; empty for a run of a version that did not record any."""
    found: Mapping[str, Any] = (old.attributes.get(ATTRIBUTE) or {}).get("digests") or {}
    return {int(step): str(digest) for step, digest in found.items()}


def _same_place(old: StoredRun, trajectory: Trajectory) -> bool:
    return trajectory.source.uri in (stored_source(old), old.attributes.get("source"))


def _same_blocks(old: StoredRun, trajectory: Trajectory) -> bool:
    mine: dict[str, int] = {}
    theirs: dict[str, int] = {}
    for block in trajectory.anatomy.blocks:
        mine[block.tensor] = mine.get(block.tensor, 0) + block.size
    for tensor, size in zip(old.blocks.tensor, old.blocks.size.tolist(), strict=True):
        theirs[tensor] = theirs.get(tensor, 0) + size
    return mine == theirs


def _alike(mine: str, theirs: str) -> bool:
    """Return whether two lists of files are the same files in different folders: names, sizes and times (or digests)
    agree.
    """
    return _without_folders(mine) == _without_folders(theirs)


def _without_folders(files: str) -> list[tuple[object, ...]] | None:
    found = json.loads(files)
    if not all(f.get("mtime_ns") or f.get("sha256") for f in found):
        return [(files,)]
    return [(PurePosixPath(f["path"]).name, f["size"], f["mtime_ns"], f["sha256"]) for f in found]


def _another(old: StoredRun, trajectory: Trajectory, why: str) -> RunExists:
    here, there = trajectory.source.uri, stored_source(old)
    if here == there:
        message = f"the store has a run {old.name} from {there}, and what is there now is another one: {why}"
    else:
        message = f"the store has a run {old.name} already, from {there}; {here} is another one: {why}"
    return RunExists(old.name, message, why)
