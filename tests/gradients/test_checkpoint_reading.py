"""The values that a network gets: those of the files that were analysed, or of the run's own copy, and never others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs as tiny
import torch
from safetensors.torch import load_file, save_file

import trajsvc
from storage_schema.runs.reader import StoredRun
from trajsvc.errors import Refused
from trajsvc.gradients.checkpoint import Checkpoint, Checkpoints
from trajsvc.gradients.fill import filled
from trajsvc.gradients.network import Network, network_at
from trajsvc.gradients.probes.base import ProbeContext


def stored(store: Path) -> StoredRun:
    found = trajsvc.open(store, tiny.RUN).stored
    assert isinstance(found, StoredRun)
    return found


def network(store: Path, step: int, source: str | None = None, **options: Any) -> Network:
    reader = Checkpoints(stored(store), source)
    path = tiny.data(store / "data.npz")
    probe = tiny.TinyProbe(ProbeContext(path, tiny.chosen(path)))
    return network_at(probe, reader.read(step), reader.options, **options)


def assert_equal(found: Network, step: int) -> None:
    expected = tiny.network(step).state_dict()
    for name, values in found.module.state_dict().items():
        if values.is_floating_point():
            assert torch.equal(values, expected[name].float().double()), name


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tiny.checkpoints(tmp_path / "checkpoints")


def test_parameters_and_running_statistics_are_those_of_the_file(tmp_path: Path, files: Path) -> None:
    store = tiny.analysed(files, tmp_path / "store")
    for step in tiny.STEPS:
        found = network(store, step)
        assert_equal(found, step)
        assert not found.module.training
    assert next(network(store, 0, precision="float32").module.parameters()).dtype == torch.float32


def test_blocks_are_those_of_the_run(tmp_path: Path, files: Path) -> None:
    store = tiny.analysed(files, tmp_path / "store")
    run = stored(store)
    assert sorted(b.name for b in network(store, 0).blocks) == sorted(run.blocks.name)


def test_files_of_torch_are_read_as_those_of_safetensors(tmp_path: Path) -> None:
    folder = tmp_path / "torch"
    folder.mkdir()
    for step in tiny.STEPS:
        torch.save({"model": tiny.network(step).float().state_dict(), "epoch": step}, folder / f"step{step}.pt")
    store = tiny.analysed(folder, tmp_path / "store")
    assert_equal(network(store, 20), 20)


def test_half_precision_values_are_rounded_no_further(tmp_path: Path) -> None:
    folder = tmp_path / "half"
    for step in tiny.STEPS:
        path = folder / f"step{step}" / "model.safetensors"
        path.parent.mkdir(parents=True)
        save_file(
            {n: v.half() if v.is_floating_point() else v for n, v in tiny.network(step).state_dict().items()}, path
        )
    found = network(tiny.analysed(folder, tmp_path / "store"), 10)
    expected = tiny.network(10).state_dict()["first.weight"].half().double()
    assert torch.equal(found.module.state_dict()["first.weight"], expected)


def test_a_file_that_is_no_longer_what_was_analysed_is_refused(tmp_path: Path, files: Path) -> None:
    store = tiny.analysed(files, tmp_path / "store")
    path = files / "step20" / "model.safetensors"
    values = load_file(path)
    save_file({**values, "first.weight": values["first.weight"] + 1.0}, path)
    with pytest.raises(Refused) as caught:
        network(store, 20)
    assert caught.value.kind == "checkpoint-changed"
    assert "step 20" in caught.value.message
    assert_equal(network(store, 10), 10)


def test_files_that_moved_are_found_where_one_says(tmp_path: Path, files: Path) -> None:
    store = tiny.analysed(files, tmp_path / "store")
    moved = shutil.move(files, tmp_path / "elsewhere")
    with pytest.raises(Refused) as caught:
        network(store, 10)
    assert caught.value.kind == "source-gone"
    assert "--source" in (caught.value.hint or "")
    assert_equal(network(store, 10, source=str(moved)), 10)


def test_a_step_whose_files_are_gone_is_named(tmp_path: Path, files: Path) -> None:
    store = tiny.analysed(files, tmp_path / "store")
    shutil.rmtree(files / "step10")
    with pytest.raises(Refused) as caught:
        network(store, 10)
    assert caught.value.kind == "source-gone"
    assert "step 10" in caught.value.message


def test_the_runs_own_copy_serves_when_the_files_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    expected = {}
    for step in tiny.STEPS:
        path = tiny.checkpoint(folder, step)
        values = {n: v for n, v in load_file(path).items() if not n.startswith("norm")}
        expected[step] = values
        save_file(values, path)
    store = tiny.analysed(folder, tmp_path / "store", copy=True)
    shutil.rmtree(folder)

    class Plain(tiny.TinyProbe):
        def network(self, config: object) -> torch.nn.Module:
            made = tiny.Tiny()
            made.norm = torch.nn.Identity()
            return made

    path = tiny.data(tmp_path / "data.npz")
    reader = Checkpoints(stored(store))
    for step in tiny.STEPS:
        found = network_at(Plain(ProbeContext(path, tiny.chosen(path))), reader.read(step), reader.options)
        for name, values in expected[step].items():
            assert torch.equal(found.module.state_dict()[name], values.double())


def test_a_copy_without_running_statistics_evaluates_no_network_that_needs_them(tmp_path: Path, files: Path) -> None:
    store = tiny.analysed(files, tmp_path / "store", copy=True)
    assert_equal(network(store, 10), 10)
    shutil.rmtree(files)
    with pytest.raises(Refused, match=r"norm.running_mean, norm.running_var") as caught:
        network(store, 10)
    assert caught.value.kind == "network-mismatch"


def test_the_analysis_options_say_which_tensors_there_are(tmp_path: Path, files: Path) -> None:
    """Renamed and excluded tensors are read again under the names, and without those, that the run has."""
    store = tiny.analysed(files, tmp_path / "store", exclude="last.bias")
    found = network(store, 10)
    assert "last.bias" not in stored(store).blocks.name
    assert np.isfinite(found.parameters)
    assert_equal(found, 10)


def test_a_config_of_other_sizes_is_refused_by_name_where_names_are_missing_too() -> None:
    transformers = pytest.importorskip("transformers")

    def made(**sizes: int) -> Any:
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40, **sizes}
        return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**sizes))

    state = {name: value.numpy() for name, value in made(intermediate_size=64).state_dict().items()}
    lacking = "gpt_neox.layers.0.attention.dense.bias"
    del state[lacking]
    with pytest.raises(Refused, match=lacking) as caught:
        filled(made(intermediate_size=32), Checkpoint(10, None, None, state, {}, frozenset(state)))
    assert caught.value.kind == "network-mismatch"
    assert "gpt_neox.layers.0.mlp.dense_h_to_4h.weight ((32, 16), stored (64, 16))" in str(caught.value)
