"""Spectra over HTTP: from a submission to the end of its job, and every answer, which is that of the store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_process import Server, environment

import trajsvc
from trajsvc.client import Client

pytestmark = pytest.mark.slow

PATH = "/v1/runs/pythia-nano/spectra"
TENSOR = "gpt_neox.layers.0.attention.query_key_value.weight[q]"
EXAMPLE = Path(__file__).parents[2] / "examples" / "pythia-nano"
BODY: dict[str, Any] = {"steps": "0,64,5000", "groups": ["layer/0", "layer/1"], "heads": True}


@pytest.fixture(scope="module")
def job(server: Server, stored: str) -> dict[str, Any]:
    """The job that decomposed two layers at three checkpoints."""
    status, headers, submitted = server.ask(PATH, method="POST", body=BODY)
    assert status == 202, submitted
    assert headers["location"] == f"/v1/jobs/{submitted['id']}"
    ended = server.wait(submitted["id"], 240)
    assert ended["state"] == "succeeded", ended
    return ended


@pytest.fixture(scope="module")
def local(server: Server, job: dict[str, Any]) -> Any:
    return trajsvc.open(server.store, "pythia-nano")


def test_a_job_of_spectra_says_what_it_is_and_what_it_did(server: Server, job: dict[str, Any]) -> None:
    assert (job["kind"], job["run"], job["source"]) == ("spectra", "pythia-nano", "runs:pythia-nano")
    assert job["result"] == {
        "run": "pythia-nano",
        "of": ["weights", "displacement", "updates"],
        "new_steps": [0, 64, 5000],
        "there": [],
    }
    _, _, events = server.ask(f"/v1/jobs/{job['id']}/events?f=json")
    last = [e["data"] for e in events if e["event"] == "progress"][-1]
    assert last["slabs"] == last["slabs_total"] == 3 * 2 * 6  # steps, layers, blocks that are matrices


def test_singular_values_are_those_of_numpy(server: Server, job: dict[str, Any], local: Any) -> None:
    from trajsvc.spectra.compute import make_plan
    from trajsvc.spectra.options import SpectrumOptions
    from trajsvc.spectra.reading import MatrixReader

    reader = MatrixReader(local.stored, str(EXAMPLE))
    matrix = next(m for m in make_plan(local, SpectrumOptions(), str(EXAMPLE)).matrices.found if m.name == TENSOR)
    weights = [reader.rows(matrix, step, 0, matrix.rows) for step in (0, 5000)]
    reader.close()
    for of, wanted in (("weights", weights[1]), ("displacement", weights[1] - weights[0])):
        found = server.ask(f"{PATH}/values?tensor={TENSOR}&of={of}&steps=5000")[2]["values"][0]
        assert found == pytest.approx(np.linalg.svd(wanted, compute_uv=False), rel=1e-12, abs=1e-14)


def test_answers_are_those_of_the_store_and_of_a_remote_run(server: Server, local: Any) -> None:
    here = local.spectrum_answers()
    assert server.ask(PATH)[2] == [row.model_dump() for row in here.rows()]
    assert server.ask(f"{PATH}/updates")[2] == here.details("updates").model_dump()
    found = server.ask(f"{PATH}/measures?tensor={TENSOR}&of=updates&names=sigma_1,power_law&steps=64..")[2]
    assert found == here.measures(TENSOR, "updates", ["sigma_1", "power_law"], "64..").model_dump()
    assert set(found["measures"]) == {"sigma_1", "power_law"}
    layers = server.ask(f"{PATH}/layers?names=stable_rank&heads=true")[2]
    assert layers == here.layers("weights", ["stable_rank"], heads=True).model_dump()
    parts = server.ask(f"{PATH}/layers?names=sigma_1&qkv=true")[2]["matrices"]
    assert {row["component"] for row in parts} == {"attention.q", "attention.k", "attention.v"}
    remote = trajsvc.open(server.address, "pythia-nano").spectra("updates")
    mine = local.spectra("updates")
    assert remote.matrices == mine.matrices
    assert remote.singular_values(TENSOR, [64, 5000]).identical(mine.singular_values(TENSOR, [64, 5000]))
    assert remote.layers("effective_rank").identical(mine.layers("effective_rank"))


def test_tables_and_pictures(server: Server, local: Any) -> None:
    lines = server.ask(f"{PATH}/values?tensor={TENSOR}&f=csv")[2].decode().splitlines()
    values = local.spectra().singular_values(TENSOR).values.ravel().tolist()
    assert lines[0] == "step,index,value"
    assert [float(line.split(",")[2]) for line in lines[1:]] == values
    assert (
        server.ask(f"{PATH}/layers?f=csv")[2].decode().startswith("matrix,layer,component,rows,columns,measure,step,")
    )
    assert server.ask(f"{PATH}?f=csv")[2].decode().startswith("run,of,matrices,heads,")
    for path in (f"measures?tensor={TENSOR}&f=png", "layers?f=png", "layers?names=sigma_1&qkv=true&f=png"):
        assert server.ask(f"{PATH}/{path}", raw=True)[2].startswith(b"\x89PNG")


def test_an_etag_changes_with_the_spectra_and_the_same_work_is_one_job(server: Server, job: dict[str, Any]) -> None:
    assert server.ask(PATH, method="POST", body=dict(reversed(BODY.items())))[2]["id"] == job["id"]
    with Client(server.address) as client:
        assert client.submit_spectra("pythia-nano", **BODY)["id"] == job["id"]
    headers = server.ask(PATH)[1]
    assert server.ask(PATH, headers={"If-None-Match": headers["etag"]})[0] == 304
    command = [
        sys.executable, "-m", "trajsvc", "spectra", "submit", "pythia-nano", "--steps", "256", "--groups", "layer/0",
        "--of", "weights", "--wait", "--format", "json",
    ]  # fmt: skip
    given = environment(TRAJSVC_SERVER=server.address)
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["result"]["new_steps"] == [256]
    assert server.ask(PATH, headers={"If-None-Match": headers["etag"]})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "change", "status", "kind"),
    [
        ("POST", "", {"groups": ["layer/99"]}, 404, "group-not-found"),
        ("POST", "", {"of": ["gradients"]}, 422, "bad-request"),
        ("POST", "", {"steps": "some"}, 422, "bad-steps"),
        ("POST", "", {"budget": 2**40}, 422, "memory-quota"),
        ("POST", "", {"source": "/etc"}, 422, "bad-request"),
        ("GET", "/measures?tensor=nothing", None, 404, "matrix-not-found"),
        ("GET", f"/measures?tensor={TENSOR}&names=happiness", None, 404, "measure-not-found"),
        ("GET", f"/measures?tensor={TENSOR}&of=gradients", None, 422, "bad-request"),
        ("GET", f"/values?tensor={TENSOR}&steps=1", None, 404, "step-not-found"),
    ],
)
def test_what_cannot_be_answered_is_an_error_of_its_kind(
    server: Server, job: dict[str, Any], method: str, path: str, change: dict[str, Any] | None, status: int, kind: str
) -> None:
    body = None if change is None else {**BODY, **change}
    found, _, problem = server.ask(f"{PATH}{path}", method=method, body=body)
    assert (found, problem["type"]) == (status, f"urn:trajsvc:problem:{kind}"), problem


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_job_is_cancelled_and_its_work_goes_on_when_it_is_asked_again(server: Server, job: dict[str, Any]) -> None:
    body = {**BODY, "groups": ["network"], "steps": "all"}
    first = server.ask(PATH, method="POST", body=body)[2]
    server.ask(f"/v1/jobs/{first['id']}", method="DELETE")
    assert server.wait(first["id"], 240)["state"] in ("cancelled", "succeeded")
    again = server.wait(server.ask(PATH, method="POST", body=body)[2]["id"], 240)
    assert again["state"] == "succeeded"
    rows = {row["of"]: row for row in server.ask(PATH)[2]}
    assert len(rows["weights"]["steps"]) == len(rows["updates"]["steps"]) + 1


def test_measures_of_spectra_describe_themselves(server: Server) -> None:
    rows = server.ask("/v1/measures/spectra")[2]
    assert {"sigma_1", "frobenius", "stable_rank", "effective_rank", "power_law"} <= {row["name"] for row in rows}
    assert all(row["definition"] and row["source"] and row["units"] for row in rows)


@pytest.mark.slow
def test_the_server_that_answers_does_not_import_torch() -> None:
    words = "import sys, api.routes.spectra, trajsvc.jobs.spec; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_python_has_the_server_compute(server: Server, job: dict[str, Any]) -> None:
    run = trajsvc.open(server.address, "pythia-nano")
    found = trajsvc.compute_spectra(run, of="weights", steps=[1], groups=["layer/0"], budget="64MiB")
    assert 1 in found.spectra("weights").measure("sigma_1", TENSOR).step
    with pytest.raises(trajsvc.NotFound) as caught:
        trajsvc.compute_spectra(run, groups="layer/77")
    assert caught.value.kind == "group-not-found"
