"""Rows of matrices on real files: exact norms, fused parts, convolutions, appends, the option, runs without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from small_runs import HEADS, HIDDEN, State, trajectory, write_run, write_step

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.errors import NotFound
from trajsvc.results.run import Run

MLP = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
QKV = "gpt_neox.layers.1.attention.query_key_value.weight"
EVERYTHING = ("update", "ratio", "angle", "displacement", "weights")


def points(states: list[State], name: str) -> NDArray[np.float64]:
    return torch.stack([s[name].double() for s in states]).numpy()


def check(run: Run, group: str, values: NDArray[np.float64]) -> None:
    """``values`` (T, rows, width)."""
    away = np.linalg.norm(values - values[0], axis=-1).T
    assert_allclose(run.rows(group, "weights").values, np.linalg.norm(values, axis=-1).T, rtol=1e-12)
    assert_allclose(run.rows(group, "displacement").values, away, rtol=1e-12)
    update = np.linalg.norm(np.diff(values, axis=0), axis=-1).T
    assert_allclose(run.rows(group).values, update, rtol=1e-12)
    assert_allclose(run.rows(group, "ratio").values, update / np.linalg.norm(values[:-1], axis=-1).T, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_norms_are_those_of_the_files(tmp_path: Path, dtype: torch.dtype, precision: str) -> None:
    states = trajectory(4, dtype=dtype)
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store", precision=precision)
    check(run, f"tensor/{MLP}", points(states, MLP))
    found = run.rows(f"tensor/{MLP}")
    assert found.dims == ("row", "step")
    assert found.index.values.tolist() == list(range(4 * HIDDEN))
    assert set(found.tensor.values) == {MLP}
    fused = points(states, QKV).reshape(4, HEADS, 3, HIDDEN // HEADS, HIDDEN)
    for part, at in (("q", 0), ("k", 1), ("v", 2)):
        check(run, f"tensor/{QKV}[{part}]", fused[:, :, at].reshape(4, HIDDEN, HIDDEN))


def test_a_convolution_has_a_row_for_every_output_and_vectors_have_none(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)

    def state() -> State:
        return {
            "conv.weight": torch.randn(6, 3, 5, 5, generator=generator),
            "fc.weight": torch.randn(4, 9, generator=generator),
            "fc.bias": torch.randn(4, generator=generator),
        }

    states = [state() for _ in range(3)]
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store")
    check(run, "tensor/conv.weight", points(states, "conv.weight").reshape(3, 6, 75))
    assert len(run.rows()) == 10
    with pytest.raises(NotFound) as caught:
        run.rows("tensor/fc.bias")
    assert caught.value.kind == "rows-not-found"
    assert np.isnan(run.row_top_share("tensor/fc.bias").values).all()


def test_an_append_adds_its_own_and_is_as_computed_at_once(tmp_path: Path) -> None:
    states = trajectory(6)
    folder = write_run(tmp_path / "run", states[:3])
    trajsvc.analyze(folder, store=tmp_path / "store")
    for t in (3, 4, 5):
        write_step(folder, 100 * t, states[t])
        run = trajsvc.analyze(folder, store=tmp_path / "store", rows=False if t == 4 else None)
    whole = trajsvc.analyze(folder, store=tmp_path / "other")
    for of in EVERYTHING:
        assert_allclose(run.rows(of=of).values, whole.rows(of=of).values, rtol=1e-13)
    check(run, f"tensor/{MLP}", points(states, MLP))


def test_the_option_and_the_memory_decide(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", trajectory(4))
    run = trajsvc.analyze(folder, store=tmp_path / "store", rows=False)
    assert not run.stored.has_rows
    with pytest.raises(NotFound) as caught:
        run.rows()
    assert caught.value.kind == "rows-not-found"
    assert "--rows" in caught.value.hint
    assert np.isnan(run.row_top_share().values).all()
    assert not trajsvc.analyze(folder, store=tmp_path / "store").stored.has_rows  # complete as it was
    again = trajsvc.analyze(folder, store=tmp_path / "store", rows=True)
    assert again.stored.has_rows
    assert again.attributes["rows"] == len(again.rows())


def test_a_run_without_them_stays_without_them_where_checkpoints_are_added(tmp_path: Path) -> None:
    states = trajectory(5)
    folder = write_run(tmp_path / "run", states[:4])
    trajsvc.analyze(folder, store=tmp_path / "store")
    store = RunStore(tmp_path / "store")
    with store.writer("run") as writer:  # as a version that kept none left it
        writer.commit(replace(store.open("run").contents(), rows=None))
    write_step(folder, 400, states[4])
    run = trajsvc.analyze(folder, store=tmp_path / "store")
    assert len(run.steps) == 5
    assert not run.stored.has_rows


def test_a_selection_knows_updates_between_neighbours(tmp_path: Path) -> None:
    run = trajsvc.analyze(write_run(tmp_path / "run", trajectory(5)), store=tmp_path / "store")
    every, some = run.rows().values, run.rows(steps="0,200,300").values
    assert np.isnan(some[:, 0]).all()
    assert_array_equal(some[:, 1], every[:, 2])
    assert_array_equal(run.rows(of="weights", steps="0,200").values, run.rows(of="weights").values[:, [0, 2]])


def test_a_preview_has_none(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", trajectory(3))
    assert not trajsvc.analyze(folder, store=tmp_path / "store", preview=0.5, rows=True).stored.has_rows
