"""What nothing in a store refers to any more: listed and removed, and nothing else."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stored_runs import make_contents

from storage_schema.runs.garbage import collect, garbage
from storage_schema.runs.store import RunStore
from storage_schema.runs.trash import discard, trashed
from trajsvc.gram.kernels import native


def commit(store: RunStore, name: str, **attributes: object) -> None:
    with store.writer(name) as writer:
        writer.commit(replace(make_contents(name=name), attributes=dict(attributes)))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Runs a and b, their pair, a pair of which one is gone, an estimate, and what an unfinished job of a kept."""
    found = RunStore(tmp_path)
    for name in ("a", "b"):
        commit(found, name)
    commit(found.cross, "a--b", cross={"runs": [{"run": "a"}, {"run": "b"}]})
    commit(found.cross, "a--gone", cross={"runs": [{"run": "a"}, {"run": "gone"}]})
    commit(found.cross, "odd")
    commit(found.live, "b")
    found.work("a").mkdir(parents=True, exist_ok=True)
    (found.work("a") / "slab").write_bytes(b"x" * 1000)
    return found


def age(folder: Path, days: float) -> None:
    then = time.time() - 86400 * days
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))


def names(store: RunStore, days: float = 7.0) -> list[tuple[str, str]]:
    return [(one.kind, one.name) for one in garbage(store, days)]


def test_what_is_fresh_is_left_alone(store: RunStore) -> None:
    assert names(store) == [("cross", "a--gone")]
    age(store.work("a"), 8)
    age(store.live.path("b"), 8)
    assert names(store) == [("unfinished", "a"), ("estimate", "b"), ("cross", "a--gone")]
    assert names(store, 9) == [("cross", "a--gone")]
    (found,) = [one for one in garbage(store, 7) if one.kind == "unfinished"]
    assert found.bytes == 1000


def test_what_a_job_writes_is_none(store: RunStore) -> None:
    listed = garbage(store, 0)
    assert len(listed) == 3
    with store.writer("a"):
        assert names(store, 0) == [("estimate", "b"), ("cross", "a--gone")]
        assert [one.name for one in collect(store, listed)] == ["b", "a--gone"]
        assert store.work("a").is_dir()


def test_the_rest_stays(store: RunStore) -> None:
    digests = {name: store.open(name).digest for name in store.names()}
    assert len(collect(store, garbage(store, 0))) == 3
    assert names(store, 0) == []
    assert {name: store.open(name).digest for name in store.names()} == digests
    assert store.cross.names() == ("a--b", "odd")
    assert store.live.names() == ()
    assert not store.work("a").exists()


def test_removed_runs_are_among_it_only_where_their_age_is_asked_for(store: RunStore) -> None:
    old = discard(store, "a", datetime.now(UTC) - timedelta(days=20))
    fresh = discard(store, "b")
    assert "trash" not in dict(names(store, 0))
    found = [one for one in garbage(store, 0, trash=7) if one.kind == "trash"]
    assert [(one.name, one.bytes) for one in found] == [(old.id, old.bytes)]
    assert 19.9 < found[0].days < 20.1
    collect(store, found)
    assert [one.id for one in trashed(store)] == [fresh.id]


def test_kernels_of_other_versions_are_found_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.FOLDER, str(tmp_path))
    used = native._path(True)
    assert used is not None
    for name in (used.name, f"kernel-float64-{'0' * 32}.o", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in native.stale()] == [f"kernel-float64-{'0' * 32}.o"]
    monkeypatch.setenv(native.FOLDER, str(tmp_path / "none"))
    assert native.stale() == []
