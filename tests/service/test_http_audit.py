"""What is wrong with a source, over HTTP: the answer of ``trajsvc.audit``, whatever runs the server has, and without its folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asgi_asking import App
from service_process import make_run

import trajsvc
from storage_schema.models.audit import AuditAnswer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a run, one with a fault (a file that is none), and a folder with nothing to read."""
    folder = tmp_path_factory.mktemp("audit")
    make_run(folder / "data" / "run", steps=4, tensors=2, size=256)
    make_run(folder / "data" / "wrong", steps=5, tensors=2, size=256, seed=1)
    (folder / "data" / "wrong" / "step30" / "model.safetensors").write_bytes(b"no header at all")
    (folder / "data" / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def app(place: Path) -> App:
    return App(place, runs=place / "data")


def audited(app: App, source: str, **choices: object) -> AuditAnswer:
    found = app.post("/v1/audit", {"source": source, **choices})
    assert found.status == 200, found.body
    return AuditAnswer.model_validate_json(found.body)


@pytest.mark.parametrize("name", ["run", "wrong"])
def test_the_answer_is_that_of_python(app: App, place: Path, name: str) -> None:
    found, here = audited(app, f"runs:{name}"), trajsvc.audit(place / "data" / name, store=place / "store")
    assert found.source == f"runs:{name}"
    assert [row.model_copy(update={"why": ""}) for row in found.rows] == [
        row.model_copy(update={"why": ""}) for row in here.rows
    ]
    assert found.wrong == here.wrong
    assert (found.wrong > 0) == (name == "wrong")
    assert [(f.kind, f.severity, f.steps) for f in found.findings] == [
        (f.kind, f.severity, f.steps) for f in here.findings
    ]


def test_steps_are_chosen_as_in_a_submission(app: App) -> None:
    assert [row.step for row in audited(app, "runs:wrong", steps="first:2").rows] == [0, 10]


def test_a_run_of_the_same_name_is_no_fault_of_the_source(app: App, place: Path) -> None:
    """Nothing is stored, so that a name that another run has is not in the way."""
    trajsvc.analyze(place / "data" / "run", store=place / "store", name="wrong")
    assert app.post("/v1/plan", {"source": "runs:wrong"}).status == 409, "what would be submitted is refused"
    assert audited(app, "runs:wrong").wrong


def test_no_folder_of_the_server_is_told(app: App, place: Path) -> None:
    for source in ("runs:wrong", "runs:empty", "runs:missing"):
        assert str(place).encode() not in app.post("/v1/audit", {"source": source}).body, source


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"source": "runs:missing"}, 404, "source-not-found"),
        ({"source": "/etc"}, 422, "bad-source"),
        ({"source": "runs:run", "steps": "some"}, 422, "bad-steps"),
        ({"source": "runs:run", "colour": "red"}, 422, "bad-request"),
    ],
)
def test_what_cannot_be_audited_is_refused(app: App, body: dict[str, object], status: int, kind: str) -> None:
    found = app.post("/v1/audit", body)
    assert (found.status, found.kind) == (status, kind), json.loads(found.body)
