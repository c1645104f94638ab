"""The list of runs over HTTP: filtered, sorted, with columns, page by page, and the same from Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from asgi_asking import App
from service_process import Server, make_run, start_server

import trajsvc
from storage_schema.runs.store import RunStore

NAMES = ("one", "two", "three", "four")


def fill(store: Path, source: Path) -> None:
    """Store runs with rates 0.1, 0.2, 0.3 and none."""
    for k, name in enumerate(NAMES):
        trajsvc.analyze(source, store=store, name=name)
        if name != "four":
            RunStore(store).describe(name, given={"lr": (k + 1) / 10, "opt": "adamw" if k else "sgd"}, add=["sweep"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("source") / "run", steps=3, tensors=1, size=256)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, source: Path) -> App:
    made = App(tmp_path_factory.mktemp("app"))
    fill(made.service.settings.store, source)
    return made


def names(app: App, query: str) -> list[str]:
    answer = app.ask(f"/v1/runs?{query}")
    assert answer.status == 200, answer.body
    return [row["run"] for row in json.loads(answer.body)["items"]]


def test_conditions_tags_and_sorts(app: App) -> None:
    assert names(app, f"where={quote('lr>0.1')}") == ["three", "two"]
    assert names(app, f"where={quote('lr>0.1')}&where={quote('lr<0.3')}") == ["two"]
    assert names(app, "sort=-lr") == ["three", "two", "one", "four"]
    assert names(app, "sort=lr&tag=sweep") == ["one", "two", "three"]
    assert names(app, f"where={quote('opt!=adamw')}") == ["four", "one"]
    assert names(app, f"where={quote('mds>2')}") == []


def test_columns_come_with_the_rows(app: App) -> None:
    rows = json.loads(app.ask("/v1/runs?columns=lr,mds,tags&sort=name").body)["items"]
    assert [row["columns"]["lr"] for row in rows] == [None, 0.1, 0.3, 0.2]
    exact = trajsvc.open(app.service.settings.store, "one").mds()
    assert rows[0]["columns"]["mds"] == pytest.approx(exact, rel=1e-12)
    assert rows[1]["columns"]["tags"] == ["sweep"]
    assert "columns" not in json.loads(app.ask("/v1/runs").body)["items"][0]


def test_pages_follow_each_other_in_the_order_asked_for(app: App) -> None:
    found, target, pages = [], f"/v1/runs?limit=1&sort=-lr&where={quote('lr>0')}", 0
    while target:
        answer = app.ask(target)
        found += [row["run"] for row in json.loads(answer.body)["items"]]
        target = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
        pages += 1
    assert (found, pages) == (["three", "two", "one"], 3)
    assert app.ask("/v1/runs?sort=lr&cursor=gone").kind == "bad-cursor"


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("where=lr", "bad-condition"),
        ("where=lrr%3D1", "bad-field"),
        ("sort=lrr", "bad-field"),
        ("columns=lrr", "bad-field"),
        ("columns=,", "bad-field"),
        ("where=" + "x" * 701, "bad-request"),
        ("&".join(["where=lr%3D1"] * 17), "bad-request"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(app: App, query: str, kind: str) -> None:
    answer = app.ask(f"/v1/runs?{query}")
    assert (answer.status, answer.kind) == (422, kind)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("served")
    fill(place / "store", source)
    server = start_server(place)
    yield server
    server.process.kill_all()


@pytest.mark.slow
def test_python_asks_a_server_the_same(served: Server) -> None:
    found = trajsvc.runs(served.address, where=["lr>0.1"], sort="-lr", tags=["sweep"])
    assert [run.name for run in found] == ["three", "two"]
    assert found[0].hyperparameters["lr"] == 0.3
    assert found[0].size > 0
