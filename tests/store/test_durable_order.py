"""What a power cut would leave: at the instant of a commit, everything that it names has been synced, the folders that name it too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_runs import make_contents

from storage_schema.files.slab_results import SlabFiles
from storage_schema.format.manifest import MANIFEST
from storage_schema.runs.store import RunStore


class Watch:
    """Notes what was synced, and looks at each renaming whether its bytes were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sync: Callable[[int], None] = os.fsync) -> None:
        self.synced: set[tuple[int, int]] = set()
        self.missing: dict[str, list[str]] = {}
        self.renamed: list[Path] = []
        really, rename = os.fsync, Path.replace

        def fsync(fd: int) -> None:
            if sync is really:
                status = os.fstat(fd)
                self.synced.add((status.st_dev, status.st_ino))
                really(fd)

        def replace(path: Path, target: Path) -> Path:
            target = Path(target)
            if target.name == MANIFEST:
                pending = list(target.parent.rglob(".pending-*/**/*"))
                self.missing[target.name] = [str(p) for p in (path, *pending) if not self.was_synced(p)]
            elif target.suffix == ".slab" or target.parent.name == "slabs":
                self.missing[target.name] = [str(path)] * (not self.was_synced(path))
            self.renamed.append(target)
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)

    def was_synced(self, path: Path) -> bool:
        status = path.stat()
        return (status.st_dev, status.st_ino) in self.synced


def commit(store: RunStore) -> None:
    with store.writer("run") as writer:
        writer.commit(make_contents(4, 3, mark=1))


def test_a_commit_names_only_what_is_on_disk(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    commit(store)
    assert watch.missing == {MANIFEST: []}
    assert watch.was_synced(store.path("run")), "the folder whose entry the commit is"


def test_a_slab_counts_as_kept_only_when_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    watch = Watch(monkeypatch)
    SlabFiles(tmp_path, "key").put(3, {"gram": np.ones(4)})
    assert watch.missing
    assert not any(watch.missing.values())


def test_without_fsync_these_tests_fail(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that they bite: with syncing switched off, the commit names files that may not be there after a power cut."""
    watch = Watch(monkeypatch, lambda fd: None)
    commit(store)
    assert len(watch.missing[MANIFEST]) > 3
