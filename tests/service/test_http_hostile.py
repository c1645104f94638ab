"""Hostile values in every parameter and every field of every route: a typed refusal or an answer, soon, that tells no folder."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import pytest
from asgi_asking import App
from in_process import trajsvc
from service_process import make_run

from api.__main__ import TARGET

CANARY: Final = "canary-hush"
DESCRIPTION: Final[dict[str, Any]] = json.loads(TARGET.read_text("utf-8"))
KNOWN: Final = {
    "run": "small",
    "a": "small",
    "b": "small",
    "key": "zarr.json",
    "job": "0" * 32,
    "removed": "x@20200101T000000Z",
}
LEFT_OUT: Final = {"removeRun", "getJobEvents", "planRun", "auditRun", "submitRun", "recomputeRun", "submitGradients", "submitSpectra",
                   "submitCross", "retryJob"}  # fmt: skip
"""what changes the run, streams, or is done by other processes: bodies of these are read by their models below"""
VALUES: Final = [
    "", "\0", "../../etc/passwd", "/etc/passwd", "*a" * 300, "[", "(?P<a", "NaN", "1e400", "-1", "9" * 30, "every:0", "0..", "1," * 3000,
    "٣", "=", "x>1e999", "tensor/", "x[q.99999999999]", "<script>", "\r\nX: y", "network", "true",
]  # fmt: skip
LONG: Final = ["1" * 60_000 + "!", "1e" + "9" * 400, " " * 60_000 + "!", "a" * 60_000 + "!", "1_" * 30_000, "{1" * 30_000, "(" * 60_000,
               "0.." * 20_000, "," * 60_000, "/" * 60_000 + "\0", "\\" * 60_000, "-" * 60_000, "1" * 300 + ".." + "1" * 300]  # fmt: skip
ODD: Final = [
    None,
    [],
    {},
    -1,
    2**70,
    1e308,
    True,
    {"a": {"b": 1}},
    [None],
    [["x"]],
    "d:../x",
    "d:\0",
    "hf://../x",
    "hf://a/b@../../c",
]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            if operation["operationId"] not in LEFT_OUT:
                yield method.upper(), path, operation


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp(CANARY)
    source = make_run(folder / "data" / "small", steps=4, tensors=3, size=2**10)
    (folder / "data" / "link").symlink_to("/etc/passwd")
    trajsvc("analyze", str(source), "--store", str(folder / "store"), "--no-figures")
    return App(folder, d=folder / "data")


def check(
    app: App, method: str, target: str, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    found = app.ask(target, method, headers, body)
    what = f"{method} {target[:200]} {body[:200]!r}: {found.status} {found.body[:300]!r}"
    assert CANARY.encode() not in found.body, what
    assert found.status < 500 or found.status == 503, what
    if found.status >= 400 and not target.startswith("/ready"):
        assert found.problem["type"].startswith("urn:trajsvc:problem:"), what


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    list(operations()),
    ids=lambda v: v.get("operationId") if isinstance(v, dict) else "",
)
def test_every_parameter_of_every_route_is_read_or_refused(
    method: str, path: str, operation: dict[str, Any], app: App
) -> None:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    given = operation.get("parameters", [])
    body = b"{}" if "requestBody" in operation else b""
    headers = [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")]

    def target(place: dict[str, str], query: dict[str, str]) -> str:
        found = path
        for name in names:
            found = found.replace(f"{{{name}}}", quote(place.get(name, KNOWN.get(name, "x")), safe=""))
        needed = {p["name"]: KNOWN.get(p["name"], "x") for p in given if p["in"] == "query" and p.get("required")}
        return found + "?" + "&".join(f"{quote(n)}={quote(v, safe='')}" for n, v in {**needed, **query}.items())

    for value in VALUES:
        for parameter in given:
            name = parameter["name"]
            if parameter["in"] == "header":
                text = value.encode("utf-8").replace(b"\0", b"").replace(b"\r\n", b"")
                check(app, method, target({}, {}), body, [*headers, (name.lower().encode(), text)])
            else:
                place, query = ({name: value}, {}) if parameter["in"] == "path" else ({}, {name: value})
                check(app, method, target(place, query), body, headers)


def bodies() -> Iterator[tuple[str, str]]:
    for schema, facts in DESCRIPTION["components"]["schemas"].items():
        if schema in _models():
            for field in facts["properties"]:
                yield schema, field


def _models() -> dict[str, Any]:
    from api import requests
    from api.routes.manage import Restoration, RunChange
    from trajsvc.families.file import Family

    named = (requests.Submission, requests.Recomputation, requests.CrossSubmission, requests.GradientSubmission)
    return {m.__name__: m for m in (*named, requests.SpectrumSubmission, RunChange, Restoration, Family)}


def test_every_body_is_walked() -> None:
    walked = set(_models())
    for path, methods in DESCRIPTION["paths"].items():
        for operation in methods.values():
            if "requestBody" in operation:
                words = json.dumps(operation["requestBody"])
                assert any(f'/schemas/{name}"' in words for name in walked), path


@pytest.mark.parametrize(("schema", "field"), list(bodies()))
def test_no_text_of_a_body_breaks_its_model_or_takes_long(schema: str, field: str) -> None:
    """Reading a body holds up all other answers. What is linear takes milliseconds, what is quadratic takes minutes."""
    from pydantic import ValidationError

    model = _models()[schema]
    good = {"source": "d:x", "a": "a", "b": "b", "probe": "p", "data": "t", "name": "x"}
    good = {k: v for k, v in good.items() if k in model.model_fields}
    begun = time.process_time()
    for value in (*VALUES, *LONG, *ODD, LONG, [{"name": "a", "source": "d:a", "size": LONG[0]}], {LONG[0]: LONG[0]}):
        try:
            model.model_validate({**good, field: value})
        except ValidationError:
            continue
    assert time.process_time() - begun < 60


def test_a_size_of_many_digits_is_refused_over_http(app: App) -> None:
    for size in (LONG[0], "1e400", "9" * 400):
        found = app.post("/v1/plan", {"source": "d:small", "memory": size})
        assert (found.status, found.kind) == (422, "bad-request")
