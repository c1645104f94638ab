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


def test_what_is_said_of_a_run_changes_and_its_etag_with_it(app: App) -> None:
    before = app.ask("/v1/runs/one").headers["etag"].encode()
    body = {"notes": "diverged", "hyperparameters": {"lr": 0.1, "optimizer": "adamw"}, "tags": ["baseline"]}
    changed = ask(app, "PATCH", "/v1/runs/one", body, (b"if-match", before))
    assert (changed.status, changed.headers["location"]) == (200, "/v1/runs/one")
    read = app.ask("/v1/runs/one")
    found = json.loads(read.body)
    assert read.headers["etag"].encode() != before
    assert found["row"]["notes"] == "diverged"
    assert found["row"]["tags"] == ["baseline"]
    assert {"name": "lr", "value": 0.1, "origin": "by hand"} in found["hyperparameters"]
    assert found["row"]["bytes"] > 0
    summary = json.loads(app.ask("/v1/runs/one/summary").body)
    assert (summary["notes"], summary["hyperparameters"]) == ("diverged", found["hyperparameters"])
    listed = {row["run"]: row for row in json.loads(app.ask("/v1/runs").body)["items"]}
    assert listed["one"]["hyperparameters"] == {"lr": 0.1, "optimizer": "adamw"}
    assert listed["two"]["hyperparameters"] == {}
    assert ask(app, "PATCH", "/v1/runs/one", {"notes": "x"}, (b"if-match", before)).kind == "run-changed"
    assert ask(app, "PATCH", "/v1/runs/one", {"hyperparameters": {"lr": None}, "notes": ""}).status == 200
    row = json.loads(app.ask("/v1/runs/one").body)["row"]
    assert (row["notes"], row["hyperparameters"], row["tags"]) == ("", {"optimizer": "adamw"}, ["baseline"])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"name": "x", "notes": "y"}, "bad-request"),
        ({"notes": None}, "bad-request"),
        ({"hyperparameters": {"a b": 1}}, "bad-hyperparameter"),
        ({"hyperparameters": {"a": [1]}}, "bad-request"),
        ({"hyperparameters": {"a": "x" * 501}}, "bad-hyperparameter"),
        ({"notes": "bell \a"}, "bad-notes"),
        ({"notes": "x" * 10_001}, "bad-request"),
        ({"tags": ["two words"]}, "bad-tag"),
    ],
)
def test_what_cannot_be_said_changes_nothing(app: App, body: object, kind: str) -> None:
    before = app.ask("/v1/runs/one").body
    found = ask(app, "PATCH", "/v1/runs/one", body)
    assert (found.status, found.kind) == (422, kind)
    assert app.ask("/v1/runs/one").body == before
