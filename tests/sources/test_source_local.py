"""Runs as they lie on disks: layouts, broken trajectories, links, and files that change."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused
from safetensors.torch import save_file

from storage_schema.format.arrays import FLOAT_TYPES
from trajsvc.errors import NotFound, TryAgain, UnsupportedFormat, UsageError
from trajsvc.sources.files import failed
from trajsvc.sources.local.source import LocalSource, settled
from trajsvc.sources.resolve import open_source
from trajsvc.trajectory.elements import read_elements

State = dict[str, torch.Tensor]


def state(seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(6, 4, generator=generator), "a.bias": torch.randn(4, generator=generator)}


def write(path: Path, tensors: State | None = None) -> Path:
    """A checkpoint in one file; the suffix says which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = state() if tensors is None else tensors
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def shards(
    folder: Path, parts: list[State], *, suffix: str = ".safetensors", index: dict[str, str] | None = None
) -> Path:
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = [f"{stem}-{i + 1:05d}-of-{len(parts):05d}{suffix}" for i in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        write(folder / name, part)
    weight_map = {n: name for name, part in zip(names, parts, strict=True) for n in part} if index is None else index
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def steps(source: LocalSource) -> list[int]:
    return [c.step for c in source.checkpoints()]


def values(source: LocalSource, number: int = 0) -> State:
    found = {}
    for name, entry in source.tensors(source.checkpoints()[number]).tensors.items():
        if entry.dtype in FLOAT_TYPES:
            dtype = getattr(torch, entry.dtype)
            out = np.empty(entry.size * dtype.itemsize, np.uint8)
            read_elements(source, entry, 0, entry.size, memoryview(out))
            found[name] = torch.from_numpy(out).view(dtype).reshape(entry.shape)
    return found


def same(found: State, expected: State) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)


def kinds(source: LocalSource, number: int = 0) -> list[str]:
    return [f.kind for f in (*source.findings(), *source.tensors(source.checkpoints()[number]).findings)]


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
    assert "--step-pattern" in source.findings()[0].message


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


