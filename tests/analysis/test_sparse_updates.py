"""Sparsity of updates on real files: exact counts, appended, in selections, of tensors in parts, and of runs that never counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from small_runs import HEADS, HIDDEN, State, shapes, trajectory, write_run, write_step

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.results.run import Run

EMBEDDING = "gpt_neox.embed_in.weight"
QKV = "gpt_neox.layers.1.attention.query_key_value.weight"
KEPT = 300
"""rows of the embedding that no update reaches, as those of tokens that no batch holds"""


def sparse(steps: int, dtype: torch.dtype = torch.float32) -> list[State]:
    """A run whose first rows of the embedding stay, and whose last update changes nothing but a norm."""
    states = trajectory(steps, dtype=dtype)
    for t in range(1, steps):
        states[t][EMBEDDING][:KEPT] = states[0][EMBEDDING][:KEPT]
    last = {name: value.clone() for name, value in states[-2].items()}
    last["gpt_neox.final_layer_norm.weight"] += 1.0
    return [*states[:-1], last]


def key_rows(weight: torch.Tensor) -> torch.Tensor:
    """The rows of K, a view, of a fused matrix stored head by head."""
    return weight.view(HEADS, 3, HIDDEN // HEADS, HIDDEN)[:, 1]


def bits(states: list[State], names: list[str]) -> NDArray[np.bool_]:
    """(T − 1, P): whether an update changes a value."""
    word = {2: torch.int16, 4: torch.int32, 8: torch.int64}[states[0][names[0]].element_size()]
    stored = [torch.cat([s[n].reshape(-1).view(word) for n in names]).numpy() for s in states]
    return np.stack([after != before for before, after in pairwise(stored)])


def check(run: Run, changed: NDArray[np.bool_], group: str = "network") -> None:
    assert_array_equal(run.update_sparsity(group).values, (~changed).mean(axis=1))
    both, either = (changed[1:] & changed[:-1]).sum(axis=1), (changed[1:] | changed[:-1]).sum(axis=1)
    assert_array_equal(run.update_overlap(group).values, both / either)
    p, q = changed.mean(axis=1)[:-1], changed.mean(axis=1)[1:]
    np.testing.assert_allclose(run.update_overlap_chance(group).values, p * q / (p + q - p * q), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_counts_are_exact(tmp_path: Path, dtype: torch.dtype, precision: str) -> None:
    states = sparse(5, dtype)
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store", precision=precision)
    check(run, bits(states, list(shapes())))
    check(run, bits(states, [EMBEDDING]), "embedding")
    assert run.update_sparsity("embedding").values[0] >= KEPT / 700
    assert run.update_sparsity("layer/0").values[-1] == 1.0


def test_parts_of_a_fused_matrix_are_counted_apart(tmp_path: Path) -> None:
    states = sparse(4)
    for state in states[1:]:
        key_rows(state[QKV])[:] = key_rows(states[0][QKV])
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store")
    where = {part: f"tensor/{QKV}[{part}]" for part in "qkv"}
    assert run.update_sparsity(where["k"]).values.tolist() == [1.0, 1.0, 1.0]
    assert run.update_sparsity(where["q"]).values[0] < 0.1
    assert run.gram(where["k"]).parameters == HIDDEN * HIDDEN


def test_an_append_counts_its_own(tmp_path: Path) -> None:
    states = sparse(6)
    folder = write_run(tmp_path / "run", states[:3])
    trajsvc.analyze(folder, store=tmp_path / "store")
    for t in (3, 4, 5):
        write_step(folder, 100 * t, states[t])
        run = trajsvc.analyze(folder, store=tmp_path / "store")
    check(run, bits(states, list(shapes())))


def test_a_run_that_never_counted_says_so_and_counts_what_is_appended(tmp_path: Path) -> None:
    states = sparse(5)
    folder = write_run(tmp_path / "run", states[:3])
    trajsvc.analyze(folder, store=tmp_path / "store")
    store = RunStore(tmp_path / "store")
    with store.writer("run") as writer:
        writer.commit(replace(store.open("run").contents(), changes=None))
    old = trajsvc.open(tmp_path / "store", "run")
    assert np.isnan(old.update_sparsity().values).all()
    assert np.isnan(old.update_overlap_chance().values).all()
    for t in (3, 4):
        write_step(folder, 100 * t, states[t])
    run = trajsvc.analyze(folder, store=tmp_path / "store")
    changed = bits(states, list(shapes()))
    assert_array_equal(run.update_sparsity().values, [np.nan, np.nan, *(~changed).mean(axis=1)[2:]])


def test_beside_a_checkpoint_that_is_left_out_nothing_is_known(tmp_path: Path) -> None:
    states = sparse(6)
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store")
    shares = run.update_sparsity().values
    assert_array_equal(run.update_sparsity(steps="0,100,300,400,500").values, [shares[0], np.nan, shares[3], shares[4]])
    overlaps = run.update_overlap().values
    assert_array_equal(run.update_overlap(steps="0,100,300,400,500").values, [np.nan, np.nan, overlaps[3]])


def test_a_sample_counts_nothing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", sparse(4))
    run = trajsvc.analyze(folder, store=tmp_path / "store", preview=0.1)
    assert run.estimate is None or np.isnan(run.update_sparsity().values).all()
