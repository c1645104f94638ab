"""``trajsvc gradients compute`` on checkpoints of a small network, with a probe of one's own: against autograd, again, killed, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_probe import PROBE
from typer.testing import CliRunner, Result

import trajsvc
from trajsvc.cli.main import make_app

STEPS = (0, 10, 20, 30)
EXAMPLES = 6


def network(step: int) -> torch.nn.Sequential:
    torch.manual_seed(step)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``small`` in its store, the probe and the data."""
    made = tmp_path_factory.mktemp("gradients")
    for step in STEPS:
        (made / "small" / f"step{step}").mkdir(parents=True)
        save_file(network(step).state_dict(), made / "small" / f"step{step}" / "model.safetensors")
    rng = np.random.default_rng(0)
    np.savez(made / "data.npz", x=rng.normal(size=(EXAMPLES, 5)), y=rng.integers(3, size=EXAMPLES))
    (made / "small_probe_of_test.py").write_text(PROBE)
    trajsvc.analyze(made / "small", store=made / "store")
    return made


def words(folder: Path, store: Path, *more: str) -> list[str]:
    given = ["--probe", "small_probe_of_test:Small", "--data", str(folder / "data.npz"), "--examples", str(EXAMPLES)]
    return ["gradients", "compute", "small", "--store", str(store), *given, "--batch", "2", *more]


def trajsvc_(*arguments: str) -> Result:
    return CliRunner(env={"NO_COLOR": "1"}).invoke(make_app(), list(arguments), prog_name="trajsvc")


def gradients(folder: Path, step: int, layer: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(examples, parameters of the layer), by one backward pass an example."""
    module = network(step).double()
    rows = []
    with np.load(folder / "data.npz") as file:
        for x, y in zip(file["x"], file["y"], strict=True):
            module.zero_grad()
            torch.nn.functional.cross_entropy(module(torch.as_tensor(x)), torch.as_tensor(y)).backward()
            rows.append(np.concatenate([p.grad.numpy().ravel() for p in module[layer].parameters()]))
    return np.array(rows)


def test_what_is_computed_is_answered_and_not_computed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    store = folder / "store"
    first = trajsvc_(*words(folder, store, "--sets", "example,batch", "--steps", "first:2", "--format", "json"))
    assert first.exit_code == 0, first.stderr
    found = json.loads(first.stdout)
    assert [row["computed"] for row in found["sets"]] == [[0, 10], [0, 10]]
    again = trajsvc_(*words(folder, store, "--sets", "example,batch", "--format", "json"))
    assert [(row["computed"], row["there"]) for row in json.loads(again.stdout)["sets"]] == 2 * [([20, 30], [0, 10])]
    run = trajsvc.open(store, "small")
    example, batch = run.gradients("example"), run.gradients("batch")
    assert example.steps.tolist() == list(STEPS)
    for step in STEPS:
        for layer in (0, 2):
            g = gradients(folder, step, layer)
            value = example.coherence(f"layer/{layer}", [step]).item()
            assert value == pytest.approx((g @ g.mean(axis=0)).sum() / (g**2).sum(), rel=1e-9)
            means = g.reshape(-1, 2, g.shape[1]).mean(axis=1)
            ratio = (means**2).sum(axis=1).mean() / (g**2).sum(axis=1).mean()
            assert batch.gain_ratio(f"layer/{layer}", [step]).item() == pytest.approx(ratio, rel=1e-9)
    assert b"data.npz" not in b"".join(
        path.read_bytes() for path in (store / "runs" / "small.zarr" / "gradients").rglob("*") if path.is_file()
    )


def test_a_set_of_other_options_is_refused_until_it_is_to_replace(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    store = tmp_path / "store"
    trajsvc.analyze(folder / "small", store=store)
    assert trajsvc_(*words(folder, store, "--sets", "example", "--steps", "0")).exit_code == 0
    other = words(folder, store, "--sets", "example", "--steps", "0", "--precision", "float32")
    refused = trajsvc_(*other)
    assert refused.exit_code == 4
    assert "precision float64, not float32" in refused.stderr
    assert "--replace" in refused.stderr
    assert "--as NAME" in refused.stderr
    beside = trajsvc_(*other, "--as", "single")
    assert beside.exit_code == 0, beside.stderr
    run = trajsvc.open(store, "small")
    assert {"example", "single"} <= set(run.gradient_sets())
    assert run.gradients("single").options["precision"] == "float32"
    replaced = trajsvc_(*other, "--replace")
    assert replaced.exit_code == 0, replaced.stderr
    assert trajsvc.open(store, "small").gradients("example").options["precision"] == "float32"


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
def test_a_killed_computation_goes_on_at_the_next_checkpoint(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    trajsvc.analyze(folder / "small", store=store)
    line = [sys.executable, "-m", "trajsvc", *words(folder, store, "--sets", "example")]
    path = os.pathsep.join([str(Path(trajsvc.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "SLOWLY": "0.2", "NO_COLOR": "1"}
    killed = subprocess.Popen(line, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert killed.stderr is not None
    with killed.stderr:
        for said in killed.stderr:
            if b"2 of 4" in said:
                killed.send_signal(signal.SIGKILL)
                break
    assert killed.wait() == -signal.SIGKILL
    there = trajsvc.open(store, "small").gradients("example").steps.tolist()
    assert there in ([0, 10], [0, 10, 20])
    done = subprocess.run(
        [*line, "--format", "json"], cwd=folder, env={**environment, "SLOWLY": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)["sets"][0]
    assert (row["there"], row["computed"]) == (there, [step for step in STEPS if step not in there])
    example = trajsvc.open(store, "small").gradients("example")
    assert example.stored.damaged() == []  # type: ignore[attr-defined]
    for step in STEPS:
        g = gradients(folder, step, 0)
        expected = (g**2).sum() / (g.sum(axis=0) ** 2).sum()
        assert example.diversity("layer/0", [step]).item() == pytest.approx(expected, rel=1e-9)


def test_a_probe_and_data_are_asked_for() -> None:
    result = trajsvc_("gradients", "compute", "small")
    assert result.exit_code == 2
    assert "--probe" in result.stderr
