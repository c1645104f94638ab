"""``trajsvc audit``: what is wrong with a published run, said before a weight is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import in_process
import numpy as np
import pytest
from hub_faults import Fault
from hub_server import HubServer
from published import faulty_pythia, pythia_like
from safetensors.numpy import save_file

import trajsvc
from storage_schema.models.audit import AuditAnswer

Hubs = Callable[..., HubServer]


def audit(source: str, *more: str, status: int) -> str:
    done = in_process.trajsvc("audit", source, *more)
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_fault_of_a_published_run_is_in_the_report(hubs: Hubs, tmp_path: Path) -> None:
    steps = (0, *(2**k for k in range(10)), *range(1000, 143001, 1000))
    run = faulty_pythia(tmp_path / "run", id="EleutherAI/pythia-70m", steps=steps, hidden=48, vocab=64)
    hub = hubs(run.repo)
    report = tmp_path / "report.json"
    audit("hf://EleutherAI/pythia-70m", "--store", str(tmp_path / "store"), "-o", str(report), status=3)
    found = AuditAnswer.model_validate_json(report.read_text("utf-8"))
    faults, rows = run.faults, {row.step: row for row in found.rows}
    assert (found.family, found.missing) == ("Pythia", tuple(faults["missing"]))
    assert {f.kind for f in found.findings} >= {
        "same-as-main", "identical", "shared-file", "missing-weights", "missing-revisions",
    }  # fmt: skip
    assert rows[faults["no_weights"]].state == "empty"
    for step in faults["same_as_main"]:
        assert 143_000 in rows[step].copies
    one, other = faults["shared"][:2]
    assert other in rows[one].copies
    assert rows[faults["stray_shard"][0]].copies == (), "a shard is shared, not the checkpoint"
    assert found.wrong == sum(f.severity != "info" for f in found.findings) > 0
    read = sum(p["bytes"] for path, p in hub.stats()["paths"].items() if path.startswith("/_cdn"))
    assert read < 0.5 * sum(row.bytes for row in found.rows), "weights were read"


def test_nothing_wrong_is_said_so(hubs: Hubs, tmp_path: Path) -> None:
    hubs(pythia_like(tmp_path / "run", id="local/clean").repo)
    text = audit("hf://local/clean", "--store", str(tmp_path / "store"), status=0)
    assert "nothing is wrong" in text
    answer = trajsvc.audit("hf://local/clean", store=tmp_path / "store")
    assert (answer.wrong, {row.state for row in answer.rows}) == (0, {"whole"})


def test_types_and_names_that_change_are_named_with_their_steps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for step in range(0, 60, 10):
        folder = tmp_path / "run" / f"step{step}"
        folder.mkdir(parents=True)
        dtype = np.float16 if step >= 40 else np.float32
        state = {f"layers.{i}.weight": rng.normal(size=(8, 8)).astype(dtype) for i in range(3)}
        if step == 20:
            state["layers.2.extra"] = rng.normal(size=(4, 4)).astype(dtype)
        save_file(state, folder / "model.safetensors")
    (tmp_path / "run" / "step30" / "model.safetensors").write_bytes(b"not a header")
    text = audit(str(tmp_path / "run"), "--format", "json", status=3)
    found = AuditAnswer.model_validate(json.loads(text))
    states = {row.step: row.state for row in found.rows}
    assert (states[20], states[30], states[0]) == ("left out", "unreadable", "whole")
    assert {row.dtype for row in found.rows if row.state == "whole"} == {"float32", "float16"}
    assert any(f.kind == "type-change" and set(f.steps) & {0, 10, 40, 50} for f in found.findings)
    shown = audit(str(tmp_path / "run"), status=3)
    assert "unreadable" in shown
    assert "left out" in shown


def test_an_audit_reads_no_weights_and_leaves_no_run(tmp_path: Path) -> None:
    store = tmp_path / "store"
    example = Path(__file__).parents[2] / "examples" / "pythia-nano"
    audit(str(example), "--store", str(store), status=0)
    assert not (store / "runs").exists()


def test_a_file_that_is_listed_and_answers_404_is_a_dead_link(hubs: Hubs, tmp_path: Path) -> None:
    """The listing names the file and its digest; asked for its bytes the Hub has none. The other checkpoints are whole."""
    run = pythia_like(tmp_path / "run", id="local/dead")
    hub = hubs(run.repo)
    hub.faults.gone = Fault(True, path=f"/{run.repo.heads['step4'].id}/")
    text = audit("hf://local/dead", "--store", str(tmp_path / "store"), "--format", "json", status=3)
    found = AuditAnswer.model_validate_json(text)
    states = {row.step: row.state for row in found.rows}
    assert states.pop(4) == "unreadable"
    assert set(states.values()) == {"whole"}
    assert found.wrong
    (why,) = [row.why for row in found.rows if row.step == 4]
    assert "model.safetensors" in why
