"""Commit a run: stage files, hash them, rename the manifest, move files to their places; and recover after a crash.

The next generation's files are written and synced in ``.pending-<generation>/``. Renaming its manifest over the old one
commits it. Then its files are moved to their places and what is obsolete is removed (``settle``). Readers look in the
committed generation's pending folder first, so they find every file at every instant, moved or not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from storage_schema.files.durable import replace_file, sync_dir, sync_many
from storage_schema.format.manifest import MANIFEST, PENDING, FileEntry, Manifest
from storage_schema.runs.about import ABOUT
from storage_schema.runs.beside import ALL
from storage_schema.runs.snapshot import hash_file


def staged_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (key, path) of every file below a folder."""
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            yield path.relative_to(folder).as_posix(), path


def prove(folder: Path, known: Mapping[str, FileEntry], live: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """Hash and sync every staged file; return the entry of each. ``known`` files are durable and hashed already.

    A file equal to the one that is live already need not be published: it is dropped from the stage.
    """
    found: dict[str, FileEntry] = {}
    fresh: list[Path] = []
    for key, path in list(staged_files(folder)):
        entry = known.get(key) or hash_file(path)
        found[key] = entry
        if key not in known and live.get(key) == entry:
            path.unlink()
        elif key not in known:
            fresh.append(path)
    sync_many(fresh, [Path(top) for top, _, _ in os.walk(folder)])
    return found


def publish(run: Path, manifest: Manifest) -> None:
    """Commit a generation: before this call's rename readers see the old generation, after it the new one."""
    sync_dir(run)
    replace_file(run / MANIFEST, manifest.to_bytes())


def settle(run: Path, manifest: Manifest) -> None:
    """Move a committed generation's files to their places and remove what no generation needs. May be repeated."""
    pending = run / manifest.pending()
    for directory in _move(pending, run):
        sync_dir(directory)
    _sweep(run, manifest)
    if pending.is_dir():  # last: it is the sign that there is something to settle
        shutil.rmtree(pending)
    sync_dir(run)


def _move(stage: Path, place: Path) -> set[Path]:
    """Move what is staged to its place, a folder that has none yet as a whole; return the folders into which something was moved.

    Each folder that is made anew would be made durable, which takes longer than all else of the commit of a small run.
    """
    touched: set[Path] = set()
    for path in list(stage.iterdir()) if stage.is_dir() else []:
        target = place / path.name
        if path.is_dir() and target.is_dir():
            touched |= _move(path, target)
        else:
            path.replace(target)
            touched.add(place)
    return touched


def _sweep(run: Path, manifest: Manifest) -> None:
    """Remove files and folders that the manifest does not name, but other generations' stages, tags and what is kept beside the run."""
    keep = {MANIFEST, ABOUT, *manifest.files}
    for top, folders, names in os.walk(run, topdown=True):
        if Path(top) == run:
            folders[:] = [f for f in folders if not _is_apart(f)]
        for name in names:
            path = Path(top, name)
            if path.relative_to(run).as_posix() not in keep:
                path.unlink()
    for top, _, _ in os.walk(run, topdown=False):
        path = Path(top)
        if path != run and not _is_apart(path.relative_to(run).parts[0]):
            with suppress(OSError):  # not empty
                path.rmdir()


def _is_apart(folder: str) -> bool:
    """Return whether a folder of the run has its own record of what it holds."""
    return folder.startswith(PENDING) or folder in {beside.folder for beside in ALL}


def recover(run: Path, manifest: Manifest | None, *, theta_of: str) -> None:
    """Finish what a crashed writer left: settle the committed generation and clear the next one's stage.

    Rows of theta stay in the stage named ``theta_of``, whose writing can be resumed.
    """
    if manifest is not None and (run / manifest.pending()).exists():
        settle(run, manifest)
    (run / f".{MANIFEST}.new").unlink(missing_ok=True)
    following = f"{PENDING}{1 + (manifest.generation if manifest else 0)}"
    for path in run.glob(f"{PENDING}*"):
        if path.name == following:
            clear(path, theta=path.name != theta_of)
        else:
            shutil.rmtree(path)


def clear(stage: Path, *, theta: bool = False) -> None:
    """Empty a stage; rows of theta that were written stay for a resumed job unless ``theta``."""
    for path in list(stage.iterdir()) if stage.is_dir() else []:
        if path.name == "theta" and not theta:
            (path / "zarr.json").unlink(missing_ok=True)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
