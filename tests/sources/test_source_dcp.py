"""Folders of torch.distributed.checkpoint, written by one process and by several."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_torch as bad
import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp_ranks import state as whole_state
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from torch.distributed.checkpoint.metadata import Metadata

from trajsvc.sources.formats.torch_dcp import MAX_PIECES, _runs
from trajsvc.sources.local.source import LocalSource
from trajsvc.trajectory.elements import read_elements


def save(state: dict[str, Any], folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=folder)
    return folder


def loaded(source: LocalSource, number: int = 0) -> dict[str, torch.Tensor]:
    found = {}
    for name, entry in source.tensors(source.checkpoints()[number]).tensors.items():
        dtype = getattr(torch, entry.dtype)
        out = np.empty(entry.size * dtype.itemsize, np.uint8)
        read_elements(source, entry, 0, entry.size, memoryview(out))
        found[name] = torch.from_numpy(out).view(dtype).reshape(entry.shape) if entry.size else torch.empty(entry.shape)
    return found


def test_one_process(tmp_path: Path) -> None:
    model = {
        "a": torch.randn(3, 4),
        "none": torch.zeros(0, 4),
        "turned": torch.randn(2, 3).t(),
        "b": torch.randn(5).bfloat16(),
    }
    for step in (10, 9):
        save({"model": model, "optim": {"state": [torch.ones(2)], "lr": 0.1}, "step": step}, tmp_path / f"step-{step}")
    source = LocalSource(tmp_path)
    assert [(c.step, c.format) for c in source.checkpoints()] == [(9, "distcp"), (10, "distcp")]
    found = loaded(source)
    assert list(found) == list(model)
    for name, tensor in model.items():
        assert torch.equal(found[name], tensor)
    assert source.tensors(source.checkpoints()[0]).left_out == {"optim": "optimizer state"}


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["model.a", "optim.state.a"], ["a"]),
        (["model.a", "lm_head"], ["model.a", "lm_head"]),
        (["model.a", "model.b"], ["model.a", "model.b"]),
        (["tok.weight", "optimizer.state.tok.weight.exp_avg"], ["tok.weight"]),
    ],
)
def test_flat_names(keys: list[str], names: list[str], tmp_path: Path) -> None:
    save({k: torch.ones(2) for k in keys}, tmp_path / "step5")
    assert sorted(loaded(LocalSource(tmp_path))) == sorted(names)


def test_a_trainers_inner_folder(tmp_path: Path) -> None:
    save({"model": {"a": torch.arange(4.0)}}, tmp_path / "checkpoint-3" / "pytorch_model_fsdp_0")
    (tmp_path / "checkpoint-3" / "config.json").write_text('{"model_type": "gpt_neox"}')
    source = LocalSource(tmp_path)
    assert torch.equal(loaded(source)["a"], torch.arange(4.0))
    assert source.tensors(source.checkpoints()[0]).config == {"model_type": "gpt_neox"}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that three processes wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("dcp_ranks.py")
    command = [sys.executable, "-W", "ignore", str(script)]
    arguments = ["3", str(folder / "rendezvous"), str(folder / "run" / "step7")]
    children = [subprocess.Popen([*command, str(r), *arguments], stderr=subprocess.PIPE) for r in range(3)]
    for child in children:
        _, errors = child.communicate(timeout=600)
        assert child.returncode == 0, errors.decode()
    return folder / "run"


@pytest.mark.slow
def test_several_processes(ranks: Path) -> None:
    source = LocalSource(ranks)
    expected = whole_state()
    found = loaded(source)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    tensors = source.tensors(source.checkpoints()[0]).tensors
    assert {n: len(e.pieces) if e.pieces else None for n, e in tensors.items()} == {
        "rows": 3, "columns": 6 * 3, "cube": 3 * 2, "copied": None, "half": 3,
    }  # fmt: skip
    assert len({e.file for e in tensors.values()} | {p.file for e in tensors.values() for p in e.pieces or ()}) == 3


@pytest.mark.slow
def test_a_part_of_a_tensor_in_pieces(ranks: Path) -> None:
    source = LocalSource(ranks)
    entry = source.tensors(source.checkpoints()[0]).tensors["columns"]
    flat = whole_state()["columns"].reshape(-1)
    for low, high in ((0, 1), (3, 29), (7, 8), (13, 48), (20, 20)):
        out = np.empty((high - low) * 4, np.uint8)
        read_elements(source, entry, low, high, memoryview(out))
        assert np.array_equal(out.view(np.float32), flat[low:high].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["__1_0.distcp", "__2_0.distcp"])
def test_a_rank_that_is_missing(missing: str, ranks: Path, tmp_path: Path) -> None:
    shutil.copytree(ranks, tmp_path / "run")
    (tmp_path / "run" / "step7" / missing).unlink()
    source = LocalSource(tmp_path / "run")
    refused(lambda: source.tensors(source.checkpoints()[0]), "missing-shard", file=missing)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4), st.integers(1, 5)), max_size=4))
def test_the_runs_of_a_chunk_are_its_elements(dimensions: list[tuple[int, int, int]]) -> None:
    whole = tuple(before + length + after for before, after, length in dimensions)
    offsets = tuple(before for before, _, _ in dimensions)
    shape = tuple(length for _, _, length in dimensions)
    flat = np.arange(np.prod(whole, dtype=int)).reshape(whole)
    starts, length = _runs(whole, offsets, shape)
    expected = flat[tuple(slice(o, o + n) for o, n in zip(offsets, shape, strict=True))].reshape(-1)
    assert np.concatenate([np.arange(s, s + length) for s in starts]).tolist() == expected.tolist()


def metadata(folder: Path, change: Callable[[Metadata], None]) -> LocalSource:
    """A good checkpoint whose ``.metadata`` was changed."""
    save({"a": torch.randn(4, 4), "b": torch.ones(3)}, folder / "step1")
    path = folder / "step1" / ".metadata"
    words = pickle.loads(path.read_bytes())
    change(words)
    path.write_bytes(pickle.dumps(words))
    return LocalSource(folder)


def elsewhere(words: Metadata) -> None:
    for info in words.storage_data.values():
        info.relative_path = "../other.distcp"


def shifted(words: Metadata) -> None:
    for info in words.storage_data.values():
        info.offset += 1


def reshaped(words: Metadata) -> None:
    entry = words.state_dict_metadata["a"]
    entry.size = torch.Size((8, 4))


def another_type(words: Metadata) -> None:
    words.state_dict_metadata["a"].properties.dtype = torch.float64


def beyond(words: Metadata) -> None:
    words.state_dict_metadata["a"].chunks[0].offsets = torch.Size((1, 0))


def twice(words: Metadata) -> None:
    entry = words.state_dict_metadata["a"]
    entry.size = torch.Size((8, 4))
    entry.chunks = [entry.chunks[0], entry.chunks[0]]


def gap(words: Metadata) -> None:
    entry = words.state_dict_metadata["a"]
    entry.size = torch.Size((12, 4))
    entry.chunks = [entry.chunks[0], type(entry.chunks[0])(torch.Size((8, 0)), torch.Size((4, 4)))]
    first = next(i for i in words.storage_data if i.fqn == "a")
    words.storage_data[type(first)("a", (8, 0))] = words.storage_data[first]


def transformed(words: Metadata) -> None:
    for info in words.storage_data.values():
        info.transform_descriptors = ["zstd"]


def nowhere(words: Metadata) -> None:
    words.storage_data.clear()


def bare(words: Metadata) -> None:
    words.state_dict_metadata["a"].chunks = []


@pytest.mark.parametrize(
    ("change", "kind", "tensor"),
    [
        (elsewhere, "unsafe-shard-path", None),
        (shifted, "malformed-torch", None),
        (reshaped, "malformed-dcp", "a"),
        (another_type, "malformed-dcp", "a"),
        (beyond, "malformed-dcp", "a"),
        (twice, "malformed-dcp", "a"),
        (gap, "malformed-dcp", "a"),
        (transformed, "unsupported-sharding", None),
        (nowhere, "malformed-dcp", "a"),
        (bare, "malformed-dcp", "a"),
    ],
)
def test_metadata_that_does_not_fit(
    change: Callable[[Metadata], None], kind: str, tensor: str | None, tmp_path: Path
) -> None:
    source = metadata(tmp_path, change)
    refused(lambda: source.tensors(source.checkpoints()[0]), kind, file=str(tmp_path / "step1"), tensor=tensor)


def test_metadata_that_would_run_code(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    source = metadata(tmp_path, lambda words: None)
    for _, raw in bad.pickled_calls(canary):
        (tmp_path / "step1" / ".metadata").write_bytes(raw)
        source.refresh()
        refused(lambda: source.tensors(source.checkpoints()[0]), "unsafe-pickle", file=".metadata")
    assert not canary.exists()


def test_too_many_pieces_are_refused() -> None:
    starts, _ = _runs((10**6, 4), (0, 0), (10**6, 2))
    assert len(starts) > MAX_PIECES