# Recognised and refused


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["latest", "global_step10/zero_pp_rank_0_mp_rank_00_optim_states.pt", "global_step10/mp_rank_00_model_states.pt"], "deepspeed"),
        (["global_step10/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"], "deepspeed"),
        (["latest_checkpointed_iteration.txt", "iter_0000010/mp_rank_00/model_optim_rng.pt"], "megatron"),
        (["iter_0000010/mp_rank_00_001/model_optim_rng.pt"], "megatron"),
        (["step10/_CHECKPOINT_METADATA", "step10/manifest.ocdbt"], "orbax"),
        (["10/manifest.ocdbt"], "orbax"),
        (["checkpoint_100"], "orbax"),
        (["flax_model.msgpack"], "orbax"),
        (["model.ckpt-100.index", "model.ckpt-100.data-00000-of-00001"], "tensorflow"),
        (["step3/tf_model.h5"], "tensorflow"),
    ],
)  # fmt: skip
def test_formats_that_are_recognised_and_refused(files: list[str], kind: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    error = refused(lambda: open_source(tmp_path), f"unsupported-{kind}", file=str(tmp_path))
    assert isinstance(error, UnsupportedFormat)


def test_weights_beside_another_format_are_read(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-10" / "model.safetensors")
    (tmp_path / "checkpoint-10" / "global_step10").mkdir()
    (tmp_path / "checkpoint-10" / "latest").write_text("global_step10")
    (tmp_path / "checkpoint-10" / "zero_to_fp32.py").write_text("")
    (tmp_path / "checkpoint-20").mkdir()
    (tmp_path / "checkpoint-20" / "zero_to_fp32.py").write_text("")
    source = LocalSource(tmp_path)
    assert steps(source) == [10]
    assert kinds(source) == ["unread-weights"]


def test_what_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "pythia" / "step1" / "model.safetensors")
    error = refused(lambda: open_source(tmp_path / "runs" / "pythai"), "source-not-found", file="pythai")
    assert "pythia" in error.hint
    error = refused(lambda: open_source(tmp_path / "runs"), "no-checkpoints", file=str(tmp_path))
    assert "pythia" in error.hint
    (tmp_path / "empty").mkdir()
    assert isinstance(refused(lambda: open_source(tmp_path / "empty"), "no-checkpoints"), NotFound)
    (tmp_path / "notes.txt").write_text("x")
    refused(lambda: open_source(tmp_path / "notes.txt"), "no-checkpoints")
    assert "not in this version" in str(refused(lambda: open_source("gs://bucket/run"), "unsupported-source"))
    refused(lambda: open_source("s3://bucket/run"), "unsupported-source")
    for text in ("", "  ", "a\0b"):
        assert isinstance(refused(lambda text=text: open_source(text), "bad-source"), UsageError)  # type: ignore[misc]


def test_a_revision_without_weights_is_an_explicit_gap(tmp_path: Path) -> None:
    write(tmp_path / "step1" / "model.safetensors")
    (tmp_path / "step2").mkdir()
    (tmp_path / "step2" / "config.json").write_text("{}")
    source = LocalSource(tmp_path)
    assert steps(source) == [1]
    assert [(f.kind, f.steps) for f in source.findings()] == [("missing-weights", (2,))]


# Broken trajectories


def index(**places: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("change", "kind", "tensor"),
    [
        (lambda f: (f / TWO).unlink(), "missing-shard", "b"),
        (index(a=ONE, b=ONE), "tensor-missing", "b"),
        (index(a=ONE, b=TWO, x=TWO), "tensor-missing", "x"),
        (lambda f: save_file({"b": torch.ones(2), "a": torch.ones(3)}, f / TWO), "tensor-in-two-shards", "a"),
        (index(a="../step2/" + ONE, b=TWO), "unsafe-shard-path", "a"),
        (index(a=ONE, b="/etc/passwd"), "unsafe-shard-path", "b"),
        (index(a="..", b=TWO), "unsafe-shard-path", "a"),
        (index(), "bad-index", None),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}'), "bad-index", None),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "bad-index", None),
        (lambda f: (f / "model.safetensors.index.json").write_text("[" * 100_000), "bad-index", None),
        (lambda f: (f / TWO).write_bytes((f / TWO).read_bytes()[:-1]), "malformed-safetensors", "b"),
        (lambda f: (f / TWO).write_bytes(b"<html></html>"), "html-instead-of-file", None),
    ],
)  # fmt: skip
def test_shards_that_do_not_fit(
    change: Callable[[Path], object], kind: str, tensor: str | None, tmp_path: Path
) -> None:
    shards(tmp_path / "step1", [{"a": torch.randn(3)}, {"b": torch.randn(2)}])
    change(tmp_path / "step1")
    source = LocalSource(tmp_path)
    error = refused(lambda: source.tensors(source.checkpoints()[0]), kind, file=str(tmp_path / "step1"), tensor=tensor)
    assert error.step == 1


def test_a_stale_shard_is_left_out_with_a_warning(tmp_path: Path) -> None:
    shards(tmp_path / "step1", [{"a": torch.randn(3)}, {"b": torch.randn(2)}])
    save_file({"a": torch.zeros(3)}, tmp_path / "step1" / "model-00003-of-00003.safetensors")
    source = LocalSource(tmp_path)
    assert set(values(source)) == {"a", "b"}
    assert kinds(source) == ["stale-shard"]
    assert source.tensors(source.checkpoints()[0]).findings[0].steps == (1,)


def test_two_names_of_one_step(tmp_path: Path) -> None:
    write(tmp_path / "step2" / "model.safetensors")
    write(tmp_path / "step02" / "model.safetensors")
    error = refused(lambda: open_source(tmp_path), "step-conflict")
    assert "step2" in error.message
    assert "step02" in error.message


def test_stages_that_count_anew_go_on_from_the_stage_before(tmp_path: Path) -> None:
    for name in ("stage1-step100", "stage1-step200", "stage2-step50"):
        write(tmp_path / name / "model.safetensors")
    source = open_source(tmp_path)
    assert [(c.step, c.label) for c in source.checkpoints()] == [
        (100, "stage1-step100"), (200, "stage1-step200"), (250, "stage2-step50"),
    ]  # fmt: skip
    assert source.checkpoints()[2].extra == {"stage": 2, "stage_step": 50}
    assert "stage-steps" in [f.kind for f in source.findings()]
    assert [c.step for c in open_source(tmp_path / "stage1-*").checkpoints()] == [100, 200]


