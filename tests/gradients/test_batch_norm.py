"""Batch normalisation by the statistics of the batch: gradients of batches as autograd gives them in training mode, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
import torch
from torch import nn

import trajsvc
from trajsvc.errors import NotFound, Refused
from trajsvc.gradients.compute import compute_gradients
from trajsvc.gradients.forecast import forecast_run, refusal

STEP = 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.analysed(tiny.checkpoints(folder / "checkpoints"), folder / "store")
    tiny.data(folder / "data.npz")
    return folder


def in_training(place: Path, batches: int = 4, size: int = 2) -> np.ndarray:
    """Gradients of batches by autograd, the network in training mode."""
    network = tiny.network(STEP).train()
    with np.load(place / "data.npz") as file:
        x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
    rows = []
    for j in range(batches):
        at = slice(j * size, (j + 1) * size)
        loss = nn.functional.cross_entropy(network(x[at]), y[at])
        found = torch.autograd.grad(loss, list(network.parameters()))
        rows.append(torch.cat([g.reshape(-1) for g in found]).numpy())
    return np.stack(rows)


def test_a_set_of_batches_is_that_of_training_mode_and_says_so(place: Path) -> None:
    options = tiny.chosen(place / "data.npz", "batch", batch_norm="training", steps=str(STEP))
    compute_gradients(place / "store", tiny.RUN, options, name="trained", by_path=True)
    found = trajsvc.open(place / "store", tiny.RUN).gradients("trained")
    rows = in_training(place)
    expected = rows @ rows.T
    assert np.abs(found.gram(STEP).gram - expected).max() < 1e-12 * expected.max()
    assert found.facts(STEP)["batch_norm"] == "training"
    assert found.options["batch_norm"] == "training"


def test_it_differs_from_evaluation_mode_whose_sets_are_noted_as_before(place: Path) -> None:
    options = tiny.chosen(place / "data.npz", "example,batch", steps=str(STEP))
    compute_gradients(place / "store", tiny.RUN, options, by_path=True)
    run = trajsvc.open(place / "store", tiny.RUN)
    plain = run.gradients("batch")
    assert "batch_norm" not in plain.options
    rows = in_training(place)
    assert np.abs(plain.gram(STEP).gram - rows @ rows.T).max() > 1e-3
    assert plain.facts(STEP)["batch_norm"] == "evaluation"


def test_running_statistics_are_left_as_they_were(place: Path) -> None:
    """The sets ``path`` and ``points`` evaluate the network many times: the last gradient is of the same statistics as the first."""
    options = tiny.chosen(place / "data.npz", "path,batch", batch_norm="training", steps=str(STEP), learning_rate=1e-12)
    compute_gradients(place / "store", tiny.RUN, options, name="both", by_path=True)
    run = trajsvc.open(place / "store", tiny.RUN)
    path, batch = (run.gradients(f"both-{kind}").gram(STEP).gram for kind in ("path", "batch"))
    assert np.abs(path - batch).max() < 1e-9 * batch.max()


@pytest.mark.parametrize("kind", ["example", "full", "anchored", "weights", "inputs", "input_gradients"])
def test_sets_of_single_examples_are_refused_with_the_reason(place: Path, kind: str) -> None:
    options = tiny.chosen(place / "data.npz", kind, batch_norm="training")
    with pytest.raises(Refused, match="one depends on the others") as caught:
        compute_gradients(place / "store", tiny.RUN, options, name="no", by_path=True)
    assert caught.value.kind == "not-per-example"
    run = trajsvc.open(place / "store", tiny.RUN)
    assert "batch, path, points" in str(refusal(forecast_run(run, options)[0], options))


def test_a_batch_of_one_is_refused(place: Path) -> None:
    options = tiny.chosen(place / "data.npz", "batch", batch_norm="training", batch=1)
    with pytest.raises(Refused, match="no statistics"):
        compute_gradients(place / "store", tiny.RUN, options, name="no", by_path=True)


def test_examples_in_evaluation_mode_stand_beside_no_batches_of_training_mode(place: Path) -> None:
    compute_gradients(place / "store", tiny.RUN, tiny.chosen(place / "data.npz", "example"), by_path=True)
    options = tiny.chosen(place / "data.npz", "batch", batch_norm="training")
    compute_gradients(place / "store", tiny.RUN, options, name="trained", by_path=True)
    with pytest.raises(NotFound, match="needs the set example"):
        trajsvc.open(place / "store", tiny.RUN).gradients("trained").gain_ratio()
