"""The main job on runs that are damaged, change while they are read, or have nothing to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import HIDDEN, cosines, flat, shapes, trajectory, write_run, write_step

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.errors import (
    DamagedCheckpoint,
    LimitExceeded,
    NotFound,
    TrajsvcError,
    TryAgain,
)
from trajsvc.sources.base import CheckpointRef
from trajsvc.sources.local.source import LocalSource

NAMES = list(shapes())


def test_non_finite_checkpoints_are_flagged_and_left_out(tmp_path: Path) -> None:
    states = trajectory(6)
    states[3]["gpt_neox.embed_in.weight"][5, 5] = torch.nan
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store")
    assert run.steps.tolist() == [0, 100, 200, 400, 500]
    kept = [*states[:3], *states[4:]]
    np.testing.assert_allclose(
        run.trajectory_map(origin=0).values[:4], cosines(flat(kept, NAMES)[1:] - flat(kept, NAMES)[0]), atol=1e-12
    )
    found = [f for f in run.findings if f.kind == "non-finite"]
    assert [f.steps for f in found] == [(300,)]
    assert found[0].tensors == ("gpt_neox.embed_in.weight",)


def test_what_is_wrong_is_reported(tmp_path: Path) -> None:
    states = trajectory(12)
    states[4] = {n: v.clone() for n, v in states[3].items()}
    states[7]["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"] = (
        states[11]["embed_out.weight"].flatten()[: 4 * HIDDEN * HIDDEN].reshape(4 * HIDDEN, HIDDEN).clone()
    )
    states[9]["embed_out.weight"][:350] = 0
    folder = write_run(tmp_path / "run", states)
    odd = states[5] | {"gpt_neox.embed_in.weight": torch.zeros(10, HIDDEN)}
    write_step(folder, 550, odd)
    run = trajsvc.analyze(folder, store=tmp_path / "store")
    kinds = {f.kind: f for f in run.findings}
    assert kinds["identical"].steps == (300, 400)
    assert any(f.kind == "zero-update" and f.steps == (300, 400) for f in run.findings)
    outliers = {f.steps: f.tensors for f in run.findings if f.kind == "outlier"}
    assert outliers == {(700,): ("gpt_neox.layers.1.mlp.dense_h_to_4h.weight",), (900,): ("embed_out.weight",)}
    assert kinds["mostly-zero"].steps == (900,)
    assert kinds["shape-change"].steps == (550,)
    assert [e["step"] for e in run.excluded] == [550]
    assert np.isnan(run.update_angle().values[2:4]).all()


def test_a_flipped_byte_in_a_torch_file_is_caught_and_nothing_is_left(tmp_path: Path) -> None:
    states = trajectory(3)
    folder = write_run(tmp_path / "run", states, kinds=("torch",))
    file = folder / "step100" / "pytorch_model.bin"
    data = bytearray(file.read_bytes())
    at = data.find(states[1]["embed_out.weight"].numpy().tobytes()[:64])
    data[at + 1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedCheckpoint) as caught:
        trajsvc.analyze(folder, store=tmp_path / "store")
    assert caught.value.kind == "checksum-mismatch"
    assert caught.value.step == 100
    assert "embed_out.weight" in str(caught.value)
    assert RunStore(tmp_path / "store").names() == ()
    assert not list((tmp_path / "store").rglob("*journal*"))


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_changes_while_it_is_read_fails_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Changed once: the second attempt gives the new values. Changed again: a named failure, and nothing is stored."""
    states = trajectory(5)
    folder = write_run(tmp_path / "run", states[:3])
    later = iter(states[3 : 3 + times])
    original = LocalSource.unchanged

    def rewritten_meanwhile(self: LocalSource, checkpoint: CheckpointRef) -> bool:
        if checkpoint.step == 100:
            state = next(later, None)
            if state is not None:
                write_step(folder, 100, state)
        return original(self, checkpoint)

    monkeypatch.setattr(LocalSource, "unchanged", rewritten_meanwhile)
    if times == 1:
        run = trajsvc.analyze(folder, store=tmp_path / "store")
        expected = cosines(flat([states[0], states[3], states[2]], NAMES))
        np.testing.assert_allclose(run.trajectory_map().values, expected, atol=1e-12)
        return
    with pytest.raises(TryAgain) as caught:
        trajsvc.analyze(folder, store=tmp_path / "store")
    assert caught.value.kind == "file-changed"
    assert RunStore(tmp_path / "store").names() == ()


def test_damaged_checkpoints_fail_the_run_or_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", trajectory(4))
    file = folder / "step200" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(TrajsvcError) as caught:
        trajsvc.analyze(folder, store=tmp_path / "store")
    assert caught.value.step == 200
    assert str(file) in str(caught.value)
    assert RunStore(tmp_path / "store").names() == ()
    run = trajsvc.analyze(folder, store=tmp_path / "store", skip_damaged=True)
    assert run.steps.tolist() == [0, 100, 300]
    assert [f.steps for f in run.findings if f.kind == "unreadable"] == [(200,)]


def test_a_budget_that_cannot_be_kept_is_refused_before_the_start(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", trajectory(4))
    with pytest.raises(LimitExceeded) as caught:
        trajsvc.analyze(folder, store=tmp_path / "store", memory="1MiB")
    assert "--memory" in caught.value.hint


def test_nothing_to_read_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        trajsvc.analyze(tmp_path / "absent", store=tmp_path / "store")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound):
        trajsvc.analyze(tmp_path / "empty", store=tmp_path / "store")


@pytest.mark.parametrize("scaled", [False, True], ids=["alone", "scaled"])
@pytest.mark.parametrize("copy", [False, True], ids=["in place", "copied"])
def test_a_flipped_bit_in_the_codes_of_an_8_bit_tensor_is_caught(tmp_path: Path, scaled: bool, copy: bool) -> None:
    """The checksum is of the codes; what is multiplied are the values that they stand for."""
    rng = torch.Generator().manual_seed(0)
    codes = [torch.randn(1024, 768, generator=rng).to(torch.float8_e4m3fn) for _ in range(3)]
    for step, code in enumerate(codes):
        folder = tmp_path / "run" / f"step{step}"
        folder.mkdir(parents=True)
        scales = {"layers.0.mlp.weight_scale": torch.rand(1024, 1, generator=rng)} if scaled else {}
        torch.save({"layers.0.mlp.weight": code, **scales}, folder / "pytorch_model.bin")
    options = {"store": tmp_path / "store", "copy": copy, "memory": 2**24}
    run = trajsvc.analyze(tmp_path / "run", **options)
    assert run.parameters == 1024 * 768
    file = tmp_path / "run" / "step1" / "pytorch_model.bin"
    data = bytearray(file.read_bytes())
    data[data.find(codes[1].view(torch.uint8).numpy().tobytes()) + 1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedCheckpoint) as caught:
        trajsvc.analyze(tmp_path / "run", **options, name="again")
    assert (caught.value.kind, caught.value.step) == ("checksum-mismatch", 1)
    assert "layers.0.mlp.weight" in str(caught.value)
    assert RunStore(tmp_path / "store").names() == ("run",)
