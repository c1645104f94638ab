"""Runs against runs over HTTP: a job, its answers in every format, the same from Python and the command line; averages."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_process import Server, make_run
from typer.testing import CliRunner

import trajsvc
from trajsvc.cli.main import make_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compared(server: Server, data: Path) -> dict[str, Any]:
    """Two runs of one network, and the job that compared them."""
    for name, steps in (("one", 5), ("two", 3)):
        make_run(data / name, steps=steps)
        assert server.wait(server.submit(f"runs:{name}")["id"])["state"] == "succeeded"
    status, _, problem = server.ask("/v1/cross?a=one&b=two")
    assert (status, problem["type"]) == (404, "urn:trajsvc:problem:cross-not-found")
    status, headers, job = server.ask("/v1/cross", method="POST", body={"a": "two", "b": "one"})
    assert status == 202
    assert headers["location"] == f"/v1/jobs/{job['id']}"
    ended = server.wait(job["id"])
    assert (ended["kind"], ended["state"]) == ("cross", "succeeded"), ended
    again = server.ask("/v1/cross", method="POST", body={"a": "one", "b": "two"})
    assert (again[0], again[2]["id"]) == (200, job["id"])
    return ended


def test_the_answer_is_that_of_the_store(server: Server, compared: dict[str, Any]) -> None:
    local = trajsvc.open(server.store, "one").cross(trajsvc.open(server.store, "two"))
    for origin in ("first", "shared", "none"):
        found = server.ask(f"/v1/cross?a=one&b=two&origin={origin}")[2]
        assert found == local.answer(origin=origin).model_dump()  # type: ignore[attr-defined]
    assert (len(found["steps_a"]), len(found["steps_b"])) == (5, 3)
    arrays = np.load(io.BytesIO(server.ask("/v1/cross?a=one&b=two&origin=none&f=npz", raw=True)[2]))
    assert np.array_equal(arrays["map"], local.map(origin="none"))
    lines = server.ask("/v1/cross?a=one&b=two&f=csv")[2].decode().splitlines()
    assert len(lines) == 6
    assert server.ask("/v1/cross?a=one&b=two&f=png", raw=True)[2].startswith(b"\x89PNG")


def test_other_doors_of_the_server(server: Server, compared: dict[str, Any], tmp_path: Path) -> None:
    one, two = (trajsvc.open(server.address, name) for name in ("one", "two"))
    local = trajsvc.open(server.store, "two").cross(trajsvc.open(server.store, "one"))
    assert trajsvc.cross(two, one).map().equals(local.map())
    said = CliRunner().invoke(make_app("cross"), ["cross", f"{server.address}/two", "one", "--format", "json"])
    assert json.loads(said.stdout) == local.answer().model_dump()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"a": "one", "b": "nobody"}, 404, "run-not-found"), ({"a": "one", "b": "one"}, 422, "runs-needed"),
        ({"a": "one", "b": "two", "rename": ["x"]}, 422, "bad-rename"), ({"a": "one"}, 422, "bad-request"),
        ({"a": "one", "b": "two", "memory": 2**43}, 422, "memory-quota"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(
    server: Server, compared: dict[str, Any], body: dict[str, Any], status: int, kind: str
) -> None:
    found, _, problem = server.ask("/v1/cross", method="POST", body=body)
    assert (found, problem["type"]) == (status, f"urn:trajsvc:problem:{kind}")


@pytest.mark.dear
@pytest.mark.timing
def test_networks_that_differ_fail_the_job(server: Server, compared: dict[str, Any], stored: str) -> None:
    job = server.ask("/v1/cross", method="POST", body={"a": "one", "b": stored})[2]
    ended = server.wait(job["id"])
    assert (ended["state"], ended["cause"]["kind"]) == ("failed", "runs-differ")
    status, _, problem = server.ask(f"/v1/cross?a=one&b={stored}&origin=nowhere")
    assert (status, problem["type"]) == (422, "urn:trajsvc:problem:bad-request")


def test_averages(server: Server, compared: dict[str, Any]) -> None:
    found = server.ask("/v1/runs/one/averages")[2]
    run = trajsvc.open(server.store, "one")
    distances = [row["distance"] for row in found["averages"] if row["weights"].startswith("last")]
    assert distances == pytest.approx(run.average_distance().values[::-1].tolist(), rel=1e-12)
    assert server.ask("/v1/runs/one/averages?f=csv")[2].startswith(b"weights,checkpoints")
    assert server.ask("/v1/runs/one/averages?f=png", raw=True)[2].startswith(b"\x89PNG")
    listed = server.ask("/v1/cross/bases")[2]
    assert all(len(row["runs"]) > 1 for row in listed)
