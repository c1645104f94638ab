"""The commands that speak to a server: submit, jobs, wait, show, cancel, batch, compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from service_process import Server, environment, make_run
from typer.testing import CliRunner, Result

from trajsvc.cli.main import make_app


def trajsvc(server: Server | None, *words: str, **settings: str) -> Result:
    """One command, in this process; the server is named in the environment where it can be."""
    given = environment(**settings) if server is None else environment(TRAJSVC_SERVER=server.address, **settings)
    nothing_else: dict[str, str | None] = dict.fromkeys(os.environ)
    return CliRunner(env={**nothing_else, **given}).invoke(make_app(), words, prog_name="trajsvc")


@pytest.mark.dear
@pytest.mark.timing
def test_a_submission_is_followed_to_its_end(server: Server) -> None:
    words = ["submit", "runs:pythia-nano", "--name", "by-command", "--wait", "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "trajsvc", *words], env=environment(TRAJSVC_SERVER=server.address), capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["state"], job["run"]) == ("succeeded", "by-command")
    again = trajsvc(server, "submit", "runs:pythia-nano", "--name", "by-command")
    assert job["id"] in again.stdout
    listed = trajsvc(server, "jobs", "--run", "by-command", "--format", "json")
    assert [j["id"] for j in json.loads(listed.stdout)] == [job["id"]]
    assert "succeeded" in trajsvc(server, "jobs").stdout


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_failure_is_said_with_its_cause_and_exit_code(server: Server) -> None:
    done = trajsvc(server, "submit", "runs:damaged", "--wait")
    assert done.exit_code == 1
    assert "model.safetensors" in done.stderr
    job = json.loads(trajsvc(server, "jobs", "--run", "damaged", "--format", "json").stdout)[0]
    assert trajsvc(server, "wait", job["id"]).exit_code == 1
    again = trajsvc(server, "retry", job["id"], "--format", "json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["id"] != job["id"]
    assert trajsvc(server, "wait", json.loads(again.stdout)["id"]).exit_code == 1, "it is as damaged as before"
    refused = trajsvc(server, "submit", "runs:nothing")
    assert refused.exit_code == 4
    assert "runs:nothing" in refused.stderr


def test_a_run_of_the_server_is_shown_as_one_of_a_store(server: Server, stored: str) -> None:
    there = trajsvc(None, "show", stored, "--server", server.address)
    here = trajsvc(None, "show", stored, "--store", str(server.store))
    assert there.exit_code == 0, there.stderr
    assert there.stdout == here.stdout
    numbers = trajsvc(None, "measures", f"{server.address}/{stored}", "--names", "mds", "--format", "json")
    assert json.loads(numbers.stdout)["measures"]["mds"] > 0


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_job_is_cancelled_by_its_id(server: Server, data: Path) -> None:
    make_run(data / "slow", steps=20, tensors=12, size=2**18)
    job = server.submit("runs:slow", memory=2**26)
    done = trajsvc(server, "cancel", job["id"], "--format", "json")
    assert done.exit_code == 0, done.stderr
    assert server.wait(job["id"])["state"] in ("cancelled", "succeeded")


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_family_is_submitted_as_a_whole_and_compared(server: Server, tmp_path: Path) -> None:
    family = tmp_path / "family.toml"
    family.write_text(
        'name = "pair"\n[[runs]]\nname = "all"\nsource = "runs:pythia-nano"\nseed = 0\n'
        '[[runs]]\nname = "some"\nsource = "hf://local/pythia-nano"\nsteps = "every:2"\nseed = 1\n'
        '[[runs]]\nname = "none"\nsource = "runs:nothing"\n'
    )
    done = trajsvc(server, "batch", str(family), "--server", server.address, "--format", "json")
    assert done.exit_code == 3, done.stderr
    rows = {r["member"]: r for r in json.loads(done.stdout)["members"]}
    assert [rows[n]["state"] for n in ("all", "some", "none")] == ["done", "done", "failed"]
    assert rows["none"]["kind"] == "source-not-found"
    again = trajsvc(server, "batch", str(family), "--server", server.address, "--only", "all,some", "--format", "json")
    assert again.exit_code == 0
    assert [r["state"] for r in json.loads(again.stdout)["members"]] == ["unchanged", "unchanged"]
    compared = trajsvc(None, "compare", "--family", "pair", "--server", server.address, "--format", "json")
    found = json.loads(compared.stdout)
    assert found == server.ask("/v1/families/pair/compare")[2]
    assert {r["member"]: r["state"] for r in found["rows"]} == {"all": "present", "some": "present", "none": "missing"}
    assert server.ask("/v1/families/pair/compare?f=png&show=maps", raw=True)[2].startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_spectra_and_gradients_of_a_family_are_jobs_of_the_server(server: Server, tmp_path: Path) -> None:
    family = tmp_path / "family.toml"
    family.write_text(
        'name = "beside"\n[defaults]\nsteps = "first:3"\n'
        '[spectra]\nof = ["weights"]\ngroups = ["layer/0"]\nsteps = [0, 1]\n'
        '[gradients]\nprobe = "nano"\ndata = "text"\nexamples = 4\nbatch = 2\nlength = 16\nsets = ["batch"]\nsteps = "0"\n'
        '[[runs]]\nname = "beside-both"\nsource = "runs:pythia-nano"\n'
        '[[runs]]\nname = "beside-one"\nsource = "hf://local/pythia-nano"\ngradients = false\n'
        '[[runs]]\nname = "beside-none"\nsource = "runs:pythia-nano"\nspectra = false\ngradients = {data = "nowhere"}\n'
    )
    words = ["batch", str(family), "--server", server.address, "--memory", "128MiB", "--format", "json"]
    done = trajsvc(server, *words)
    assert done.exit_code == 3, done.stderr
    rows = {r["member"]: r for r in json.loads(done.stdout)["members"]}
    counts = {n: (r["spectra"], r["spectra_new"], r["gradients"], r["gradients_new"]) for n, r in rows.items()}
    assert counts == {
        "beside-both": (2, 2, 1, 1), "beside-one": (2, 2, None, None), "beside-none": (None, None, None, None),
    }  # fmt: skip
    assert [r["state"] for r in rows.values()] == ["done", "done", "failed"]
    failure = rows["beside-none"]
    assert (failure["kind"], failure["checkpoints"]) == ("data-not-registered", 3)
    assert "gradients: " in failure["error"]
    assert server.ask("/v1/runs/beside-both/gradients")[2][0]["steps"] == [0]
    assert server.ask("/v1/runs/beside-one/spectra")[2][0]["steps"] == [0, 1]
    again = {r["member"]: r for r in json.loads(trajsvc(server, *words).stdout)["members"]}
    assert [again[n]["state"] for n in ("beside-both", "beside-one")] == ["unchanged", "unchanged"]
    assert (again["beside-both"]["spectra_new"], again["beside-both"]["gradients_new"]) == (0, 0)
    kept = server.ask("/v1/families/beside")[2]
    assert kept["spectra"] == {"of": ["weights"], "groups": ["layer/0"], "steps": "0,1"}
    assert kept["runs"][1]["gradients"] is False


def test_a_server_that_is_not_there_or_not_named(tmp_path: Path) -> None:
    assert trajsvc(None, "jobs").exit_code == 2
    gone = trajsvc(None, "jobs", "--server", "http://127.0.0.1:9")
    assert gone.exit_code == 75
    assert "does not answer" in gone.stderr


@pytest.mark.parametrize(
    "command", ["serve", "api", "runner", "worker", "submit", "jobs", "wait", "cancel", "retry", "batch", "tokens"]
)
def test_every_command_has_help_worth_reading(command: str) -> None:
    done = trajsvc(None, command, "--help")
    assert done.exit_code == 0
    assert len(done.stdout) > 300


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store")]
    secret = trajsvc(None, "tokens", "create", "me", "--scope", "read", *store).stdout.strip()
    assert secret.startswith("tsv_")
    listed = trajsvc(None, "tokens", "ls", *store).stdout
    assert "me" in listed
    assert secret not in listed
    identity = next(line.split()[0] for line in listed.splitlines() if " me " in line)
    assert trajsvc(None, "tokens", "revoke", identity, *store).exit_code == 0
    assert trajsvc(None, "tokens", "revoke", "nobody", *store).exit_code == 4
