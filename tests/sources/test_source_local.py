"""Runs as they lie on disks: layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from local_checkpoints import kinds, same, shards, state, steps, values, write
from refusals import refused

from trajsvc.sources.local.source import LocalSource

# Layouts


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["step1000/model.safetensors", "step2/model.safetensors", "step10/model.safetensors"], [2, 10, 1000]),
        (["checkpoint-500/pytorch_model.bin", "checkpoint-1000/model.safetensors"], [500, 1000]),
        (["step-5/model.pt", "step-6/weights.pth"], [5, 6]),
        (["global_step10/model.pt", "global_step9/model.pt"], [9, 10]),
        (["iter_0000500/model.pt", "iter_0001000/model.pt"], [500, 1000]),
        (["500/model.safetensors", "1000/model.safetensors"], [500, 1000]),
        (["epoch_000.pt", "epoch_001.pt", "epoch_010.pt"], [0, 1, 10]),
        (["model_step_9.safetensors", "model_step_10.safetensors"], [9, 10]),
        (["epoch=0-step=100.ckpt", "epoch=1-step=200.ckpt"], [100, 200]),
        (["ckpt_000/model.safetensors", "ckpt_001/model.safetensors"], [0, 1]),
        (["stage1-step100-tokens1B/model.safetensors", "stage2-step200-tokens2B/model.safetensors"], [100, 200]),
        (["checkpoint-1.pth.tar", "checkpoint-2.pth.tar"], [1, 2]),
        (["step1/model.safetensors", "step2/pytorch_model.bin", "step3.pt"], [1, 2, 3]),
        (["checkpoints/step1/model.pt", "checkpoints/step2/model.pt", "config.json"], [1, 2]),
    ],
)
def test_layouts(names: list[str], expected: list[int], tmp_path: Path) -> None:
    for seed, name in enumerate(names):
        write(tmp_path / name, state(seed)) if not name.endswith("json") else (tmp_path / name).write_text("{}")
    source = LocalSource(tmp_path)
    assert steps(source) == expected
    for number in range(len(expected)):
        assert set(values(source, number)) == set(state())
    assert all(source.unchanged(c) for c in source.checkpoints())


def test_each_checkpoint_is_its_own_file(tmp_path: Path) -> None:
    for step in (3, 20, 100):
        write(tmp_path / f"step{step}" / ("model.safetensors" if step != 20 else "pytorch_model.bin"), state(step))
    source = LocalSource(tmp_path)
    for number, step in enumerate((3, 20, 100)):
        same(values(source, number), state(step))
        assert source.checkpoints()[number].label == f"step{step}"


def test_what_a_name_says_besides_its_step_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "stage1-step100-tokens3B" / "model.safetensors")
    assert LocalSource(tmp_path).checkpoints()[0].extra == {"stage": 1, "tokens": 3 * 10**9}


def test_a_hugging_face_run(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPTNeoXConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    for step, size in ((500, "5GB"), (1000, "30KB")):
        torch.manual_seed(step)
        model = transformers.GPTNeoXForCausalLM(config)
        folder = tmp_path / f"checkpoint-{step}"
        model.save_pretrained(folder, max_shard_size=size)
        for other in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            torch.save({"state": torch.ones(2)}, folder / other)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        source = LocalSource(tmp_path)
        expected = {n: v for n, v in model.state_dict().items() if n != "lm_head.weight"}
        found = values(source, len(steps(source)) - 1)
        embedding = {"embed_out.weight", "lm_head.weight"} & set(found)
        assert len(embedding) == 1
        assert torch.equal(found.pop(embedding.pop()), model.state_dict()["lm_head.weight"])
        expected.pop("embed_out.weight", None)
        same(found, expected)
    source = LocalSource(tmp_path)
    assert [c.format for c in source.checkpoints()] == ["safetensors", "safetensors-sharded"]
    assert len(source.checkpoints()[1].files) > 2
    found_config = source.tensors(source.checkpoints()[1]).config
    assert found_config is not None
    assert found_config["num_attention_heads"] == 4


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_with_an_index(suffix: str, tmp_path: Path) -> None:
    parts = [{"a": torch.randn(3)}, {"b": torch.randn(2, 2), "c": torch.randn(1)}]
    shards(tmp_path / "step5", parts, suffix=suffix)
    source = LocalSource(tmp_path)
    same(values(source), parts[0] | parts[1])
    assert source.checkpoints()[0].format == (
        "safetensors-sharded" if suffix == ".safetensors" else "torch-zip-sharded"
    )
    assert kinds(source) == []


def test_shards_without_an_index(tmp_path: Path) -> None:
    parts = [{"a": torch.randn(3)}, {"b": torch.randn(2)}]
    (shards(tmp_path / "step5", parts) / "model.safetensors.index.json").unlink()
    same(values(LocalSource(tmp_path)), parts[0] | parts[1])
    (tmp_path / "step5" / "model-00001-of-00002.safetensors").unlink()
    source = LocalSource(tmp_path)
    refused(lambda: source.tensors(source.checkpoints()[0]), "missing-shard", file="model-00001-of-00002.safetensors")


def test_a_lightning_run(tmp_path: Path) -> None:
    for step in (100, 200):
        content = {
            "state_dict": {f"model.{n}": v for n, v in state(step).items()}, "global_step": step, "epoch": step // 100,
            "pytorch-lightning_version": "2.4.0", "optimizer_states": [{"state": {0: torch.ones(2)}}],
        }  # fmt: skip
        torch.save(content, tmp_path / f"epoch={step // 100}-step={step}.ckpt")
    torch.save(content, tmp_path / "last.ckpt")
    source = LocalSource(tmp_path)
    assert steps(source) == [100, 200]
    same(values(source, 1), state(200))
    assert kinds(source) == ["ignored-file"]
    assert "last.ckpt" in source.findings()[0].message
    torch.save(content | {"global_step": 300}, tmp_path / "last.ckpt")
    source.refresh()
    assert steps(source) == [100, 200, 300]


def test_files_that_only_their_keys_number(tmp_path: Path) -> None:
    for step, name in ((30, "early.pt"), (4, "first.pt"), (500, "best.pt")):
        torch.save({"model": state(step), "iter_num": step}, tmp_path / name)
    source = LocalSource(tmp_path)
    assert [(c.step, c.label) for c in source.checkpoints()] == [(4, "first"), (30, "early"), (500, "best")]
    same(values(source, 2), state(500))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "weights.pt"])
def test_a_folder_that_is_one_checkpoint(name: str, tmp_path: Path) -> None:
    write(tmp_path / "step70" / name)
    write(tmp_path / "mine" / name)
    assert steps(LocalSource(tmp_path / "step70")) == [70]
    assert steps(LocalSource(tmp_path / "mine")) == [0]
    assert LocalSource(tmp_path / "mine").name == "mine"
    assert steps(LocalSource(tmp_path / "mine" / name)) == [0]
    assert steps(LocalSource(tmp_path / "step70" / name)) == [70]
    same(values(LocalSource(tmp_path / "mine" / name)), state())


def test_patterns(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        write(tmp_path / "run" / f"step{step}" / "model.safetensors", state(step))
        write(tmp_path / "run" / f"step{step}" / "ema.safetensors", state(step + 1))
    source = LocalSource(tmp_path / "run" / "step*" / "ema.safetensors")
    assert steps(source) == [1, 2, 30]
    same(values(source, 2), state(31))
    assert source.name == "run"
    assert steps(LocalSource(tmp_path / "run" / "step[12]")) == [1, 2]
    assert steps(LocalSource(tmp_path / "**" / "model.safetensors")) == [1, 2, 30]
    refused(lambda: LocalSource(tmp_path / "run" / "stop*").checkpoints(), "no-checkpoints", file="stop*")


def test_a_folder_whose_name_has_a_star(tmp_path: Path) -> None:
    write(tmp_path / "run [a]*" / "step1" / "model.safetensors")
    assert steps(LocalSource(tmp_path / "run [a]*")) == [1]


def test_the_config_beside_the_weights_or_in_the_run(tmp_path: Path) -> None:
    write(tmp_path / "step1" / "model.safetensors")
    write(tmp_path / "step2" / "model.safetensors")
    (tmp_path / "config.json").write_text('{"n": 1}')
    (tmp_path / "step2" / "config.json").write_text('{"n": 2}')
    source = LocalSource(tmp_path)
    assert [source.tensors(c).config for c in source.checkpoints()] == [{"n": 1}, {"n": 2}]
    (tmp_path / "step2" / "config.json").write_text("{")
    assert kinds(source, 1) == ["bad-config"]


def test_safetensors_are_taken_before_torch_files(tmp_path: Path) -> None:
    write(tmp_path / "step1" / "model.safetensors", state(1))
    write(tmp_path / "step1" / "pytorch_model.bin", state(2))
    source = LocalSource(tmp_path)
    same(values(source), state(1))
    assert "pytorch_model.bin" in source.findings()[0].message


def test_the_wrappers_prefixes_are_gone(tmp_path: Path) -> None:
    write(tmp_path / "step1.pt", {f"module._orig_mod.{n}": v for n, v in state().items()})
    same(values(LocalSource(tmp_path)), state())


def test_the_final_model_beside_the_checkpoints_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-5" / "model.safetensors")
    write(tmp_path / "model.safetensors")
    torch.save({}, tmp_path / "training_args.bin")
    source = LocalSource(tmp_path)
    assert steps(source) == [5]
    assert kinds(source) == ["unread-weights"]
    assert "by its path" in source.findings()[0].message


def test_optimizers_and_generators_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("step1.pt", "optimizer_step1.pt", "rng_state_1.pth", "step1_optim.pt", "opt-125m_step3.pt"):
        write(tmp_path / name)
    assert steps(LocalSource(tmp_path)) == [1, 3]


def test_listing_opens_no_numbered_file(tmp_path: Path) -> None:
    for step in range(5):
        (tmp_path / f"step{step}.pt").write_bytes(b"not a checkpoint")
    source = LocalSource(tmp_path)
    assert steps(source) == list(range(5))
    refused(lambda: source.tensors(source.checkpoints()[3]), "malformed-torch", file="step3.pt")


def test_a_gap_in_the_numbers_is_noticed(tmp_path: Path) -> None:
    for step in (0, 100, 200, 400, 500):
        write(tmp_path / f"step{step}.pt")
    source = LocalSource(tmp_path)
    assert [(f.kind, f.steps) for f in source.findings()] == [("gap", (200, 400))]
