"""A head that is tied to its embedding and saved beside it, with padding, in another type, or at some checkpoints alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from field_runs import Maker, Point, analysed, assert_right, of_kind, said
from safetensors.torch import load_file

import trajsvc

GPT = {
    "transformer.wte.weight": (50, 16),
    "transformer.h.0.mlp.c_fc.weight": (16, 64),
    "transformer.h.0.mlp.c_fc.bias": (64,),
    "transformer.h.1.attn.c_attn.weight": (16, 48),
}
PLAIN = {"first.weight": (50, 16), "fc1.weight": (24, 16), "fc2.weight": (16, 24)}
CONFIGS = {
    "no config": None,
    "tied by default": {"model_type": "gpt2", "n_head": 2, "n_layer": 2},
    "tied": {"model_type": "gpt2", "n_head": 2, "n_layer": 2, "tie_word_embeddings": True},
    "not tied": {"model_type": "gpt2", "n_head": 2, "n_layer": 2, "tie_word_embeddings": False},
}
WTE, HEAD = "transformer.wte.weight", "lm_head.weight"
Change = Callable[[torch.Tensor], torch.Tensor]


def padded(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, rows.new_zeros(14, rows.shape[1])])


def half(rows: torch.Tensor) -> torch.Tensor:
    return rows.bfloat16()


def same(rows: torch.Tensor) -> torch.Tensor:
    return rows.clone()


SAVED: dict[str, tuple[Change, Change]] = {
    "head padded": (same, padded),
    "embedding padded": (padded, same),
    "head in bfloat16": (same, half),
    "embedding in bfloat16": (half, same),
    "head padded and in bfloat16": (same, lambda t: padded(t.bfloat16())),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("how", SAVED)
def test_the_copy_is_counted_once_and_named(tmp_path: Path, how: str, config: str) -> None:
    embedding, head = SAVED[how]
    made = Maker(1).walk(GPT)
    points = [{**p, WTE: embedding(p[WTE])} for p in made]
    full = [{**p, HEAD: head(m[WTE])} for p, m in zip(points, made, strict=True)]
    run = analysed(tmp_path, full, kind="safetensors", config=CONFIGS[config])
    assert_right(run, points)
    assert not said(run)
    assert run.attributes["left_out"] == {HEAD: f"tied to {WTE}"}
    assert run.groups()["embedding"].parameters == points[0][WTE].numel()


@pytest.mark.parametrize("how", ["head padded", "head in bfloat16"])
def test_names_that_say_nothing_are_recognised_too(tmp_path: Path, how: str) -> None:
    points = Maker(2).walk(PLAIN)
    change = SAVED[how][1]
    full = [{**p, "out.weight": change(p["first.weight"])} for p in points]
    run = analysed(tmp_path, full)
    # of two that are called alike the one with more rows is counted, so that nothing is lost
    kept = "out.weight" if how == "head padded" else "first.weight"
    left = "first.weight" if how == "head padded" else "out.weight"
    assert_right(run, [{n: t for n, t in p.items() if n != left} for p in full])
    assert run.attributes["left_out"] == {left: f"tied to {kept}"}


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("config", ["no config", "tied by default"])
def test_a_copy_that_later_checkpoints_no_longer_have_is_one(tmp_path: Path, kind: str, config: str) -> None:
    points = Maker(9).walk(GPT)
    full = [
        {**p, HEAD: p[WTE].clone() if kind == "safetensors" else p[WTE]} if t < 3 else p for t, p in enumerate(points)
    ]
    run = analysed(tmp_path, full, kind=kind, config=CONFIGS[config])
    assert_right(run, points)
    assert not said(run)
    assert run.attributes["left_out"] == {HEAD: f"tied to {WTE}"}


def test_padding_that_is_trained_is_a_warning_whose_option_counts_it(tmp_path: Path) -> None:
    make = Maker(3)
    points, more = make.walk(GPT), make.walk({"rows": (14, 16)})
    full = [{**p, HEAD: torch.cat([p[WTE], m["rows"]])} for p, m in zip(points, more, strict=True)]
    run = analysed(tmp_path, full)
    assert_right(run, points)
    assert said(run) == {"equal-copies"}
    options = shlex.split(of_kind(run, "equal-copies").message.rpartition(", ")[2])
    assert options == ["--exclude", WTE]
    again = analysed(tmp_path, full, called="again", exclude=options[1::2])
    assert_right(again, [{n: t for n, t in p.items() if n != WTE} for p in full])


@pytest.mark.parametrize("tied", [(0, 1, 2), (3, 4, 5), (0, 1, 2, 4, 5)], ids=["first", "last", "all but one"])
@pytest.mark.parametrize("config", ["no config", "tied"])
def test_what_is_equal_at_some_checkpoints_is_counted_twice_and_said(
    tmp_path: Path, tied: tuple[int, ...], config: str
) -> None:
    make = Maker(4)
    points, heads = make.walk(GPT), make.walk({HEAD: (50, 16)})
    full: list[Point] = [
        {**p, HEAD: p[WTE].clone() if t in tied else h[HEAD]}
        for t, (p, h) in enumerate(zip(points, heads, strict=True))
    ]
    run = analysed(tmp_path, full, kind="safetensors", config=CONFIGS[config])
    assert_right(run, full)
    found = of_kind(run, "equal-at-times")
    assert found.steps == tuple(100 * t for t in tied)
    assert set(found.tensors) == {HEAD, WTE}
    for doubt in (f for f in run.findings if f.kind == "suspect-tensors"):
        assert doubt.details["exclude"] == [HEAD]


@pytest.mark.parametrize("config", ["tied by default", "tied"])
def test_a_head_of_its_own_is_counted_whatever_the_config_says(tmp_path: Path, config: str) -> None:
    full = Maker(5).walk({**GPT, HEAD: (50, 16)})
    run = analysed(tmp_path, full, kind="safetensors", config=CONFIGS[config])
    assert_right(run, full)
    assert said(run) == {"not-tied"}
    line = shlex.split(of_kind(run, "not-tied").message.rpartition(": ")[2])
    assert line == ["--exclude", HEAD]
    again = analysed(tmp_path, full, called="again", exclude=[HEAD])
    assert_right(again, [{n: t for n, t in p.items() if n != HEAD} for p in full])


def test_a_reference_in_another_type_that_does_not_move_is_no_copy(tmp_path: Path) -> None:
    """Updates below the rounding of bfloat16: equal to rounding at every checkpoint, and not the same parameters."""
    points = Maker(6).walk({"policy.weight": (32, 16), "fc.weight": (16, 16)}, start=1.0, move=1e-6)
    reference = points[0]["policy.weight"].bfloat16()
    run = analysed(tmp_path, [{**p, "other.weight": reference} for p in points])
    assert not run.attributes["left_out"]


def test_part_of_a_fused_projection_is_no_padded_copy(tmp_path: Path) -> None:
    points = Maker(7).walk({"fused.weight": (48, 16), "fc.weight": (16, 16)})
    full = [{**p, "third.weight": p["fused.weight"][:16].clone()} for p in points]
    assert_right(analysed(tmp_path, full), full)


@pytest.mark.parametrize("how", ["head padded", "embedding padded", "head in bfloat16"])
def test_an_average_is_tied_as_its_checkpoints_are(tmp_path: Path, how: str) -> None:
    embedding, head = SAVED[how]
    made = Maker(8).walk(GPT)
    full = [{**p, WTE: embedding(p[WTE]), HEAD: head(p[WTE])} for p in made]
    analysed(tmp_path, full, kind="safetensors", config=CONFIGS["tied"])
    trajsvc.average("run", tmp_path / "out", last=3, store=tmp_path / "store")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found[HEAD].shape == full[0][HEAD].shape
    assert found[HEAD].dtype == full[0][HEAD].dtype
    mean = torch.stack([p[WTE].double() for p in made[-3:]]).mean(0)
    for name, rows in ((WTE, found[WTE]), (HEAD, found[HEAD])):
        close = 2.0**-8 if rows.dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(rows[:50].double(), mean, rtol=close, atol=1e-7, msg=name)
        assert not rows[50:].any()
