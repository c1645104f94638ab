"""Averaged checkpoints: bit for bit a plain average in float64 rounded once, whole or absent, and loadable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_runs
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

import trajsvc
from trajsvc.analysis.average import AverageJob, write_average
from trajsvc.analysis.average_weights import chosen_weights, read_weights
from trajsvc.analysis.rounding import stored_bytes
from trajsvc.cli.main import make_app
from trajsvc.errors import Cancelled, NotFound, Refused, UsageError
from trajsvc.measures.averages import ema_weights
from trajsvc.results.averages import averages

BUFFER = "gpt_neox.layers.0.attention.rotary_emb.inv_freq"


def states(count: int, dtype: torch.dtype) -> list[dict[str, torch.Tensor]]:
    made = small_runs.trajectory(count, dtype=dtype, vocab=60)
    for step, state in enumerate(made):
        state[BUFFER] = torch.arange(4, dtype=torch.float32)
        state["gpt_neox.layers.0.attention.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
        state["steps_seen"] = torch.tensor(step, dtype=torch.int64)
    return made


def rounded_once(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """float64 to nearest even. For bfloat16 by comparing the two neighbours exactly."""
    if dtype != torch.bfloat16:
        return torch.from_numpy(values.astype({torch.float16: np.float16, torch.float32: np.float32}[dtype]))
    below = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).to(torch.int64)
    candidates = torch.stack([below - 1, below, below + 1]).to(torch.int16).view(torch.bfloat16)
    apart = (candidates.double() - torch.from_numpy(values)).abs()
    apart = torch.where(apart.isnan(), torch.inf, apart)
    least = apart.min(dim=0).values
    even = (candidates.view(torch.int16) & 1) == 0
    best = torch.where(apart == least, torch.where(even, 2, 1), 0).argmax(dim=0)
    return candidates.gather(0, best[None])[0]


def mean(made: list[dict[str, torch.Tensor]], name: str, weights: np.ndarray | None = None) -> np.ndarray:
    stack = [s[name].double().numpy() for s in made]
    if weights is None:
        return np.mean(stack, axis=0)
    total = weights[0] * stack[0]
    for weight, values in zip(weights[1:], stack[1:], strict=True):
        total = total + weight * values
    return total


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_bit_for_bit_a_plain_average(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    made = states(5, dtype)
    small_runs.write_run(tmp_path / "run", made, kinds=(kind,))
    run = trajsvc.analyze(tmp_path / "run", store=tmp_path / "store")
    done = trajsvc.average(run, tmp_path / "out", last=3, memory="64KiB")  # many pieces
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert set(found) == set(made[-1])
    for name in small_runs.shapes(vocab=60):
        assert found[name].dtype == dtype
        expected = rounded_once(mean(made[-3:], name), dtype)
        assert torch.equal(found[name].view(torch.uint8), expected.contiguous().view(torch.uint8)), name
    assert found["steps_seen"].item() == 4
    assert torch.equal(found[BUFFER], made[-1][BUFFER])
    assert found["gpt_neox.layers.0.attention.bias"].dtype == torch.bool
    assert set(done.kept) == {"steps_seen", BUFFER, "gpt_neox.layers.0.attention.bias"}
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == small_runs.CONFIG


def test_moving_average_and_given_weights(tmp_path: Path) -> None:
    made = states(4, torch.float32)
    small_runs.write_run(tmp_path / "run", made)
    run = trajsvc.analyze(tmp_path / "run", store=tmp_path / "store")
    trajsvc.average(run, tmp_path / "ema", ema=0.7)
    (tmp_path / "w.csv").write_text("step,weight\n0,0.25\n300,0.75\n")
    trajsvc.average(run, tmp_path / "given", weights=tmp_path / "w.csv")
    name = "embed_out.weight"
    ema = rounded_once(mean(made, name, ema_weights(4, 0.7)), torch.float32)
    assert torch.equal(load_file(tmp_path / "ema" / "model.safetensors")[name], ema)
    given = rounded_once(mean([made[0], made[3]], name, np.array([0.25, 0.75])), torch.float32)
    assert torch.equal(load_file(tmp_path / "given" / "model.safetensors")[name], given)


def test_large_checkpoints_are_sharded(tmp_path: Path) -> None:
    made = states(2, torch.float32)
    small_runs.write_run(tmp_path / "run", made)
    run = trajsvc.analyze(tmp_path / "run", store=tmp_path / "store")
    weights = chosen_weights(run.steps.tolist(), last=2)
    assert weights is not None
    job = AverageJob(run.stored, weights, tmp_path / "out", 2**20, shard=20_000)  # type: ignore[arg-type]
    done = write_average(job)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(made[0])
    assert index["metadata"]["total_size"] == done.nbytes
    assert len(set(index["weight_map"].values())) > 2
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / "out" / file, "pt") as shard:
            assert shard.get_tensor(name).shape == made[0][name].shape


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_it(tmp_path: Path, tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(0)
    models = [LlamaForCausalLM(config) for _ in range(3)]
    for step, model in enumerate(models):
        model.save_pretrained(tmp_path / "run" / f"checkpoint-{step}")
    trajsvc.average(str(tmp_path / "run"), tmp_path / "out", last=3, store=tmp_path / "store")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for name, values in loaded.state_dict().items():
        plain = np.mean([m.state_dict()[name].double().numpy() for m in models], axis=0).astype(np.float32)
        assert np.array_equal(values.numpy(), plain), name
    assert (tmp_path / "out" / "generation_config.json").is_file()


def test_a_tied_copy_is_averaged_too(tmp_path: Path) -> None:
    made = states(3, torch.float32)
    config = {**small_runs.CONFIG, "tie_word_embeddings": True}
    for step, state in enumerate(made):
        state["embed_out.weight"] = state["gpt_neox.embed_in.weight"].clone()
        folder = small_runs.write_step(tmp_path / "run", step, state).parent
        (folder / "config.json").write_text(json.dumps(config))
    trajsvc.average(str(tmp_path / "run"), tmp_path / "out", last=2, store=tmp_path / "store")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["embed_out.weight"], found["gpt_neox.embed_in.weight"])
    assert not torch.equal(found["embed_out.weight"], made[-1]["embed_out.weight"])


def test_checkpoints_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    made = states(4, torch.float32)
    made[2]["embed_out.weight"][0, 0] = float("nan")
    small_runs.write_run(tmp_path / "run", made)
    done = trajsvc.average(str(tmp_path / "run"), tmp_path / "out", last=2, store=tmp_path / "store")
    assert done.weights.steps == (100, 300)
    with pytest.raises(NotFound, match="no checkpoint of step 200"):
        trajsvc.average("run", tmp_path / "other", weights={200: 1.0}, store=tmp_path / "store")


def test_nothing_is_replaced_and_nothing_is_left_half_done(tmp_path: Path) -> None:
    small_runs.write_run(tmp_path / "run", states(3, torch.float32))
    run = trajsvc.analyze(tmp_path / "run", store=tmp_path / "store")
    (tmp_path / "out").mkdir()
    with pytest.raises(Refused, match="exists") as refused:
        trajsvc.average(run, tmp_path / "out", last=2)
    assert refused.value.kind == "output-exists"
    with pytest.raises(Cancelled):
        trajsvc.average(run, tmp_path / "stopped", last=2, stop=lambda: True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "run", "store"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"last": 9}, "between 1 and 3"), ({"ema": 1.0}, "below 1"), ({"last": 2, "ema": 0.5}, "one choice"), ({}, "needs weights"),
        ({"weights": {0: 0.5, 100: 0.4}}, "sum to 0.9"),
    ],
)  # fmt: skip
def test_weights_that_are_none(tmp_path: Path, choice: dict[str, Any], words: str) -> None:
    small_runs.write_run(tmp_path / "run", small_runs.trajectory(3, vocab=10))
    with pytest.raises(UsageError, match=words):
        trajsvc.average(str(tmp_path / "run"), tmp_path / "out", store=tmp_path / "store", **choice)


@pytest.mark.parametrize("text", ["", "{}", "step,weight\n", "0,0.5\n0,0.5\n", "[1]", '{"a": 1}', "0,nan\n"])
def test_files_that_hold_no_weights(tmp_path: Path, text: str) -> None:
    (tmp_path / "w").write_text(text)
    with pytest.raises(UsageError):
        read_weights(tmp_path / "w")


def test_rounding_to_bfloat16_is_rounding_once() -> None:
    """Just above and below ties of bfloat16, by less than float32 holds, at the ends of the range, and special values."""
    tie = 1.0 + 2.0**-8
    values = np.array(
        [tie, tie + 2.0**-40, tie - 2.0**-40, 3.4e38, 3.39e38, 1e39, -1e39, 1e-41, 0.0, -0.0, np.inf, -np.inf]
    )
    values = np.concatenate(
        [values, np.random.default_rng(0).standard_normal(2000) * 2.0 ** np.arange(-100, 100).repeat(10)]
    )
    found = torch.frombuffer(bytearray(stored_bytes(values, "bfloat16")), dtype=torch.bfloat16)
    inside = np.abs(values) < 3.38e38
    assert torch.equal(found[torch.from_numpy(inside)], rounded_once(values[inside], torch.bfloat16))
    assert found[:3].tolist() == [1.0, 1.0 + 2.0**-7, 1.0]
    assert found[3].item() == torch.finfo(torch.bfloat16).max or found[3].isinf()
    assert found[5:7].tolist() == [np.inf, -np.inf]
    assert torch.frombuffer(bytearray(stored_bytes(np.array([np.nan]), "bfloat16")), dtype=torch.bfloat16).isnan().all()


def test_the_command(tmp_path: Path) -> None:
    small_runs.write_run(tmp_path / "run", states(6, torch.float16))
    trajsvc.analyze(tmp_path / "run", store=tmp_path / "store")

    def command(*given: str) -> Any:
        return CliRunner().invoke(make_app("average"), ["average", "run", "--store", str(tmp_path / "store"), *given])

    said = json.loads(command("--format", "json", "--ema", "0.7").stdout)
    rows = {row["weights"]: row for row in said["averages"]}
    assert rows["last 1"]["distance"] == 0.0
    assert rows["given"]["from_step"] == 0
    run = trajsvc.open(tmp_path / "store", "run")
    assert rows["last 3"]["distance"] == pytest.approx(float(run.average_distance()[-3]), rel=1e-12)
    assert averages(run).averages[0].norm == pytest.approx(float(run.norm()[-1]), rel=1e-12)
    assert "variance" in command().stdout
    for suffix in ("png", "pdf", "csv", "json"):
        assert command("-o", str(tmp_path / f"x.{suffix}")).exit_code == 0
    assert command("--last", "2", "-o", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert command("--last", "2", "-o", str(tmp_path / "out")).exit_code == 4
