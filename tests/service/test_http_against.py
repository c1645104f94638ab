"""Many runs against a hyperparameter over HTTP: as the command line answers, in every format, and new where a run changes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from asgi_asking import App
from service_process import make_run

import trajsvc
from storage_schema.runs.store import RunStore


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    made = App(tmp_path_factory.mktemp("app"))
    source = make_run(tmp_path_factory.mktemp("source") / "run", steps=3, tensors=1, size=256)
    for k, (rate, seed) in enumerate(((0.1, 0), (0.1, 1), (0.01, 0))):
        trajsvc.analyze(source, store=made.service.settings.store, name=f"run-{k}")
        RunStore(made.service.settings.store).describe(f"run-{k}", given={"lr": rate, "seed": seed}, add=["sweep"])
    return made


def store(app: App) -> Path:
    return Path(app.service.settings.store)


def test_the_answer_is_that_of_python(app: App) -> None:
    answer = app.ask(f"/v1/against?by=lr&names=mds&where={quote('lr>0')}&tag=sweep")
    assert answer.status == 200, answer.body
    own = trajsvc.against("lr", store=store(app), where=["lr>0"], measures=["mds"]).answer
    assert json.loads(answer.body) == json.loads(own.model_dump_json())
    assert [row["runs"] for row in json.loads(answer.body)["spreads"]] == [["run-0", "run-1"]]


@pytest.mark.slow
def test_tables_and_pictures(app: App) -> None:
    rows = list(csv.DictReader(io.StringIO(app.ask("/v1/against?by=lr&run=run-0&run=run-2&f=csv").body.decode())))
    assert [(row["run"], row["place"]) for row in rows] == [("run-2", "0.01"), ("run-0", "0.1")]
    for more in ("", "&show=parallel&fields=lr,seed,mds"):
        assert app.ask(f"/v1/against?by=lr&f=png{more}").body.startswith(b"\x89PNG")


def test_what_is_set_of_a_run_makes_a_new_answer(app: App) -> None:
    before = app.ask("/v1/against?by=momentum&run=run-0")
    assert before.status == 422
    RunStore(store(app)).describe("run-0", given={"momentum": 0.9})
    first = app.ask("/v1/against?by=momentum&run=run-0")
    assert json.loads(first.body)["rows"][0]["place"] == 0.9
    RunStore(store(app)).describe("run-0", given={"momentum": 0.5})
    second = app.ask("/v1/against?by=momentum&run=run-0")
    assert json.loads(second.body)["rows"][0]["place"] == 0.5
    assert second.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("by=nonsense", 422, "bad-field"),
        (f"by=lr&where={quote('lr>5')}", 422, "runs-needed"),
        ("by=lr&run=absent", 404, "run-not-found"),
        ("by=lr&names=update_angle", 422, "bad-field"),
        ("by=lr&show=parallel&fields=lr&f=svg", 422, "bad-field"),
    ],
)
def test_what_makes_no_sense_is_a_problem(app: App, query: str, status: int, kind: str) -> None:
    answer = app.ask(f"/v1/against?{query}")
    assert answer.status == status, answer.body
    assert json.loads(answer.body)["type"].endswith(kind)
