"""A store that the version before wrote (the fused kernel, the identity of runs and the present rooms came later) opens as it did."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import in_process
import numpy as np
import pytest
from safetensors.numpy import save_file

import trajsvc
from storage_schema.runs.archive import restore_theta
from storage_schema.runs.store import RunStore, StoredRun

HERE = Path(__file__).parent / "before"
KINDS = ("plain", "copied", "archived")
ANSWERS: dict[str, Any] = json.loads((HERE / "answers.json").read_text())
"""what the version that wrote the store said of it"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with tarfile.open(HERE / "store.tar.xz") as packed:
        packed.extractall(tmp_path / "store", filter="data")
    return tmp_path / "store"


def checkpoints() -> list[dict[str, np.ndarray]]:
    """What was analysed: a small llama of two layers, six times."""
    rng = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (24, 8),
        "lm_head.weight": (24, 8),
        "model.norm.weight": (8,),
    }
    for layer in range(2):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{part}_proj.weight": (8, 8) for part in "qkvo"}
        shapes |= {f"{at}.mlp.gate_proj.weight": (16, 8), f"{at}.mlp.up_proj.weight": (16, 8)}
        shapes |= {f"{at}.mlp.down_proj.weight": (8, 16)}
        shapes |= {f"{at}.input_layernorm.weight": (8,), f"{at}.post_attention_layernorm.weight": (8,)}
    values = {name: rng.normal(size=shape) * 0.2 for name, shape in shapes.items()}
    every = []
    for _ in range(6):
        every.append({name: value.astype(np.float32) for name, value in values.items()})
        values = {name: value + rng.normal(size=value.shape) * 0.02 + 0.01 for name, value in values.items()}
    return every


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", ["network", "layer/1/attention.q"])
def test_a_stored_run_answers_as_it_did(store: Path, kind: str, group: str) -> None:
    run = trajsvc.open(store, kind)
    assert run.steps.tolist() == [0, 100, 200, 300, 400, 500]
    for name, then in ANSWERS[group].items():
        now = run.measure(name, group)
        expected = np.array(then, dtype=float)  # what is not defined was written as null
        assert np.allclose(np.asarray(now, dtype=float), expected, rtol=1e-9, atol=1e-9, equal_nan=True), name
    assert np.allclose(run.trajectory_map(), ANSWERS["map"], rtol=0, atol=1e-12)


def parameters(run: StoredRun, row: int) -> np.ndarray:
    out = np.empty(run.parameters, np.float32)
    run.read_theta(row, 0, run.parameters, out.data)
    return out


@pytest.mark.parametrize("kind", ["copied", "archived"])
def test_the_parameters_that_it_kept_are_read_bit_for_bit(store: Path, kind: str) -> None:
    if kind == "archived":
        with RunStore(store).writer(kind) as writer:
            restore_theta(writer)
    run = RunStore(store).open(kind)
    for row, values in enumerate(checkpoints()):
        read = np.sort(parameters(run, row))  # in the order of blocks
        assert np.array_equal(read, np.sort(np.concatenate([v.ravel() for v in values.values()])))


def test_it_is_listed_and_shown_from_the_command_line(store: Path) -> None:
    for words in (["ls"], ["show", "plain"], ["layers", "copied"], ["qkv", "archived"]):
        done = in_process.trajsvc(*words, "--store", str(store))
        assert done.returncode == 0, done.stderr


def test_what_the_earlier_kernel_made_is_computed_anew_when_checkpoints_are_added(store: Path, tmp_path: Path) -> None:
    for step, values in zip(range(0, 600, 100), checkpoints(), strict=True):
        folder = tmp_path / "run" / f"step{step}"
        folder.mkdir(parents=True)
        save_file(values, folder / "model.safetensors")
        config = {"model_type": "llama", "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 8}
        (folder / "config.json").write_text(json.dumps(config))
    command = ["analyze", str(tmp_path / "run"), "--store", str(store), "--name", "plain", "--no-figures"]
    refused = in_process.trajsvc(*command)
    assert refused.returncode != 0
    assert "plain" in refused.stderr
    assert trajsvc.open(store, "plain").attributes["version"] == "0.1.0"
    done = in_process.trajsvc(*command, "--replace")
    assert done.returncode == 0, done.stderr
    run = trajsvc.open(store, "plain")
    assert np.allclose(run.trajectory_map(), ANSWERS["map"], rtol=0, atol=1e-7)
    assert run.attributes["kernel"]
