"""Lists of runs by conditions, sorted and with columns: the same by command line, HTTP and Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from in_process import trajsvc as cli
from made_runs import STEPS, commit, cosines, make, nano, transformer_blocks

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.errors import UsageError
from trajsvc.results.conditions import parse_condition, parse_conditions

SET: dict[str, dict[str, Any]] = {
    "nano": {"lr": 0.1, "optimizer": "adamw", "nesterov": True},
    "small": {"lr": 0.01, "optimizer": "sgd", "nesterov": False},
    "other": {"lr": 3, "optimizer": "AdamW-8bit"},
    "bare": {},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep")
    commit(root, nano())
    for k, name in enumerate(("small", "other", "bare")):
        commit(root, make(name, transformer_blocks(1 + k), STEPS[: 8 - k], seed=k))
    for name, values in SET.items():
        RunStore(root).describe(name, given=values, notes=f"of {name}", add=["sweep:lr"] if values else ["odd"])
    return root


def asked(root: Path, *words: str) -> list[str]:
    done = cli("ls", "--store", str(root), "--format", "json", *words)
    assert done.returncode == 0, done.stderr
    return [row["run"] for row in json.loads(done.stdout)]


CASES = [
    (["lr>0.01"], ["nano", "other"]),
    (["lr>=1e-2", "lr<3"], ["nano", "small"]),
    (["lr=0.10"], ["nano"]),
    (["lr!=0.1"], ["bare", "other", "small"]),
    (["optimizer=adamw"], ["nano"]),
    (["optimizer~ADAMW"], ["nano", "other"]),
    (["nesterov=true"], ["nano"]),
    (["nesterov=False"], ["small"]),
    (["lr~0.0"], ["small"]),
    (["name~a"], ["bare", "nano", "small"]),
    (["name='nano'"], ["nano"]),
    (["tag=odd"], ["bare"]),
    (["tags~sweep"], ["nano", "other", "small"]),
    (["parameters>0.4k"], ["other", "bare", "nano"]),
    (["notes~of s"], ["small"]),
    (["hyperparameters.lr==3"], ["other"]),
    (["updated>2020-01-01", "steps=64"], ["nano", "small"]),
    (["optimizer>3"], ["nano", "other", "small"]),
    (["lr>adamw"], []),
    (["architecture=gpt-neox", "size>0", "estimate=false"], ["bare", "nano", "other", "small"]),
]


@pytest.mark.parametrize(("where", "names"), CASES)
def test_conditions_choose_runs(sweep: Path, where: list[str], names: list[str]) -> None:
    words = [word for one in where for word in ("--where", one)]
    assert asked(sweep, *words) == sorted(names)
    assert [run.name for run in trajsvc.runs(sweep, where=where)] == sorted(names)


def test_a_measure_of_the_network_is_a_field(sweep: Path) -> None:
    vectors = {"nano": nano().vectors(), "small": make("small", transformer_blocks(1), STEPS, seed=0).vectors()}
    exact = {name: float(cosines(points).mean()) for name, points in vectors.items()}
    rows = json.loads(
        cli("ls", "--store", str(sweep), "--format", "json", "--columns", "name,mds", "--sort=-mds").stdout
    )
    found = {row["name"]: row["mds"] for row in rows}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found["nano"] == pytest.approx(exact["nano"], rel=1e-9)
    assert found["small"] == pytest.approx(exact["small"], rel=1e-9)
    above = [name for name, value in found.items() if value > found["nano"]]
    assert asked(sweep, "--where", f"mds>{found['nano']!r}") == sorted(above)


def test_sorting_puts_what_is_missing_last(sweep: Path) -> None:
    assert asked(sweep, "--sort", "lr") == ["small", "nano", "other", "bare"]
    assert asked(sweep, "--sort=-lr") == ["other", "nano", "small", "bare"]
    assert asked(sweep, "--sort=-name") == ["small", "other", "nano", "bare"]
    assert asked(sweep, "--tag", "sweep:lr", "--sort", "optimizer") == ["other", "nano", "small"]


def test_columns_are_shown_in_their_order(sweep: Path) -> None:
    done = cli("ls", "--store", str(sweep), "--columns", "name,steps,lr,nesterov,tags,size", "--where", "lr>0")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["name", "steps", "lr", "nesterov", "tags", "size"]
    assert lines[2][:5] == ["nano", "64", "0.1", "true", "sweep:lr"]
    table = cli("ls", "--store", str(sweep), "--columns", "name,lr", "--format", "csv").stdout
    assert table == "name,lr\nbare,\nnano,0.1\nother,3\nsmall,0.01\n"
    assert "no runs" in cli("ls", "--store", str(sweep), "--where", "lr>5").stderr


@pytest.mark.parametrize("text", ["", "lr", ">1", "l r>1", "x" * 101 + "=1", "lr=" + "1" * 800, "=", "lr 1"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_condition(text)
    assert caught.value.kind == "bad-condition"


def test_a_value_is_all_that_follows_the_operator() -> None:
    assert [parse_condition(t).value for t in ("lr=", "a= b c ", "a='b '", "a=b=c", "a~>1")] == [
        "",
        "b c",
        "b ",
        "b=c",
        ">1",
    ]


def test_what_no_run_has_is_said_with_what_is_close(sweep: Path) -> None:
    for words in (["--where", "optimiser=adamw"], ["--sort", "optimiser"], ["--columns", "optimiser"]):
        done = cli("ls", "--store", str(sweep), *words)
        assert done.returncode == 2
        assert "optimizer" in done.stderr
    with pytest.raises(UsageError, match="17 conditions"):
        parse_conditions(["lr>0"] * 17)


def test_a_store_without_runs_knows_no_field(tmp_path: Path) -> None:
    assert trajsvc.runs(tmp_path, where=["lr>1"]) == []
    assert asked(tmp_path, "--where", "lr>1") == []


def test_a_narrow_terminal_has_the_whole_table(sweep: Path) -> None:
    done = cli("ls", "--store", str(sweep), environment={"COLUMNS": "80"})
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert done.stdout.count("────") > 0
    assert sum(line.startswith("─") for line in done.stdout.splitlines()) == 1  # in one piece
