"""Removing, restoring and renaming runs: nothing is lost, nothing replaced, and a run that is written is left alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import trajsvc
from storage_schema.errors import NotFound, Refused, RunMissing, StoreBusy
from storage_schema.runs.gradient_writer import lock_of
from storage_schema.runs.store import RunStore
from storage_schema.runs.trash import discard, empty, removed_runs, rename, restore, trashed
from trajsvc.cli.main import make_app


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    for step in range(3):
        save_file({"w.weight": np.full((4, 4), 1.0 + step, np.float32)}, tmp_path / f"step{step}.safetensors")
    for name in ("first", "second"):
        trajsvc.analyze(tmp_path, store=tmp_path / "store", name=name, copy=name == "first")
    return RunStore(tmp_path / "store")


def test_a_removed_run_comes_back_as_it_was(store: RunStore) -> None:
    before = store.open("first")
    gone = discard(store, "first")
    assert store.names() == ("second",)
    with pytest.raises(RunMissing):
        store.open("first")
    assert [one.id for one in trashed(store)] == [gone.id]
    assert gone.bytes >= before.nbytes
    assert restore(store, "first") == "first"
    after = store.open("first")
    assert (after.digest, after.has_theta) == (before.digest, True)
    np.testing.assert_array_equal(after.group_gram("network", [0])[0], before.group_gram("network", [0])[0])
    assert trashed(store) == []


def test_nothing_is_replaced(store: RunStore) -> None:
    discard(store, "first")
    rename(store, "second", "first")
    with pytest.raises(Refused) as caught:
        restore(store, "first")
    assert caught.value.kind == "run-exists"
    assert restore(store, "first", "other") == "other"
    for new in ("other", "first"):
        with pytest.raises(Refused) as caught:
            rename(store, "first", new)
        assert caught.value.kind == "run-exists"
    with pytest.raises(RunMissing):
        rename(store, "missing", "new")
    assert store.names() == ("first", "other")


def test_runs_removed_in_one_second_are_told_apart(store: RunStore) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    first = discard(store, "first", now)
    rename(store, "second", "first")
    second = discard(store, "first", now)
    assert first.id != second.id
    with pytest.raises(NotFound, match="2 runs of the trash"):
        restore(store, "first")
    assert [one.id for one in empty(store, [first.id])] == [first.id]
    assert restore(store, "first") == "first"
    with pytest.raises(NotFound):
        empty(store, [second.id])


def test_a_run_that_is_written_is_left_alone(store: RunStore) -> None:
    with store.writer("first"), pytest.raises(StoreBusy):
        discard(store, "first")
    gradients = lock_of(store.root, "first")
    gradients.acquire()
    with pytest.raises(StoreBusy):
        rename(store, "first", "third")
    gradients.release()
    assert store.names() == ("first", "second")
    discard(store, "first")


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "", "x" * 300])
def test_names_cannot_leave_the_store(store: RunStore, name: str) -> None:
    discard(store, "second")
    for change in (lambda: rename(store, "first", name), lambda: restore(store, "second", name or "../x")):
        with pytest.raises(trajsvc.errors.TrajsvcError):
            change()
    assert store.names() == ("first",)
    assert sorted(p.name for p in store.root.parent.iterdir() if p.is_dir()) == ["store"]


@pytest.mark.slow
def test_commands(store: RunStore) -> None:
    def ask(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(make_app(), [*words, "--store", str(store.root)])
        assert done.exit_code == code, done.output
        return done.output

    assert json.loads(ask("du", "--format", "json"))["runs"][0] == {
        "run": "first",
        "bytes": sum(p.stat().st_size for p in store.path("first").rglob("*") if p.is_file()),
        "copy": True,
    }
    assert "trajsvc trash restore second@" in ask("rm", "second")
    assert "second@" in ask("trash", "ls")
    ask("mv", "first", "renamed")
    ask("trash", "restore", "second", "--name", "first")
    assert store.names() == ("first", "renamed")
    assert "renamed" in ask("du")
    ask("rm", "first", "renamed")
    assert "deleted 2 runs" in ask("trash", "empty")
    assert "empty" in ask("trash", "ls")


def test_a_name_that_is_not_there_removes_nothing(store: RunStore) -> None:
    done = CliRunner().invoke(make_app(), ["rm", "first", "missing", "--store", str(store.root)])
    assert isinstance(done.exception, RunMissing) or done.exit_code == 4
    assert store.names() == ("first", "second")


def test_the_removed_are_known_by_their_last_id(store: RunStore) -> None:
    assert removed_runs(store) == {}
    name = store.names()[0]
    gone = discard(store, name)
    assert removed_runs(store) == {name: gone.id}
    restore(store, gone.id)
    assert removed_runs(store) == {}
