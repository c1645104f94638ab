"""Gradients over HTTP: from a submission to the end of its job, and every answer, which is that of the store."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from service_process import Server, environment

import trajsvc
from trajsvc.client import Client
from trajsvc.results import gradient_answers

pytestmark = pytest.mark.slow

BODY: dict[str, Any] = {"probe": "nano", "data": "text", "examples": 6, "batch": 2, "length": 16, "steps": "0,64,5000"}
PATH = "/v1/runs/pythia-nano/gradients"


@pytest.fixture(scope="module")
def job(server: Server, stored: str) -> dict[str, Any]:
    """The job that computed the sets ``example`` and ``batch``, and what its submission was answered."""
    status, headers, submitted = server.ask(PATH, method="POST", body=BODY)
    assert status == 202, submitted
    assert headers["location"] == f"/v1/jobs/{submitted['id']}"
    ended = server.wait(submitted["id"], 240)
    assert ended["state"] == "succeeded", ended
    return ended


@pytest.fixture(scope="module")
def local(server: Server, job: dict[str, Any]) -> Any:
    return trajsvc.open(server.store, "pythia-nano")


def test_a_job_of_gradients_says_what_it_is_and_what_it_did(server: Server, job: dict[str, Any]) -> None:
    assert (job["kind"], job["run"], job["source"]) == ("gradients", "pythia-nano", "runs:pythia-nano")
    assert job["result"] == {
        "run": "pythia-nano",
        "sets": ["example", "batch"],
        "new_steps": [0, 64, 5000],
        "there": [],
    }
    assert job["spec"]["gradients"]["data"] == "text"
    _, _, events = server.ask(f"/v1/jobs/{job['id']}/events?f=json")
    progress = [e["data"] for e in events if e["event"] == "progress"]
    assert (progress[-1]["slabs"], progress[-1]["slabs_total"], progress[-1]["step"]) == (3, 3, 5000)


def test_the_same_work_asked_twice_is_one_job(server: Server, job: dict[str, Any]) -> None:
    status, _, again = server.ask(PATH, method="POST", body=dict(reversed(BODY.items())))
    assert (status, again["id"]) == (200, job["id"])
    status, _, other = server.ask(PATH, method="POST", body={**BODY, "name": "other", "seed": 1, "steps": "0"})
    assert (status, other["id"] != job["id"]) == (202, True)
    server.ask(f"/v1/jobs/{other['id']}", method="DELETE")


def test_the_names_that_may_be_asked_for_are_listed(server: Server) -> None:
    assert server.ask("/v1/probes")[2] == {"probes": ["nano"], "data": ["ids", "text"]}


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"probe": "causal-lm"}, 404, "probe-not-registered"),
        ({"probe": "os:system"}, 404, "probe-not-registered"),
        ({"data": "/etc/passwd"}, 404, "data-not-registered"),
        ({"tokenizer": "/etc"}, 422, "bad-request"),
        ({"sets": ["everything"]}, 422, "bad-request"),
        ({"examples": 0}, 422, "bad-request"),
        ({"steps": "some"}, 422, "bad-steps"),
        ({"memory": 2**40}, 422, "memory-quota"),
    ],
)
def test_what_may_not_be_asked_is_refused(
    server: Server, stored: str, change: dict[str, Any], status: int, kind: str
) -> None:
    found, _, problem = server.ask(PATH, method="POST", body={**BODY, **change})
    assert (found, problem["type"]) == (status, f"urn:trajsvc:problem:{kind}")
    if status == 404:
        assert ("nano" if "probe" in change else "text") in problem["hint"]


def test_a_run_that_is_not_there_has_no_gradients(server: Server) -> None:
    for method, path in (("POST", "/v1/runs/nobody/gradients"), ("GET", "/v1/runs/nobody/gradients")):
        status, _, problem = server.ask(path, method=method, body=BODY if method == "POST" else None)
        assert (status, problem["type"]) == (404, "urn:trajsvc:problem:run-not-found")
    status, _, problem = server.ask("/v1/runs/nobody/gradients/example/measures")
    assert status == 404


def test_answers_are_those_of_the_store(server: Server, local: Any) -> None:
    example = local.gradients("example")
    assert server.ask(PATH)[2] == [row.model_dump() for row in gradient_answers.sets(local)]
    assert server.ask(f"{PATH}/example")[2] == gradient_answers.set_details(example).model_dump()
    assert server.ask(f"{PATH}/example/measures?group=layer/2")[2] == example.measures("layer/2")
    names = "names=coherence,norm&steps=0,64"
    assert server.ask(f"{PATH}/example/measures?{names}")[2] == example.measures(
        names=["coherence", "norm"], steps=[0, 64]
    )
    layers = gradient_answers.layers(example, ["confusion"], None).model_dump()
    assert server.ask(f"{PATH}/example/layers?names=confusion")[2] == layers
    cosines = gradient_answers.gradient_map(example, 64, "layer/1/attention.q").model_dump()
    assert server.ask(f"{PATH}/example/map?step=64&group=layer/1/attention.q")[2] == cosines
    ordered = gradient_answers.gradient_map(example, 64, "network", clusters=2).model_dump()
    assert server.ask(f"{PATH}/example/map?step=64&clusters=2")[2] == ordered
    clusters = gradient_answers.clusters(example, 3, 64, "network").model_dump()
    assert server.ask(f"{PATH}/example/clusters?step=64&clusters=3")[2] == clusters


def test_tables_and_arrays_hold_the_same_numbers(server: Server, local: Any) -> None:
    example = local.gradients("example")
    cosines = example.map(0)
    arrays = np.load(io.BytesIO(server.ask(f"{PATH}/example/map?f=npz", raw=True)[2]))
    assert np.array_equal(arrays["map"], cosines.values)
    assert np.array_equal(arrays["norms"], cosines.norm.values)
    assert np.array_equal(np.load(io.BytesIO(server.ask(f"{PATH}/example/map?f=npy", raw=True)[2])), cosines.values)
    rows = [line.split(",") for line in server.ask(f"{PATH}/example/map?f=csv")[2].decode().splitlines()]
    assert np.array_equal(np.array(rows[1:], dtype=float)[:, 2:], cosines.values)
    lines = server.ask(f"{PATH}/example/measures?f=csv&names=coherence")[2].decode().splitlines()
    assert lines[0] == "measure,step,axis,at,value"
    assert [float(line.split(",")[-1]) for line in lines[1:]] == example.coherence().values.tolist()
    lines = server.ask(f"{PATH}/example/layers?f=csv")[2].decode().splitlines()
    assert lines[0] == "layer,group,parameters,0,64,5000"
    assert [float(v) for v in lines[1].split(",")[3:]] == example.coherence("layer/0").values.tolist()


def test_unknown_sets_measures_groups_and_steps_are_named(server: Server, job: dict[str, Any]) -> None:
    for path, kind in (
        ("nothing", "gradients-not-found"), ("example/measures?names=happiness", "measure-not-found"),
        ("example/map?step=1", "step-not-found"), ("example/map?group=layer/99", "group-not-found"),
    ):  # fmt: skip
        status, _, problem = server.ask(f"{PATH}/{path}")
        assert (status, problem["type"]) == (404, f"urn:trajsvc:problem:{kind}")
    status, _, problem = server.ask(f"{PATH}/example/clusters?clusters=7")
    assert (status, problem["type"]) == (422, "urn:trajsvc:problem:bad-option")


@pytest.mark.dear
@pytest.mark.timing
def test_answers_carry_an_etag_that_changes_with_the_sets(server: Server, job: dict[str, Any]) -> None:
    path = f"{PATH}/batch/measures"
    status, headers, _ = server.ask(path)
    assert status == 200
    assert headers["etag"].startswith('"')
    assert server.ask(path, headers={"If-None-Match": headers["etag"]})[0] == 304
    more = server.ask(PATH, method="POST", body={**BODY, "steps": "16"})[2]
    assert server.wait(more["id"], 240)["state"] == "succeeded"
    _, later, answer = server.ask(path, headers={"If-None-Match": headers["etag"]})
    assert later["etag"] != headers["etag"]
    assert answer["steps"] == [0, 16, 64, 5000]


def test_a_run_of_the_server_answers_as_one_of_the_store(server: Server, local: Any) -> None:
    remote = trajsvc.open(server.address, "pythia-nano")
    assert remote.gradient_sets() == local.gradient_sets()
    here, there = local.gradients("example"), remote.gradients("example")
    assert there.measures("layer/1/mlp.in") == here.measures("layer/1/mlp.in")
    assert there.coherence("layer/3").identical(here.coherence("layer/3"))
    assert there.map(64).identical(here.map(64))
    assert np.array_equal(there.clusters(2).assignment, here.clusters(2).assignment)


@pytest.mark.dear
@pytest.mark.timing
def test_the_client_submits_gradients(server: Server, job: dict[str, Any]) -> None:
    with Client(server.address) as client:
        again = client.submit_gradients("pythia-nano", **BODY)
    assert again["id"] == job["id"]


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_the_command_line_submits_and_follows(server: Server, job: dict[str, Any]) -> None:
    words = [
        "--probe",
        "nano",
        "--data",
        "text",
        "--examples",
        "6",
        "--batch",
        "2",
        "--length",
        "16",
        "--steps",
        "0,64,5000",
    ]
    command = [
        sys.executable,
        "-m",
        "trajsvc",
        "gradients",
        "submit",
        "pythia-nano",
        *words,
        "--wait",
        "--format",
        "json",
    ]
    given = environment(TRAJSVC_SERVER=server.address)
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["id"] == job["id"]
    refused = subprocess.run(
        [*command[:5], "pythia-nano", "--probe", "mine", "--data", "text"],
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 4
    assert "It has nano" in refused.stderr


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("copy", [True, False], ids=["copied", "streamed"])
def test_gradients_of_a_run_of_the_hub_are_those_of_the_folder(server: Server, stored: str, copy: bool) -> None:
    name = f"hub-{copy}"
    assert server.wait(server.submit("hf://local/pythia-nano", name=name, copy=copy)["id"])["state"] == "succeeded"
    body = {
        "probe": "nano",
        "data": "ids",
        "examples": 4,
        "batch": 2,
        "length": 8,
        "steps": "0,1000",
        "sets": ["example"],
    }
    for run in (name, stored):
        given = {**body, "name": "of-ids"}
        _, _, job = server.ask(f"/v1/runs/{run}/gradients", method="POST", body=given)
        ended = server.wait(job["id"], 240)
        assert ended["state"] == "succeeded", ended
    folder, hub = (trajsvc.open(server.store, run).gradients("of-ids") for run in (stored, name))
    assert folder.stored.spec == hub.stored.spec
    for step in (0, 1000):
        np.testing.assert_allclose(hub.gram(step).gram, folder.gram(step).gram, rtol=1e-12)


def test_measures_of_gradients_describe_themselves(server: Server) -> None:
    rows = server.ask("/v1/measures/gradients")[2]
    coherence = next(row for row in rows if row["name"] == "coherence")
    assert "example" in coherence["sets"]
    assert all(row["definition"] and row["source"] and row["units"] for row in rows)


@pytest.mark.slow
def test_the_server_that_answers_does_not_import_torch() -> None:
    words = "import sys, api.app, api.routes.gradients, trajsvc.jobs.registered; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("path", ["measures", "layers?names=coherence,mu", "map?clusters=2", "clusters?clusters=2"])
def test_pictures_are_pictures(server: Server, job: dict[str, Any], path: str) -> None:
    joined = "&" if "?" in path else "?"
    assert server.ask(f"{PATH}/example/{path}{joined}f=png", raw=True)[2].startswith(b"\x89PNG")
    assert b"<svg" in server.ask(f"{PATH}/example/{path}{joined}f=svg", raw=True)[2]


def test_python_has_the_server_compute(server: Server, job: dict[str, Any]) -> None:
    run = trajsvc.open(server.address, "pythia-nano")
    trajsvc.compute_gradients(
        run, "nano", "text", steps=[1], sets="batch", name="python", examples=4, batch=2, length=16
    )
    rows = {row["set"]: row for row in server.ask(PATH)[2]}
    assert (rows["python"]["kind"], rows["python"]["steps"]) == ("batch", [1])
    with pytest.raises(trajsvc.TrajsvcError) as caught:
        trajsvc.compute_gradients(
            run, "nano", "text", steps=[1], sets="batch", name="python", examples=6, batch=2, length=16
        )
    assert caught.value.kind == "gradients-exist"
    with pytest.raises(trajsvc.NotFound):
        trajsvc.compute_gradients(run, "nano", "nothing")
