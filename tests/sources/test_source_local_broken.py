"""Runs on disks that are refused, broken, or lead elsewhere by links."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from local_checkpoints import kinds, same, shards, state, steps, values, write
from refusals import refused
from safetensors.torch import save_file

from trajsvc.errors import NotFound, UnsupportedFormat, UsageError
from trajsvc.sources.files import failed
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.resolve import open_source

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
    write(tmp_path / "step02" / "model.safetensors", state(1))
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
