"""Tags of a run: changed without a commit, kept over commits, refused where they are none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stored_runs import make_contents

from storage_schema.errors import RunMissing, StoreDamaged, UsageError
from storage_schema.runs.store import RunStore
from storage_schema.runs.tags import ABOUT


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    found = RunStore(tmp_path)
    with found.writer("run") as writer:
        writer.commit(make_contents())
    return found


def test_tags_come_and_go_and_change_nothing_else(store: RunStore) -> None:
    opened = store.open("run")
    assert opened.tags == ()
    assert store.tag("run", add=["sweep:lr", "baseline", "baseline"]) == ("baseline", "sweep:lr")
    assert store.tag("run", add=["new"], remove=["baseline", "never-there"]) == ("new", "sweep:lr")
    assert opened.tags == ("new", "sweep:lr")
    assert not opened.outdated()
    assert store.open("run").digest == opened.digest


def test_commits_keep_them_and_a_removed_run_takes_them_along(store: RunStore) -> None:
    store.tag("run", add=["kept"])
    with store.writer("run") as writer:  # a job that writes it does not keep it from being tagged
        store.tag("run", add=["while:writing"])
        writer.commit(make_contents(mark=1))
    assert store.open("run").tags == ("kept", "while:writing")
    store.remove("run")
    with store.writer("run") as writer:
        writer.commit(make_contents())
    assert store.open("run").tags == ()


@pytest.mark.timing
def test_changes_at_the_same_time_lose_none(store: RunStore) -> None:
    words = [f"tag-{k}" for k in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda word: store.tag("run", add=[word]), words))
    assert store.open("run").tags == tuple(sorted(words))


@pytest.mark.parametrize("word", ["", "two words", "a,b", "é", "-led", "x" * 65, "line\n", "../up/.."])
def test_what_is_no_tag_is_refused(store: RunStore, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        store.tag("run", add=[word])
    assert caught.value.kind == "bad-tag"


def test_there_is_a_limit_and_a_run_has_to_be_there(store: RunStore) -> None:
    with pytest.raises(UsageError, match="65 tags"):
        store.tag("run", add=[f"t{k}" for k in range(65)])
    assert store.open("run").tags == ()
    with pytest.raises(RunMissing):
        store.tag("other", add=["t"])


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2}', '{"version": 1, "tags": ["a b"]}', '{"version": 1, "tags": 3}']
)
def test_what_is_damaged_is_said(store: RunStore, text: str) -> None:
    run = store.open("run")
    (run.path / ABOUT).write_text(text)
    with pytest.raises(StoreDamaged, match="the tags"):
        _ = run.tags
