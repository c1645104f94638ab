"""Tokens as examples: every next-token cross-entropy by itself, against autograd on a small network of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import TinyProbe, chosen, data

from trajsvc.analysis.options import RunOptions
from trajsvc.errors import UsageError
from trajsvc.gradients.checkpoint import Checkpoint
from trajsvc.gradients.network import network_at
from trajsvc.gradients.options import GradientOptions
from trajsvc.gradients.probes.base import ProbeContext
from trajsvc.gradients.probes.causal_lm import CausalLM
from trajsvc.gradients.probes.resolve import made_by
from trajsvc.gradients.sets.base import SetJob
from trajsvc.gradients.sets.choose import compute_sets

LENGTH = 6
CONFIG: dict[str, Any] = {
    "model_type": "gpt2", "vocab_size": 17, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    np.save(path, np.random.default_rng(0).integers(0, 17, size=4 * LENGTH))
    return path


def job(ids: Path, *, per_token: bool, **more: Any) -> SetJob:
    options = GradientOptions(probe="causal-lm", data=str(ids), length=LENGTH, per_token=per_token, **more)
    probe = made_by(CausalLM, ProbeContext(ids, options, CONFIG))
    torch.manual_seed(0)
    made = probe.network(CONFIG)
    tensors = {name: value.detach().double().numpy() for name, value in made.named_parameters()}
    checkpoint = Checkpoint(0, CONFIG, None, tensors, {}, frozenset(tensors))
    return SetJob(network_at(probe, checkpoint, RunOptions()), probe, options)


def expected(work: SetJob, windows: np.ndarray) -> np.ndarray:
    """Gradients of every token's loss, window after window, by autograd."""
    parameters = list(work.module.parameters())
    rows = []
    for window in torch.as_tensor(windows):
        logits = work.module(input_ids=window[None], use_cache=False).logits[0]
        for at in range(LENGTH - 1):
            loss = torch.logsumexp(logits[at], 0) - logits[at, window[at + 1]]
            found = torch.autograd.grad(loss, parameters, retain_graph=True)
            rows.append(torch.cat([g.reshape(-1) for g in found]).numpy())
    return np.stack(rows)


def test_each_predicted_token_is_an_example(ids: Path) -> None:
    work = job(ids, per_token=True, examples=10, batch=5, sets=("example", "batch"))
    found = compute_sets(work, ["example", "batch"])
    rows = expected(work, np.load(ids).reshape(-1, LENGTH)[:2])
    gram = rows @ rows.T
    assert np.abs(found["example"].gram.sum(axis=0) - gram).max() < 1e-7 * gram.max()
    means = rows.reshape(2, 5, -1).mean(axis=1)
    assert np.abs(found["batch"].gram.sum(axis=0) - means @ means.T).max() < 1e-7 * gram.max()
    assert (found["example"].facts["losses_per_example"], found["batch"].facts["losses_per_batch"]) == (1, 5)


def test_the_mean_over_a_window_is_the_window_s_gradient(ids: Path) -> None:
    tokens = job(ids, per_token=True, examples=LENGTH - 1, batch=LENGTH - 1, sets=("batch",))
    window = job(ids, per_token=False, examples=1, batch=1, sets=("batch",))
    one, other = (compute_sets(work, ["batch"])["batch"] for work in (tokens, window))
    assert np.abs(one.gram - other.gram).max() < 1e-9 * one.gram.max()
    assert other.facts["losses_per_batch"] == one.facts["losses_per_batch"] == LENGTH - 1


def test_the_inputs_of_a_token_s_loss_are_those_of_its_window(ids: Path) -> None:
    work = job(ids, per_token=True, examples=3, sets=("input_gradients",))
    found = compute_sets(work, ["input_gradients"])["input_gradients"]
    assert found.blocks[0].size == LENGTH * 8
    assert (np.diagonal(found.gram[0]) > 0.0).all()


def test_a_probe_without_tokens_refuses(tmp_path: Path) -> None:
    path = data(tmp_path / "data.npz")
    with pytest.raises(UsageError, match="has no tokens"):
        made_by(TinyProbe, ProbeContext(path, chosen(path, per_token=True)))
