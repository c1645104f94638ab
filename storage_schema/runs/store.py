"""The store: a folder of runs. One writer a run, any number of readers, each of whom sees committed generations only.

::

    <root>/runs/<name>.zarr/    a zarr v3 group (see ``arrays``) and its manifest.json
    <root>/work/<name>/         resume journals and progress of unfinished jobs
    <root>/locks/<name>.lock    held by the run's writer
    <root>/locks/gradients/     the same for the writers of runs' gradients; locks/spectra/ of their spectra
    <root>/live/                a store of the same kind: estimates of running jobs
    <root>/cross/               a store of the same kind: runs against runs

How to use it::

    store = RunStore("trajsvc-store")
    with store.writer("pythia-70m") as writer:
        writer.commit(contents)
    store.open("pythia-70m").gram(range(12))
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage_schema.errors import NotFound, Refused, RunMissing
from storage_schema.files.durable import make_dir, sync_dir, writing
from storage_schema.format.arrays import SUFFIX
from storage_schema.format.manifest import MANIFEST
from storage_schema.format.names import check_name, run_name
from storage_schema.runs.about import About, change_about
from storage_schema.runs.beside import ALL
from storage_schema.runs.reader import StoredRun

if TYPE_CHECKING:
    from storage_schema.runs.writer import RunWriter

__all__ = ["RunStore", "StoredRun", "run_name"]

_REMOVED = ".removed-"


class RunStore:
    """The runs below one folder. Nothing is created before something is written."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def live(self) -> RunStore:
        """Runs as running jobs estimate them. Nothing depends on them: they may be missing, old or removed at any time."""
        return RunStore(self.root / "live")

    @property
    def cross(self) -> RunStore:
        """Gram matrices of two runs' checkpoints together, each as a run that has both. They are made from the runs, and may be removed."""
        return RunStore(self.root / "cross")

    def path(self, name: str) -> Path:
        """Return the folder of a run, whether it exists or not. Raises BadRunName."""
        return self.runs / f"{check_name(name)}{SUFFIX}"

    def work(self, name: str) -> Path:
        """Return the folder of the files of an unfinished job on the run."""
        return self.root / "work" / check_name(name)

    def check(self, *, missing: bool = False) -> None:
        """Raise Refused (``store-not-folder``) if the store is a file, a device or a broken link, and NotFound
        (``store-not-found``) if it does not exist, unless ``missing`` allows that.
        """
        if self.root.is_dir():
            return
        if os.path.lexists(self.root):
            kind = "a link that leads nowhere" if self.root.is_symlink() and not self.root.exists() else "no folder"
            hint = "Name a folder with --store or TRAJSVC_STORE."
            raise Refused("store-not-folder", f"the store {self.root} is {kind}", hint=hint, file=self.root)
        if missing:
            return
        there = "" if self.root == Path("trajsvc-store") else f" --store {self.root}"
        hint = (
            f"`trajsvc analyze FOLDER{there}` makes one from your checkpoints, `trajsvc demo{there}` one to try; "
            "--store or TRAJSVC_STORE names another."
        )
        raise NotFound("store-not-found", f"there is no store {self.root}", hint=hint, file=self.root)

    def make(self) -> None:
        """Create the store's folder if it is missing.

        Raises Refused (``store-not-folder``), StoreUnwritable, DiskFull.
        """
        if not self.root.is_dir():
            self.check(missing=True)
            with writing(self.root):
                make_dir(self.root)

    def names(self) -> tuple[str, ...]:
        """Return the names of the runs that have been committed, sorted."""
        found = self.runs.glob(f"[!.]*{SUFFIX}/{MANIFEST}")
        return tuple(sorted(path.parent.name.removesuffix(SUFFIX) for path in found))

    def open(self, name: str) -> StoredRun:
        """Open the run's last commit. Raises RunMissing, StoreDamaged, StoreVersion, BadRunName."""
        try:
            return StoredRun(self.path(name))
        except RunMissing as problem:
            known = self.names()
            listed = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            problem.hint = f"Runs in {self.root}: {listed}" if known else f"There are no runs in {self.root} yet."
            problem.message = f"no run {name!r}"
            raise

    def tag(self, name: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
        """Add and remove tags of a run; return those that it has then.

        Raises RunMissing, UsageError (``bad-tag``), StoreDamaged.
        """
        return self.describe(name, add=add, remove=remove).tags

    def describe(self, name: str, **changes: Any) -> About:
        """Change what is said of a run: its tags, notes and hyperparameters, as ``about.change_about`` has it; return what is said then.

        Raises RunMissing, UsageError (``bad-tag``, ``bad-notes``, ``bad-hyperparameter``), StoreDamaged.
        """
        return change_about(self.root, self.open(name).path, **changes)

    def writer(self, name: str) -> RunWriter:
        """Return the run's writer, for ``with``; entering it raises StoreBusy while another process or thread holds it."""
        from storage_schema.runs.writer import RunWriter

        return RunWriter(self.root, check_name(name))

    def remove(self, name: str) -> None:
        """Remove a run and what its unfinished jobs kept; gone at once for readers, whatever happens then.

        Raises RunMissing and StoreBusy.
        """
        from storage_schema.runs.gradient_writer import lock_of

        path = self.path(name)
        if not path.exists():
            raise RunMissing(path, f"no run {name!r}", f"Runs in {self.root}: {', '.join(self.names()[:8])}")
        writer = self.writer(name)
        writer.hold()
        beside = [lock_of(self.root, name, kind) for kind in ALL]
        try:
            for lock in beside:
                lock.acquire()
            with writing(path):
                if path.exists():
                    path.rename(path.with_name(f"{_REMOVED}{path.name}-{os.getpid()}"))
                    sync_dir(self.runs)
                for left in self.runs.glob(f"{_REMOVED}{path.name}-*"):
                    shutil.rmtree(left)
                if self.work(name).is_dir():
                    shutil.rmtree(self.work(name))
        finally:
            for lock in beside:
                lock.release(remove=True)
            writer.release(remove=True)
