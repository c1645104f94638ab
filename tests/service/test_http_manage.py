"""Runs removed, brought back and renamed over HTTP: nothing is lost, and nothing that was not meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asgi_asking import LOCAL, Answer, App
from service_process import make_run

import trajsvc
from storage_schema.runs.store import RunStore

JSON = (b"content-type", b"application/json")


@pytest.fixture
def app(tmp_path: Path) -> App:
    made = App(tmp_path)
    source = make_run(tmp_path / "run", steps=3, tensors=1, size=256)
    for name in ("one", "two"):
        trajsvc.analyze(source, store=made.service.settings.store, name=name)
    return made


def ask(app: App, method: str, path: str, body: object = None, *headers: tuple[bytes, bytes]) -> Answer:
    given = [*LOCAL, *headers, *([JSON] if body is not None else [])]
    return app.ask(path, method, given, json.dumps(body).encode() if body is not None else b"")


def names(app: App) -> list[str]:
    return [row["run"] for row in json.loads(app.ask("/v1/runs").body)["items"]]


def test_a_run_goes_and_comes_back(app: App) -> None:
    before = json.loads(app.ask("/v1/runs/one/measures").body)
    gone = json.loads(ask(app, "DELETE", "/v1/runs/one").body)
    assert names(app) == ["two"]
    assert app.ask("/v1/runs/one").kind == "run-not-found"
    assert [row["id"] for row in json.loads(app.ask("/v1/trash").body)] == [gone["id"]]
    back = ask(app, "POST", f"/v1/trash/{gone['id']}/restore")
    assert (back.status, back.headers["location"]) == (200, "/v1/runs/one")
    assert json.loads(app.ask("/v1/runs/one/measures").body) == before


def test_nothing_is_replaced(app: App) -> None:
    assert ask(app, "PATCH", "/v1/runs/one", {"name": "two"}).kind == "run-exists"
    renamed = ask(app, "PATCH", "/v1/runs/one", {"name": "three"})
    assert json.loads(renamed.body) == {"run": "three"}
    gone = json.loads(ask(app, "DELETE", "/v1/runs/three").body)
    assert ask(app, "POST", f"/v1/trash/{gone['id']}/restore", {"name": "two"}).kind == "run-exists"
    assert json.loads(ask(app, "POST", f"/v1/trash/{gone['id']}/restore", {"name": "four"}).body) == {"run": "four"}
    assert names(app) == ["four", "two"]


def test_only_the_run_that_was_meant(app: App) -> None:
    tag = app.ask("/v1/runs/one").headers["etag"].encode()
    other = app.ask("/v1/runs/two").headers["etag"].encode()
    refused = ask(app, "DELETE", "/v1/runs/one", None, (b"if-match", other))
    assert (refused.status, refused.kind) == (412, "run-changed")
    assert ask(app, "PATCH", "/v1/runs/one", {"name": "x"}, (b"if-match", b'"stale"')).kind == "run-changed"
    assert names(app) == ["one", "two"]
    assert ask(app, "DELETE", "/v1/runs/one", None, (b"if-match", tag)).status == 200


def test_a_run_that_is_written_is_left_alone(app: App) -> None:
    with RunStore(app.service.settings.store).writer("one"):
        assert ask(app, "DELETE", "/v1/runs/one").status in (409, 503)
    assert names(app) == ["one", "two"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/runs/missing", None),
        ("DELETE", "/v1/runs/..", None),
        ("PATCH", "/v1/runs/one", {"name": "../x"}),
        ("PATCH", "/v1/runs/one", {"name": ""}),
        ("PATCH", "/v1/runs/one", {}),
        ("PATCH", "/v1/runs/one", {"name": "x", "more": 1}),
        ("POST", "/v1/trash/one@20260101T000000Z/restore", None),
        ("POST", "/v1/trash/%2e%2e%2fone@20260101T000000Z/restore", None),
        ("POST", "/v1/trash/none/restore", None),
    ],
)
def test_what_is_not_there_or_no_name_changes_nothing(app: App, method: str, path: str, body: object) -> None:
    found = ask(app, method, path, body)
    assert found.status in (404, 405, 422)
    assert names(app) == ["one", "two"]
    assert not (Path(app.service.settings.store) / "trash").exists()
