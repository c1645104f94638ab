"""The training of ``trajsvc demo``: it learns, twice the same, and its checkpoints are what they are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from trajsvc.experiments import demonstration


@pytest.mark.slow
def test_the_demonstration_learns_and_is_the_same_each_time(in_memory: Path) -> None:
    losses = {}
    first = demonstration.train(in_memory / "first", lambda step, loss: losses.update({step: loss}))
    second = demonstration.train(in_memory / "second")
    assert tuple(losses) == demonstration.SAVED
    assert losses[0] > 3.0
    assert losses[demonstration.STEPS] < 1.0
    steps = sorted(int(path.name.removeprefix("step")) for path in first.iterdir() if path.is_dir())
    assert steps == list(demonstration.SAVED)
    last = f"step{demonstration.STEPS}/model.safetensors"
    here, there = load_file(first / last), load_file(second / last)
    assert "model.layers.1.self_attn.q_proj.weight" in here
    assert all((here[name] == there[name]).all() for name in here)
    log = [json.loads(line) for line in (first / "train_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == list(demonstration.SAVED)
    stamp = (first / last).stat().st_mtime_ns
    assert demonstration.train(first) == first
    assert (first / last).stat().st_mtime_ns == stamp