def test_two_models_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "step1" / "generator.pt")
    write(tmp_path / "step1" / "critic.pt")
    source = LocalSource(tmp_path)
    assert steps(source) == [1]
    refused(lambda: source.tensors(source.checkpoints()[0]), "ambiguous-checkpoint", file=str(tmp_path / "step1"))


def link_outside(run: Path) -> None:
    other = write(run.parent / "elsewhere.safetensors")
    (run / "step1" / "model.safetensors").unlink()
    (run / "step1" / "model.safetensors").symlink_to(other)


def folder_outside(run: Path) -> None:
    shutil.move(run / "step1", run.parent / "moved")
    (run / "step1").symlink_to(run.parent / "moved")


def loop(run: Path) -> None:
    path = run / "step1" / "model.safetensors"
    path.unlink()
    path.symlink_to(path)


def fifo(run: Path) -> None:
    path = run / "step1" / "model.safetensors"
    path.unlink()
    os.mkfifo(path)


def device(run: Path) -> None:
    path = run / "step1" / "model.safetensors"
    path.unlink()
    path.symlink_to("/dev/zero")


def broken(run: Path) -> None:
    path = run / "step1" / "model.safetensors"
    path.unlink()
    path.symlink_to("nothing")


def unreadable(run: Path) -> None:
    (run / "step1" / "model.safetensors").chmod(0)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (link_outside, "link-outside"),
        (folder_outside, "link-outside"),
        (loop, "link-loop"),
        (fifo, "not-a-file"),
        (device, "link-outside"),
        (broken, "file-missing"),
        pytest.param(
            unreadable, "permission-denied", marks=pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
        ),
    ],
)
def test_what_is_no_file_of_the_run_is_not_opened(change: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run / "step1" / "model.safetensors")
    write(run / "step2" / "model.safetensors")
    change(run)
    source = LocalSource(run)
    assert steps(source) == [1, 2]
    error = refused(lambda: source.tensors(source.checkpoints()[0]), kind, file=str(run / "step1"))
    assert error.step == 1
    assert set(values(source, 1)) == set(state())


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, "permission-denied"),
        (errno.ELOOP, "link-loop"),
        (errno.ENXIO, "not-a-file"),
        (errno.ENOENT, "file-missing"),
        (errno.EMFILE, "read-failed"),
        (errno.EIO, "read-failed"),
    ],
)
def test_the_systems_errors_have_names_here(number: int, kind: str) -> None:
    error = failed("some/file", OSError(number, os.strerror(number)))
    assert (error.kind, error.file) == (kind, "some/file")
    assert "some/file" in str(error)


def test_a_fifo_named_as_a_run_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "step1.safetensors")
    source = LocalSource(tmp_path / "step1.safetensors")
    refused(lambda: source.tensors(source.checkpoints()[0]), "not-a-file")


def test_links_within_the_root_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "run" / "blobs" / "abc.safetensors", state(3))
    (tmp_path / "run" / "step1").mkdir()
    (tmp_path / "run" / "step1" / "model.safetensors").symlink_to("../blobs/abc.safetensors")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    same(values(LocalSource(tmp_path / "run")), state(3))
    same(values(LocalSource(tmp_path / "link")), state(3))


def test_a_snapshot_in_the_hubs_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    write(cache / "blobs" / "abc.safetensors", state(3))
    (cache / "snapshots" / "0123").mkdir(parents=True)
    (cache / "snapshots" / "0123" / "model.safetensors").symlink_to("../../blobs/abc.safetensors")
    same(values(LocalSource(cache / "snapshots" / "0123")), state(3))


# Files that change


@pytest.mark.timing
def test_a_file_that_is_written_again_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "step1.safetensors")
    source = LocalSource(tmp_path)
    (checkpoint,) = source.checkpoints()
    assert source.unchanged(checkpoint)
    os.utime(path, ns=(1, 1))
    assert not source.unchanged(checkpoint)
    error = refused(lambda: source.tensors(checkpoint), "file-changed", file=str(path))
    assert isinstance(error, TryAgain)
    source.refresh()
    assert set(source.tensors(source.checkpoints()[0]).tensors) == set(state())
    source.refresh()
    (checkpoint,) = source.checkpoints()
    path.unlink()
    assert not source.unchanged(checkpoint)
    refused(lambda: source.tensors(checkpoint), "file-changed", file=str(path))


