"""The commands that say something of a run: what they keep, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from in_process import trajsvc
from made_runs import commit, nano

from trajsvc.results.run import open as open_run


@pytest.fixture
def own(tmp_path: Path) -> Path:
    commit(tmp_path, nano())
    return tmp_path


def run(store: Path, *words: str) -> str:
    done = trajsvc(*words, "--store", str(store))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_notes_are_written_printed_and_removed(own: Path) -> None:
    assert run(own, "note", "nano") == ""
    run(own, "note", "nano", "diverged [at] 3000")
    assert run(own, "note", "nano") == "diverged [at] 3000\n"
    assert json.loads(run(own, "note", "nano", "--format", "json")) == {"run": "nano", "notes": "diverged [at] 3000"}
    assert "notes diverged [at] 3000" in run(own, "show", "nano")
    run(own, "note", "nano", "--clear")
    assert open_run(own, "nano").notes == ""


def test_hyperparameters_are_typed_and_unset(own: Path) -> None:
    run(own, "set", "nano", "lr=1e-3", "seed=3", "nesterov=true", "optimizer=adamw", "version='3'", "empty=")
    assert open_run(own, "nano").hyperparameters == {
        "lr": 1e-3, "seed": 3, "nesterov": True, "optimizer": "adamw", "version": "3", "empty": "",
    }  # fmt: skip
    table = run(own, "set", "nano")
    assert "by hand" in table
    assert "hyperparameters empty= lr=0.001 nesterov=true" in run(own, "show", "nano")
    told = json.loads(run(own, "set", "nano", "--unset", "empty", "--unset", "version", "--format", "json"))
    assert [one["name"] for one in told["hyperparameters"]] == ["lr", "nesterov", "optimizer", "seed"]
    row = next(row for row in json.loads(run(own, "ls", "--format", "json")) if row["run"] == "nano")
    assert row["hyperparameters"]["lr"] == 1e-3
    assert row["bytes"] > 0


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["set", "nano", "lr"], "has no value"),
        (["set", "nano", "lr=nan"], "is nan"),
        (["set", "nano", "9x=1"], "no name"),
        (["set", "nano", "--unset", "lr"], "not set by hand"),
        (["note", "nano", "x", "--clear"], "different things"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(own: Path, words: list[str], kind: str) -> None:
    done = trajsvc(*words, "--store", str(own))
    assert done.returncode == 2
    assert kind in done.stderr
    assert not (own / "runs" / "nano.zarr" / "about.json").exists()


def test_a_run_has_to_be_there(own: Path) -> None:
    for command in ("note", "set", "tag"):
        done = trajsvc(command, "nani", "--store", str(own))
        assert done.returncode == 4
        assert "nano" in done.stderr
