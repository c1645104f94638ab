"""A run that is ordered by epochs, tokens or a count says so at every door: nothing is called a step that is none."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from made_runs import Cli, commit, make, transformer_blocks

AXES = {"epoch": "epochs", "index": "indices", "tokens": "tokens"}


@pytest.fixture(params=AXES)
def axis(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def counted(axis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.delenv("TRAJSVC_STORE", raising=False)
    commit(tmp_path / "store", make("counted", transformer_blocks(2), [1, 2, 3, 5, 8]), axis=axis)
    return Cli(tmp_path / "store")


def said(cli: Cli, *arguments: str) -> str:
    result = cli(*arguments)
    assert result.exit_code == 0, result.stderr
    return str(result.stdout)


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_tables_for_machines(counted: Cli, axis: str) -> None:
    assert table(said(counted, "map", "counted", "--format", "csv"))[0] == [axis, "1", "2", "3", "5", "8"]
    rows = table(said(counted, "measures", "counted", "--names", "norm,trajectory_map,mu_lag", "--format", "csv"))
    assert {r[1] for r in rows[1:]} == {axis, "lag"}
    assert {r[3] for r in rows[1:]} == {"", f"{axis}_2"}
    for command in ("map", "measures", "show"):
        assert counted.json(command, "counted")["axis"] == axis


def test_tables_for_people(counted: Cli, axis: str) -> None:
    shown = said(counted, "map", "counted", "--origin", "1")
    assert f"relative to {axis} 1" in shown
    assert f"{AXES[axis]} 2 … 8" in shown
    curves = said(counted, "measures", "counted", "--names", "norm,settling_step")
    assert f"{AXES[axis]} 1 … 8" in said(counted, "show", "counted")
    for text in (shown, curves.replace("settling_step", "")):
        assert "step" not in text.replace("first step from which", "")
    heads = said(counted, "checkpoints", "counted").splitlines()[0].split()
    assert heads[0] == axis


def test_answers_over_http(counted: Cli, axis: str) -> None:
    from fastapi.testclient import TestClient

    from api.app import make_app, make_service
    from trajsvc.settings import ServiceSettings

    with TestClient(
        make_app(make_service(ServiceSettings(store=counted.store), auth=False), ()), "http://127.0.0.1"
    ) as client:
        run = "/v1/runs/counted"
        assert table(client.get(f"{run}/map?f=csv").text)[0][0] == axis
        rows = table(client.get(f"{run}/measures?f=csv&names=norm").text)
        assert {r[1] for r in rows[1:]} == {axis}
        for answer in ("summary", "map", "measures"):
            assert client.get(f"{run}/{answer}").json()["axis"] == axis


def test_figures_of_runs_that_are_numbered_differently_name_both_axes(tmp_path: Path) -> None:
    from made_gradients import make_gradients, store_gradients

    for name, axis in (("first", "step"), ("second", "epoch")):
        made = make(name, transformer_blocks(2), [0, 1, 2, 4, 64])
        commit(tmp_path, made, axis=axis)
    store_gradients(tmp_path, make_gradients(made))
    cli = Cli(tmp_path)
    for words in (("--maps", "--origin", "0"), ("--curves", "norm")):
        done = cli("compare", "first", "second", *words, "-o", tmp_path / "figure.svg")
        assert done.exit_code == 0, done.stderr
        assert ">step or epoch</text>" in (tmp_path / "figure.svg").read_text()
    shown = cli("gradients", "measures", "second", "--set", "example", "--names", "mu").stdout
    assert "epoch" in shown
    assert "step" not in shown