@pytest.mark.timing
def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "step1.safetensors")
    source = LocalSource(tmp_path)
    entry = source.tensors(source.checkpoints()[0]).tensors["a.weight"]
    os.truncate(path, entry.offset + 10)
    error = refused(lambda: source.read(entry.file, entry.offset, memoryview(bytearray(96))), "file-changed")
    assert isinstance(error, TryAgain)
    assert error.file == str(path)


@pytest.mark.timing
def test_a_growing_checkpoint_is_not_settled(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint-1" / "model.safetensors")
    source = LocalSource(tmp_path)
    assert not settled(source.checkpoints()[0], 60)
    assert settled(source.checkpoints()[0], 0)
    old = time.time() - 120
    os.utime(path, (old, old))
    assert not settled(source.checkpoints()[0], 60), "it is not as it was listed"
    source.refresh()
    assert settled(source.checkpoints()[0], 60)


def test_what_is_written_under_another_name_is_left_for_later(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-1" / "model.safetensors")
    write(tmp_path / "tmp-checkpoint-1" / "model.safetensors")
    write(tmp_path / "checkpoint-2.tmp" / "model.safetensors")
    (tmp_path / "step3.partial.pt").write_bytes(b"PK")
    write(tmp_path / "temperature-5.pt")
    source = LocalSource(tmp_path)
    assert steps(source) == [1, 5]
    assert kinds(source) == ["growing"] * 3


def test_a_trainers_mark_says_that_a_checkpoint_is_complete(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint-1" / "model.safetensors")
    mark = tmp_path / "checkpoint-1" / "trainer_state.json"
    mark.write_text("{}")
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    os.utime(mark, ns=(now - 10**9, now - 10**9))
    source = LocalSource(tmp_path)
    assert not settled(source.checkpoints()[0], 600), "the mark is of an earlier saving"
    os.utime(mark, ns=(now, now))
    assert settled(source.checkpoints()[0], 600)


# Reading


@pytest.mark.timing
def test_few_descriptors_serve_many_files_and_threads(tmp_path: Path) -> None:
    for step in range(24):
        write(tmp_path / f"step{step}.safetensors", state(step))
    source = LocalSource(tmp_path, max_open=4)
    entries = [source.tensors(c).tensors["a.weight"] for c in source.checkpoints()]
    problems: list[object] = []
    most = 0

    def work(seed: int) -> None:
        nonlocal most
        rng = np.random.default_rng(seed)
        for _ in range(40):
            step = int(rng.integers(24))
            out = bytearray(96)
            source.read(entries[step].file, entries[step].offset, memoryview(out))
            if bytes(out) != state(step)["a.weight"].numpy().tobytes():
                problems.append(step)
            most = max(most, _open_files(tmp_path))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert most <= 4 + 4
    source.close()
    assert _open_files(tmp_path) == 0


def _open_files(folder: Path) -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += str(link.readlink()).startswith(str(folder))
        except OSError:
            continue
    return found


def test_a_file_outside_the_root_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "run" / "step1.safetensors")
    (tmp_path / "secret").write_bytes(b"secret")
    source = LocalSource(tmp_path / "run")
    for path in (tmp_path / "secret", tmp_path / "run" / ".." / "secret"):
        refused(lambda path=path: source.read(str(path), 0, memoryview(bytearray(6))), "link-outside")  # type: ignore[misc]


@pytest.mark.timing
def test_many_checkpoints_are_listed_at_once(tmp_path: Path) -> None:
    write(tmp_path / "step0" / "model.safetensors")
    for step in range(1, 400):
        (tmp_path / f"step{step}").mkdir()
        os.link(tmp_path / "step0" / "model.safetensors", tmp_path / f"step{step}" / "model.safetensors")
    started = time.thread_time()
    source = LocalSource(tmp_path)
    assert len(source.checkpoints()) == 400
    assert time.thread_time() - started < 20
