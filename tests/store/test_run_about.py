"""Tags, notes and hyperparameters of a run: changed without a commit, kept over commits, refused where they are none."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stored_runs import make_contents

from storage_schema.errors import RunMissing, StoreDamaged, UsageError
from storage_schema.runs.about import ABOUT
from storage_schema.runs.store import RunStore


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


def test_notes_and_hyperparameters_come_and_go_beside_the_tags(store: RunStore) -> None:
    opened = store.open("run")
    store.tag("run", add=["kept"])
    store.describe("run", notes="  diverged\nat 3000 ", given={"lr": 0.1, "optimizer": "adamw", "amp": True, "seed": 3})
    assert opened.notes == "diverged\nat 3000"
    store.describe("run", given={"lr": 0.2}, unset=["amp", "never"])
    assert [(one.name, one.value, one.origin) for one in opened.hyperparameters] == [
        ("lr", 0.2, "by hand"), ("optimizer", "adamw", "by hand"), ("seed", 3, "by hand"),
    ]  # fmt: skip
    assert (opened.tags, store.open("run").digest) == (("kept",), opened.digest)
    with store.writer("run") as writer:
        writer.commit(make_contents(mark=1))
    assert store.open("run").about == opened.about
    assert store.describe("run", notes="").notes == ""


def test_a_hand_is_before_a_family_and_a_family_before_the_files(store: RunStore) -> None:
    read = [{"name": name, "value": 1, "origin": "hparams.yaml"} for name in ("lr", "wd", "width")]
    with store.writer("run") as writer:
        writer.commit(replace(make_contents(), attributes={"hyperparameters": read}))
    member = {"name": "run", "source": "/x", "seed": 7, "hyperparameters": {"lr": 2, "wd": 2}}
    (store.root / "families").mkdir()
    family = store.root / "families" / "sweep.json"
    family.write_text(json.dumps({"version": 1, "family": {"name": "sweep", "runs": [member]}}))
    (store.root / "families" / "broken.json").write_text("{")
    store.describe("run", given={"lr": 3})

    def values() -> dict[str, tuple[object, str]]:
        return {one.name: (one.value, one.origin) for one in store.open("run").hyperparameters}

    assert values() == {
        "lr": (3, "by hand"), "wd": (2, "family sweep"), "seed": (7, "family sweep"), "width": (1, "hparams.yaml"),
    }  # fmt: skip
    family.unlink()
    assert values()["wd"] == (1, "hparams.yaml")


@pytest.mark.parametrize(
    "given",
    [
        {"": 1},
        {"1x": 1},
        {"a b": 1},
        {"x": float("nan")},
        {"x": 2**63},
        {"x": "y" * 501},
        {"x": "a\nb"},
        {"x": [1]},
        {"x": None},
    ],
)
def test_what_is_no_hyperparameter_is_refused(store: RunStore, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        store.describe("run", given=given)
    assert caught.value.kind == "bad-hyperparameter"
    assert store.open("run").hyperparameters == []


def test_what_is_said_has_limits(store: RunStore) -> None:
    with pytest.raises(UsageError, match="129 hyperparameters"):
        store.describe("run", given={f"h{k}": k for k in range(129)})
    for text in ("x" * 10_001, "bell \a"):
        with pytest.raises(UsageError) as caught:
            store.describe("run", notes=text)
        assert caught.value.kind == "bad-notes"
    assert store.open("run").about.as_json() == b'{"version": 1, "tags": []}\n'
