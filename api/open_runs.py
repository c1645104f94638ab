"""Cache the runs that the server has open: each as its last commit, opened again when a writer has committed since.

If nothing better is committed, a running job's estimate is shown in place of its run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from storage_schema.format.manifest import MANIFEST
from storage_schema.models.results import Hyperparameter
from storage_schema.runs.about import About, read_about
from storage_schema.runs.hyperparameters import gathered, of_families
from storage_schema.runs.store import RunStore, StoredRun
from trajsvc.errors import DamagedStore, NotFound, TryAgain
from trajsvc.results.run import Run, names, open

OPEN: Final = 16
"""runs held open: each holds some descriptors and Grams"""

Signature = tuple[int, int, int]


class RunCache:
    """Open runs of one store, the ones used last. Safe from any thread."""

    def __init__(self, store: Path) -> None:
        self.store, self.live = store, RunStore(store).live.root
        self._runs: OrderedDict[tuple[Path, str], tuple[Signature, Run]] = OrderedDict()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the committed runs, and those of which there is a running job's estimate, sorted."""
        if not self.store.is_dir():
            hint = "Its operator has to bring the folder back, or start the server anew."
            raise NotFound("store-not-found", "the server's store is gone", hint=hint)
        return sorted({*names(self.store), *names(self.live)})

    def open(self, name: str) -> Run:
        """Open the run's last commit, or a running job's estimate of it if no exact one is committed.

        Raises NotFound (``run-not-found``), DamagedStore, UsageError (``run-name``).
        """
        run = self._open(self.store, name)
        if run is None or run.estimate is not None:
            run = self._estimated(name) or self._open(self.store, name)  # it may be committed since
        if run is None:
            raise _not_found(name, self.names())
        return run

    def stored(self, name: str) -> StoredRun:
        """Return the files of the run's last commit, or of a running job's estimate; raises as ``open`` does."""
        stored = self.open(name).stored
        assert isinstance(stored, StoredRun)  # runs of this store lie on this machine
        return stored

    def about(self, name: str) -> About:
        """Return what is said of a run as it is now; that of the run where a job's estimate is shown in its place."""
        return read_about(RunStore(self.store).path(name))

    def hyperparameters(self, run: Run) -> list[Hyperparameter]:
        """Return the hyperparameters of a run as they are now, by name, each with its origin."""
        families = of_families(self.store)
        return gathered(run.attributes, families.get(run.name, ()), self.about(run.name).hyperparameters)

    def said(self, name: str) -> list[str]:
        """Return what an answer depends on that changes without a commit: what is said of the run, and what families say of it."""
        of_family = of_families(self.store).get(name, ())
        return [self.about(name).as_json().decode(), *(one.model_dump_json() for one in of_family)]

    def _estimated(self, name: str) -> Run | None:
        """Open a running job's estimate; None if there is none, or it is removed while it is opened."""
        try:
            return self._open(self.live, name)
        except (DamagedStore, TryAgain):
            return None

    def _open(self, store: Path, name: str) -> Run | None:
        signature = self._signature(store, name)
        if signature is None:
            return None
        key = (store, name)
        with self._lock:
            held = self._runs.get(key)
            if held is not None and held[0] == signature:
                self._runs.move_to_end(key)
                return held[1]
        try:
            run = open(store, name)
        except NotFound:  # removed since
            return None
        with self._lock:
            self._runs[key] = (signature, run)
            self._runs.move_to_end(key)
            while len(self._runs) > OPEN:
                self._runs.popitem(last=False)
        return run

    def _signature(self, store: Path, name: str) -> Signature | None:
        path = RunStore(store).path(name) / MANIFEST
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _not_found(name: str, known: list[str]) -> NotFound:
    """Return the error for a run that does not exist; it names those that are close."""
    close = get_close_matches(name, known, n=3) or known[:5]
    there = f"There are {', '.join(close)}{' …' if len(known) > len(close) else ''}. " if close else "There are none. "
    return NotFound("run-not-found", f"no run {name!r}", hint=f"{there}GET /v1/runs lists them.")
