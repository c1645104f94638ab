"""From a submission over HTTP to the end of its job: folders, the Hub, the same work twice, failures, events, cancelling."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_process import EXAMPLES, Server, make_run

import trajsvc
from storage_schema.runs.store import RunStore


def events(server: Server, job: str, after: int = 0) -> list[dict[str, Any]]:
    """All events of the stream after a number, until it ends."""
    request = urllib.request.Request(f"{server.address}/v1/jobs/{job}/events", headers={"Last-Event-ID": str(after)})
    found: list[dict[str, Any]] = []
    with urllib.request.urlopen(request, timeout=600) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        facts: dict[str, str] = {}
        for line in stream:
            text = line.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(": ")
                facts[name] = value
            elif "data" in facts:
                found.append({"id": int(facts["id"]), "event": facts["event"], "data": json.loads(facts["data"])})
                facts = {}
    return found


def test_a_folder_is_analysed_and_equals_the_local_analysis(server: Server, tmp_path: Path) -> None:
    status, headers, job = server.ask("/v1/runs", method="POST", body={"source": "runs:pythia-nano", "name": "by-http"})
    assert status == 202
    assert headers["location"] == f"/v1/jobs/{job['id']}"
    assert "retry-after" in headers
    happened = events(server, job["id"])
    assert [e["id"] for e in happened] == list(range(1, len(happened) + 1))
    states = [e["data"]["state"] for e in happened if e["event"] == "state"]
    assert states == ["accepted", "running", "succeeded"]
    last = [e["data"] for e in happened if e["event"] == "progress"][-1]
    assert last["slabs"] == last["slabs_total"] > 0
    assert last["bytes"] == last["bytes_total"]
    assert last["mds_error"] == 0.0 or last["mds_error"] < 1e-9

    local = trajsvc.analyze(EXAMPLES / "pythia-nano", store=tmp_path, threads=2)
    remote = RunStore(server.store).open("by-http")
    assert np.array_equal(remote.block_grams(), local.stored.block_grams())
    assert last["mds"] == local.mds()


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_repository_of_the_hub_is_copied_and_equals_the_folder(server: Server, stored: str) -> None:
    job = server.submit("hf://local/pythia-nano", name="from-hub")
    done = server.wait(job["id"])
    assert done["state"] == "succeeded", done
    run, folder = RunStore(server.store).open("from-hub"), RunStore(server.store).open(stored)
    assert run.has_theta, "a run of the Hub is copied unless told otherwise"
    assert np.array_equal(run.block_grams(), folder.block_grams())
    assert run.checkpoints.fingerprint == folder.checkpoints.fingerprint

    streamed = server.wait(server.submit("hf://local/pythia-nano", name="streamed", copy=False)["id"])
    assert streamed["state"] == "succeeded", streamed
    other = RunStore(server.store).open("streamed")
    assert not other.has_theta
    assert np.array_equal(other.block_grams(), run.block_grams())


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_the_same_work_is_one_job_until_the_source_changes(server: Server, data: Path) -> None:
    make_run(data / "twice", steps=4)
    first = server.submit("runs:twice")
    assert server.wait(first["id"])["state"] == "succeeded"
    status, _, again = server.ask("/v1/runs", method="POST", body={"source": "runs:twice"})
    assert (status, again["id"]) == (200, first["id"])
    other = server.submit("runs:twice", precision="float32")
    assert other["id"] != first["id"]

    make_run(data / "more", steps=5)
    (data / "more" / "step40").rename(data / "twice" / "step40")
    grown = server.submit("runs:twice")
    assert grown["id"] != first["id"], "the folder has another checkpoint: that is other work"
    assert server.wait(other["id"])["state"] == "succeeded"
    assert server.wait(grown["id"])["state"] == "succeeded"


def test_an_idempotency_key_gives_the_same_job_and_refuses_another_request(server: Server, data: Path) -> None:
    make_run(data / "keyed", steps=3)
    body = {"source": "runs:keyed"}
    key = {"Idempotency-Key": "one"}
    jobs = [server.ask("/v1/runs", method="POST", body=body, headers=key)[2]["id"] for _ in range(3)]
    assert len(set(jobs)) == 1
    changed = {**body, "steps": "every:2"}
    status, _, problem = server.ask("/v1/runs", method="POST", body=changed, headers=key)
    assert (status, problem["type"]) == (409, "urn:trajsvc:problem:idempotency-conflict")


@pytest.mark.dear
@pytest.mark.timing
def test_a_damaged_checkpoint_fails_with_its_cause_and_harms_nothing(server: Server, stored: str) -> None:
    before = RunStore(server.store).open(stored).digest
    job = server.wait(server.submit("runs:damaged")["id"])
    assert job["state"] == "failed"
    assert job["cause"]["type"].startswith("urn:trajsvc:problem:")
    assert "model.safetensors" in json.dumps(job["cause"])
    assert job["attempts"] == 1, "what is damaged is not read again"
    assert RunStore(server.store).open(stored).digest == before
    assert "damaged" not in RunStore(server.store).names()


def test_events_are_replayed_after_the_one_that_was_seen_and_polled_alike(server: Server, data: Path) -> None:
    make_run(data / "replayed", steps=3)
    job = server.submit("runs:replayed")
    every = events(server, job["id"])
    assert events(server, job["id"], after=2) == every[2:]
    _, _, polled = server.ask(f"/v1/jobs/{job['id']}/events?f=json&after=1")
    assert [(e["id"], e["event"]) for e in polled] == [(e["id"], e["event"]) for e in every[1:]]


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_running_job_stops_when_it_is_cancelled(server: Server, data: Path) -> None:
    make_run(data / "large", steps=24, tensors=4, size=2**18)
    job = server.submit("runs:large", memory=2**26)
    server.wait(job["id"], state="running")
    status, _, asked = server.ask(f"/v1/jobs/{job['id']}", method="DELETE")
    assert status == 200
    assert asked["state"] in ("cancelling", "cancelled", "succeeded")
    begun = time.monotonic()
    ended = server.wait(job["id"])
    assert ended["state"] in ("cancelled", "succeeded")
    assert time.monotonic() - begun < 100
    again = server.ask(f"/v1/jobs/{job['id']}", method="DELETE")[2]
    assert again["state"] == ended["state"], "a final state never changes"
    if ended["state"] == "cancelled":
        renewed = server.submit("runs:large", memory=2**26)
        assert renewed["id"] != job["id"]
        assert server.wait(renewed["id"])["state"] == "succeeded"


@pytest.mark.dear
@pytest.mark.timing
def test_a_job_that_failed_is_tried_again_as_it_was(server: Server, data: Path) -> None:
    folder = make_run(data / "mended", steps=3, tensors=2, size=2**12)
    broken = folder / "step10" / "model.safetensors"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    job = server.submit("runs:mended", name="again", steps="first:2", precision="float32")
    assert server.wait(job["id"])["state"] == "failed"
    broken.write_bytes(whole)
    status, headers, renewed = server.ask(f"/v1/jobs/{job['id']}/retry", method="POST")
    assert status == 202
    assert headers["location"] == f"/v1/jobs/{renewed['id']}"
    assert renewed["id"] != job["id"]
    assert {k: v for k, v in renewed["spec"].items() if k != "pins"} == job["spec"]
    done = server.wait(renewed["id"])
    assert done["state"] == "succeeded"
    assert done["result"]["new_steps"] == [0, 10]
    status, _, same = server.ask(f"/v1/jobs/{renewed['id']}/retry", method="POST")
    assert (status, same["id"]) == (200, renewed["id"]), "what has succeeded is not done again"
    assert server.ask(f"/v1/jobs/{'0' * 32}/retry", method="POST")[0] == 404


@pytest.mark.dear
@pytest.mark.timing
def test_recomputing_keeps_the_source_and_changes_the_choice(server: Server, stored: str) -> None:
    status, _, job = server.ask(
        f"/v1/runs/{stored}/recompute",
        method="POST",
        body={"precision": "float32", "name": "quick", "steps": "every:2"},
    )
    assert status == 202
    assert job["kind"] == "recompute"
    assert server.wait(job["id"])["state"] == "succeeded"
    _, _, quick = server.ask("/v1/runs/quick")
    assert quick["attributes"]["precision"] == "float32"
    one, other = (server.ask(f"/v1/runs/{r}/measures?names=mds&steps=0")[2] for r in (stored, "quick"))
    assert one["measures"] == other["measures"]
    steps = [server.ask(f"/v1/runs/{r}/checkpoints")[2] for r in (stored, "quick")]
    assert [c["step"] for c in steps[1]] == [c["step"] for c in steps[0]][::2]


@pytest.mark.dear
@pytest.mark.timing
def test_an_ingest_keeps_the_parameters(server: Server, data: Path) -> None:
    make_run(data / "kept", steps=3)
    job = server.wait(server.submit("runs:kept", kind="ingest")["id"])
    assert job["state"] == "succeeded"
    assert RunStore(server.store).open("kept").has_theta


@pytest.mark.dear
@pytest.mark.timing
def test_a_preview_is_an_estimate_that_a_later_job_makes_exact(server: Server, data: Path) -> None:
    make_run(data / "previewed", steps=6, tensors=2, size=2**19)
    assert server.wait(server.submit("runs:previewed", preview=0.05)["id"])["state"] == "succeeded"
    _, _, guess = server.ask("/v1/runs/previewed/measures?names=mds")
    assert guess["errors"]["mds"] > 0
    assert server.wait(server.submit("runs:previewed")["id"])["state"] == "succeeded"
    _, _, exact = server.ask("/v1/runs/previewed/measures?names=mds")
    assert "errors" not in exact
    assert abs(exact["measures"]["mds"] - guess["measures"]["mds"]) < 6 * guess["errors"]["mds"] + 1e-9


def test_jobs_are_listed_page_by_page(server: Server, stored: str, data: Path, tmp_path: Path) -> None:
    for number in range(3):
        name = f"{tmp_path.name}-{number}"  # others than those of the same test before
        make_run(data / name, steps=3)
        server.submit(f"runs:{name}")
    _, headers, page = server.ask("/v1/jobs?limit=2")
    assert len(page["items"]) == 2
    seen = [j["id"] for j in page["items"]]
    assert 'rel="next"' in headers["link"]
    while page["next"]:
        _, _, page = server.ask(f"/v1/jobs?limit=2&cursor={page['next']}")
        seen += [j["id"] for j in page["items"]]
    assert len(seen) == len(set(seen)) >= 3
    _, _, failed = server.ask("/v1/jobs?state=failed")
    assert all(j["state"] == "failed" for j in failed["items"])


@pytest.mark.parametrize(
    "inside",
    [
        [1764200000.25, "0" * 32],
        {"before": "7"},
        {"before": 0},
        {"before": 2**63},
        {"before": True},
        {"before": 1.5},
        {},
        None,
    ],
    ids=["of an older server", "text", "zero", "too large", "a truth value", "a fraction", "empty", "null"],
)
def test_a_cursor_of_another_kind_is_refused(server: Server, inside: object) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(inside).encode()).decode().rstrip("=")
    status, _, problem = server.ask(f"/v1/jobs?cursor={cursor}")
    assert (status, problem["type"]) == (422, "urn:trajsvc:problem:bad-cursor")


@pytest.mark.parametrize("cursor", ["nonsense", "%C3%A9", "e", "bnVsbA", "W1tbW1tb"])
def test_a_cursor_that_is_none_is_refused(server: Server, cursor: str) -> None:
    status, _, problem = server.ask(f"/v1/jobs?cursor={cursor}")
    assert (status, problem["type"]) == (422, "urn:trajsvc:problem:bad-cursor")


@pytest.mark.dear
@pytest.mark.timing
def test_many_submit_the_same_at_once_and_there_is_one_job(server: Server, data: Path) -> None:
    make_run(data / "crowd", steps=3)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(server.submit("runs:crowd")["id"])) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1


def test_a_plan_costs_nothing_and_says_what_would_be_read(server: Server) -> None:
    before = len(server.ask("/v1/jobs?limit=200")[2]["items"])
    status, _, plan = server.ask("/v1/plan", method="POST", body={"source": "runs:pythia-nano", "steps": "every:2"})
    assert status == 200
    assert plan["parameters"] == 265_600
    assert plan["bytes"] == plan["parameters"] * 2 * len(plan["steps"])
    assert len(server.ask("/v1/jobs?limit=200")[2]["items"]) == before


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_job_that_asks_for_a_gpu_runs_on_cpus_where_there_is_none(server: Server, data: Path) -> None:
    make_run(data / "gpu", steps=3)
    job = server.wait(server.submit("runs:gpu", device="cuda")["id"])
    assert job["state"] == "succeeded", job
    assert job["progress"]["device"] in ("cpu", "cuda")
    plain = server.wait(server.submit("runs:gpu", name="nogpu")["id"])
    assert plain["state"] == "succeeded"
    one, other = (RunStore(server.store).open(name).block_grams() for name in ("gpu", "nogpu"))
    assert np.allclose(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_run_is_recomputed_as_another_type(server: Server, data: Path) -> None:
    make_run(data / "typed", steps=4)
    assert server.wait(server.submit("runs:typed")["id"])["state"] == "succeeded"
    body = {"dtype": "bfloat16", "name": "typed-bf16"}
    status, _, job = server.ask("/v1/runs/typed/recompute", method="POST", body=body)
    assert status == 202
    assert server.wait(job["id"])["state"] == "succeeded"
    assert server.ask("/v1/runs/typed-bf16")[2]["attributes"]["dtype"] == "bfloat16"
    one, other = (RunStore(server.store).open(name).block_grams() for name in ("typed", "typed-bf16"))
    assert not np.array_equal(one, other)
    assert server.ask("/v1/runs/typed/recompute", method="POST", body={"dtype": "int8"})[0] == 422


def two_runs(data: Path, place: str) -> None:
    """Two trainings whose checkpoints lie in folders of the same name, with the same steps."""
    for seed, name in enumerate(("ra", "rb")):
        make_run(data / place / name / "checkpoints", steps=3, tensors=2, size=2**10, seed=seed)


@pytest.mark.dear
@pytest.mark.timing
def test_folders_of_the_same_name_are_two_runs(server: Server, data: Path) -> None:
    two_runs(data, "named")
    jobs = [server.submit(f"runs:named/{name}/checkpoints") for name in ("ra", "rb")]
    assert [job["run"] for job in jobs] == ["ra-checkpoints", "rb-checkpoints"]
    assert all(server.wait(job["id"])["state"] == "succeeded" for job in jobs)


@pytest.mark.dear
@pytest.mark.timing
def test_a_name_that_another_run_has_is_a_conflict(server: Server, data: Path) -> None:
    two_runs(data, "taken")
    assert server.wait(server.submit("runs:taken/ra/checkpoints", name="taken")["id"])["state"] == "succeeded"
    before = server.ask("/v1/runs/taken/measures?names=mds,path_length")[2]
    body = {"source": "runs:taken/rb/checkpoints", "name": "taken"}
    status, headers, problem = server.ask("/v1/runs", method="POST", body=body)
    assert status == 409
    assert headers["content-type"] == "application/problem+json"
    assert (problem["type"], problem["run"]) == ("urn:trajsvc:problem:run-exists", "/v1/runs/taken")
    assert str(data) not in json.dumps(problem)
    assert "--replace" in problem["hint"]
    assert server.ask("/v1/runs/taken/measures?names=mds,path_length")[2] == before
    again = server.submit("runs:taken/ra/checkpoints", name="taken")
    assert server.wait(again["id"])["state"] == "succeeded"
    status, _, job = server.ask("/v1/runs", method="POST", body={**body, "replace": True})
    assert status == 202
    assert server.wait(job["id"])["state"] == "succeeded"
    assert server.ask("/v1/runs/taken/measures?names=mds,path_length")[2]["measures"] != before["measures"]


@pytest.mark.dear
@pytest.mark.timing
def test_training_anew_in_a_stored_runs_folder_is_a_conflict(server: Server, data: Path) -> None:
    two_runs(data, "renewed")
    source = "runs:renewed/ra/checkpoints"
    assert server.wait(server.submit(source, name="renewed")["id"])["state"] == "succeeded"
    for step in (10, 20):
        there = data / "renewed" / "ra" / "checkpoints" / f"step{step}" / "model.safetensors"
        there.write_bytes((data / "renewed" / "rb" / "checkpoints" / f"step{step}" / "model.safetensors").read_bytes())
    status, _, problem = server.ask("/v1/runs", method="POST", body={"source": source, "name": "renewed"})
    assert (status, problem["run"]) == (409, "/v1/runs/renewed")
    assert "step 10" in problem["detail"]


@pytest.mark.dear
@pytest.mark.timing
def test_a_run_cannot_be_recomputed_under_the_name_of_another(server: Server, data: Path, stored: str) -> None:
    two_runs(data, "beside")
    assert server.wait(server.submit("runs:beside/ra/checkpoints", name="beside")["id"])["state"] == "succeeded"
    status, _, problem = server.ask(f"/v1/runs/{stored}/recompute", method="POST", body={"name": "beside"})
    assert (status, problem["run"]) == (409, "/v1/runs/beside")
