"""Rows that are added or removed in mid-run: every checkpoint is kept, and the tensor that changed is cut to the rows that all have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from field_runs import Maker, Point, Shapes, analysed, assert_right, matrix, of_kind, oracle, said, saved

import trajsvc
from storage_schema.runs.store import RunStore

CONFIG = {"model_type": "llama", "num_attention_heads": 4, "hidden_size": 16, "tie_word_embeddings": False}
LAYER: Shapes = {f"model.layers.0.self_attn.{p}_proj.weight": (16, 16) for p in "qkvo"}
LLAMA: Shapes = {"model.embed_tokens.weight": (56, 16), **LAYER, "lm_head.weight": (56, 16)}
VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight", "lm_head.bias")


def cut(point: Point, rows: int, names: Sequence[str] = VOCABULARY) -> Point:
    return {n: v[:rows].clone() if n in names else v for n, v in point.items()}


def grown(points: Sequence[Point], *, least: int = 50, at: int = 4, names: Sequence[str] = VOCABULARY) -> list[Point]:
    """The points with fewer rows before checkpoint ``at``."""
    return [cut(p, least, names) if i < at else p for i, p in enumerate(points)]


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("options", [{}, {"copy": True}], ids=["in place", "copied"])
def test_a_grown_vocabulary_is_cut_to_its_common_rows(tmp_path: Path, kind: str, options: Any) -> None:
    points = Maker(1).walk(LLAMA, count=9)
    run = analysed(tmp_path, grown(points), kind=kind, config=CONFIG, **options)
    assert_right(run, [cut(p, 50) for p in points])
    for group, names in {"layer/0": list(LAYER), "embedding": VOCABULARY[:1], "unembedding": VOCABULARY[1:2]}.items():
        assert_right(run, [{n: cut(p, 50)[n] for n in names} for p in points], group)
    assert said(run) == {"common-rows"}
    found = of_kind(run, "common-rows")
    assert found.steps == (400, 500, 600, 700, 800)
    assert set(found.tensors) == set(VOCABULARY[:2])
    assert "50 of 56" in found.message
    assert not run.excluded


def test_the_products_are_those_of_checkpoints_that_were_saved_cut(tmp_path: Path) -> None:
    points = Maker(2).walk(LLAMA, count=7)
    run = analysed(tmp_path, grown(points, at=3), kind="safetensors", config=CONFIG)
    other = analysed(tmp_path, [cut(p, 50) for p in points], "cut", kind="safetensors", config=CONFIG)
    np.testing.assert_array_equal(run.stored.block_grams(), other.stored.block_grams())


@pytest.mark.parametrize(
    "rows", [[56, 56, 56, 50, 50, 50, 50], [50, 50, 52, 52, 56, 56, 56], [50, 56, 56, 56, 56, 56, 56]]
)
def test_a_vocabulary_may_shrink_or_grow_more_than_once(tmp_path: Path, rows: list[int]) -> None:
    points = Maker(3).walk({**LLAMA, "lm_head.bias": (56,)}, count=len(rows))
    run = analysed(tmp_path, [cut(p, n) for p, n in zip(points, rows, strict=True)], config=CONFIG)
    assert_right(run, [cut(p, 50) for p in points])
    assert of_kind(run, "common-rows").steps == tuple(100 * t for t, n in enumerate(rows) if n > 50)


@pytest.mark.parametrize("stored", ["once", "shared", "equal"])
def test_a_tied_head_is_cut_with_its_embedding(tmp_path: Path, stored: str) -> None:
    shapes = {n: s for n, s in LLAMA.items() if n != "lm_head.weight"}
    points = Maker(4).walk(shapes, count=8)
    head: Callable[[torch.Tensor], torch.Tensor] = torch.clone if stored == "equal" else lambda t: t
    files = [
        {**p, **({} if stored == "once" else {"lm_head.weight": head(p["model.embed_tokens.weight"])})}
        for p in grown(points)
    ]
    run = analysed(tmp_path, files, config=CONFIG | {"tie_word_embeddings": stored != "equal"})
    assert_right(run, [cut(p, 50) for p in points])
    assert said(run) == {"common-rows"}


def test_classes_that_are_added_are_cut_in_any_network(tmp_path: Path) -> None:
    shapes = {"conv1.weight": (8, 3, 3, 3), "fc.weight": (20, 8), "fc.bias": (20,)}
    points = Maker(5).walk(shapes, count=6)
    run = analysed(tmp_path, grown(points, least=10, at=3, names=("fc.weight", "fc.bias")))
    assert_right(run, [cut(p, 10, ("fc.weight", "fc.bias")) for p in points])


def test_a_tensor_that_does_not_lie_in_order_is_cut_too(tmp_path: Path) -> None:
    points = Maker(6).walk(LLAMA, count=6)
    turned = [{n: v.t().contiguous().t() for n, v in p.items()} for p in grown(points, at=2)]
    run = analysed(tmp_path, turned, config=CONFIG)
    assert_right(run, [cut(p, 50) for p in points])


def test_names_may_change_at_the_same_time(tmp_path: Path) -> None:
    points = Maker(7).walk(LLAMA, count=8)
    files = [
        p if i < 4 else {n.replace("model.", "model.language_model."): v for n, v in p.items()}
        for i, p in enumerate(grown(points))
    ]
    run = analysed(tmp_path, files, config=CONFIG)
    assert_right(run, [cut(p, 50) for p in points])
    assert said(run) == {"common-rows"}


@pytest.mark.parametrize("options", [{}, {"copy": True}], ids=["in place", "copied"])
def test_checkpoints_with_more_rows_are_added_to_a_stored_run(tmp_path: Path, options: Any) -> None:
    points = Maker(8).walk(LLAMA, count=8)
    files = grown(points, at=5)
    folder = saved(tmp_path / "run", files[:5], "safetensors", CONFIG)
    first = trajsvc.analyze(folder, store=tmp_path / "store", name="run", **options)
    assert not said(first)
    for step, tensors in zip((500, 600, 700), files[5:], strict=True):
        place = saved(tmp_path / f"more{step}", [tensors], "safetensors", CONFIG) / "step_0"
        place.rename(folder / f"step_{step}")
    run = trajsvc.analyze(folder, store=tmp_path / "store", name="run", **options)
    assert_right(run, [cut(p, 50) for p in points])
    assert RunStore(tmp_path / "store").open("run").verify() == ()
    assert of_kind(run, "common-rows").steps == (500, 600, 700)


def test_a_stored_run_is_computed_anew_when_its_vocabulary_shrinks(tmp_path: Path) -> None:
    points = Maker(9).walk(LLAMA, count=8)
    folder = saved(tmp_path / "run", points[:5], "safetensors", CONFIG)
    trajsvc.analyze(folder, store=tmp_path / "store", name="run", copy=True)
    for step, tensors in zip((500, 600, 700), points[5:], strict=True):
        place = saved(tmp_path / f"more{step}", [cut(tensors, 50)], "safetensors", CONFIG) / "step_0"
        place.rename(folder / f"step_{step}")
    run = trajsvc.analyze(folder, store=tmp_path / "store", name="run")
    assert_right(run, [cut(p, 50) for p in points])


def test_one_checkpoint_with_other_rows_is_left_out(tmp_path: Path) -> None:
    points = Maker(10).walk(LLAMA, count=8)
    run = analysed(tmp_path, [cut(p, 50) if i == 4 else p for i, p in enumerate(points)], config=CONFIG)
    assert [e["step"] for e in run.excluded] == [400]
    assert said(run) == {"shape-change"}


def test_more_heads_are_no_more_rows(tmp_path: Path) -> None:
    wide = {**LLAMA} | {n: (24, 16) for n in LAYER if n.endswith("v_proj.weight")}
    points = Maker(11).walk(wide, count=6)
    name = "model.layers.0.self_attn.v_proj.weight"
    run = analysed(tmp_path, [cut(p, 16, (name,)) if i < 2 else p for i, p in enumerate(points)], config=CONFIG)
    assert [e["step"] for e in run.excluded] == [0, 100]
    assert said(run) == {"shape-change"}


def test_the_last_checkpoint_alone_may_be_a_fragment(tmp_path: Path) -> None:
    points = Maker(12).walk(LLAMA, count=8)
    run = analysed(tmp_path, [cut(p, 2) if i == 7 else p for i, p in enumerate(points)], config=CONFIG)
    right = oracle(points[:7])
    assert [e["step"] for e in run.excluded] == [700]
    assert abs(float(run.measure("mds")) - right["mds"]) < 1e-9
    assert run.groups()["network"].parameters == matrix(points[:1]).shape[1]
