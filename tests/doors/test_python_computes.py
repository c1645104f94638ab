"""Spectra and gradients computed from Python: what their commands compute, of runs, names and sources."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_probe import PROBE

import trajsvc
from trajsvc.cli.spectrum_options import SPECTRA
from trajsvc.spectra.compute_run import compute_spectra

STEPS = (0, 10, 20)


def network(step: int) -> torch.nn.Sequential:
    torch.manual_seed(step)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for step in STEPS:
        (tmp_path / "small" / f"step{step}").mkdir(parents=True)
        save_file(network(step).state_dict(), tmp_path / "small" / f"step{step}" / "model.safetensors")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(6, 5)), y=rng.integers(3, size=6))
    (tmp_path / "python_probe_of_test.py").write_text(PROBE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAJSVC_STORE", str(tmp_path / "store"))
    return tmp_path


def test_spectra_of_a_source_a_name_and_a_run(place: Path) -> None:
    run = trajsvc.compute_spectra(place / "small", of="weights", steps=[0, 10])
    found = run.spectra("weights")
    for step in STEPS[:2]:
        sigma = np.linalg.svd(network(step)[0].weight.detach().double().numpy(), compute_uv=False)
        np.testing.assert_allclose(found.singular_values("0.weight", steps=[step]).values[0], sigma, rtol=1e-12)
    assert list(
        trajsvc.compute_spectra("small", of="weights").spectra("weights").measure("sigma_1", "0.weight").step
    ) == [*STEPS]
    more = trajsvc.compute_spectra(run, of=["updates"], groups=["layer/0"], budget="1MiB")
    assert list(more.spectra("updates").measure("sigma_1", "0.weight").step) == [10, 20]


def test_gradients_of_a_run_and_what_is_stored_with_other_options(place: Path) -> None:
    run = trajsvc.analyze(place / "small")
    asked = {"probe": "python_probe_of_test:Small", "data": "data.npz", "examples": 6, "sets": "example"}
    found = trajsvc.compute_gradients(run, **asked, steps="first:1").gradients("example")
    module, (x, y) = network(0).double(), np.load(place / "data.npz").values()
    torch.nn.functional.cross_entropy(module(torch.as_tensor(x)), torch.as_tensor(y)).backward()
    square = sum(float((p.grad**2).sum()) for p in module.parameters() if p.grad is not None)
    assert found.n == 6
    assert float(found.mean_norm(steps=[0])[0]) == pytest.approx(square**0.5, rel=1e-9)
    with pytest.raises(trajsvc.Refused) as caught:
        trajsvc.compute_gradients(run, **{**asked, "examples": 5}, steps="first:1")
    assert caught.value.kind == "gradients-exist"
    again = trajsvc.compute_gradients("small", **{**asked, "examples": 5}, steps="first:1", replace=True)
    assert again.gradients("example").n == 5


def test_what_is_wrong_with_an_option_is_said_by_its_name(place: Path) -> None:
    with pytest.raises(trajsvc.UsageError, match="of cannot be"):
        trajsvc.compute_spectra("small", of="weight")
    with pytest.raises(trajsvc.UsageError, match="colour cannot be"):
        trajsvc.compute_gradients("small", "causal-lm", "data.npz", colour="red")
    with pytest.raises(trajsvc.NotFound) as caught:
        trajsvc.compute_spectra("none-such")
    assert caught.value.kind == "run-not-found"


def test_python_takes_every_option_of_spectra() -> None:
    given = set(inspect.signature(compute_spectra).parameters)
    assert given - {"run", "store", "device", "replace"} == set(SPECTRA)
