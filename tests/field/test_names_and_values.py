"""Names that change in mid-run are brought together; values that are not finite leave the rest answered; nothing left is a refusal."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from field_runs import Maker, Point, analysed, assert_right, of_kind, said

from trajsvc.errors import Refused, UsageError
from trajsvc.sources.rename_hints import suggested_renames
from trajsvc.sources.renames import apply_renames, read_renames

NAMES = {
    "model.layers.0.w": (8, 8),
    "model.layers.1.w": (8, 8),
    "visual.blocks.0.w": (8, 8),
    "visual.blocks.0.norm.weight": (8,),
}


def renamed(point: Point, **moves: str) -> Point:
    """The point with each name that contains a key under what the value says instead; ``__`` is a dot."""
    out = {}
    for name, tensor in point.items():
        old = next((k for k in moves if k.replace("__", ".") in name), None)
        out[name if old is None else name.replace(old.replace("__", "."), moves[old], 1)] = tensor
    return out


@pytest.mark.parametrize(
    "moves",
    [
        {"model__layers": "model.language_model.layers", "visual__": "model.visual."},
        {"norm__weight": "norm.gamma"},
        {"model__": "language_model.model."},
    ],
)
def test_a_run_renamed_in_its_middle_is_one(tmp_path: Path, moves: dict[str, str]) -> None:
    points = Maker(1).walk(NAMES, count=8)
    run = analysed(tmp_path, [renamed(p, **moves) if i >= 4 else p for i, p in enumerate(points)])
    assert_right(run, points)
    assert not said(run)
    assert of_kind(run, "renamed").steps == (0, 100, 200, 300)


def test_experts_stored_apart_and_as_one_are_the_same(tmp_path: Path) -> None:
    parts = {f"layers.0.mlp.experts.{e}.{w}_proj.weight": (4, 8) for e in range(3) for w in ("gate", "up")}
    points = Maker(2).walk(parts | {"layers.0.w": (8, 8)})
    full: list[Point] = []
    for i, p in enumerate(points):
        fused = torch.stack(
            [torch.cat([p[f"layers.0.mlp.experts.{e}.{w}_proj.weight"] for w in ("gate", "up")]) for e in range(3)]
        )
        full.append(p if i < 2 else {"layers.0.mlp.experts.gate_up_proj": fused, "layers.0.w": p["layers.0.w"]})
    run = analysed(tmp_path, full)
    assert_right(run, points)
    assert not said(run)


def test_a_layer_never_becomes_another_and_towers_that_look_alike_are_not_guessed(tmp_path: Path) -> None:
    points = Maker(3).walk({f"layers.{i}.w": (8, 8) for i in range(3)})
    moved = [{n.replace("layers.0", "layers.3"): t for n, t in p.items()} if i > 2 else p for i, p in enumerate(points)]
    assert "name-change" in said(analysed(tmp_path, moved, name="shifted"))
    towers = Maker(4).walk({"one.fc.w": (8, 8), "two.fc.w": (8, 8)})
    other = [
        {n.replace("one", "a").replace("two", "b"): t for n, t in p.items()} if i > 2 else p
        for i, p in enumerate(towers)
    ]
    assert "name-change" in said(analysed(tmp_path, other, name="towers"))
    run = analysed(tmp_path, other, name="towers", called="said", rename=["one.=a.", "two.=b."])
    assert_right(run, towers)


def test_the_forms_of_a_rename() -> None:
    for text, name, new in [
        ("wte.weight=embed.weight", "wte.weight", "embed.weight"), ("visual.=model.visual.", "visual.a.w", "model.visual.a.w"),
        ("*.gamma=*.weight", "a.b.gamma", "a.b.weight"), (r"^h\.(\d+)\.=layers.\1.", "h.12.w", "layers.12.w"),
    ]:  # fmt: skip
        assert apply_renames(read_renames([text]), [name, "other"])[0] == {name: new, "other": "other"}
    for wrong in ("a", "=b", "^(a+)+$=x", r"^a=\1", "*=**", "^a*b*c*d*=x"):
        with pytest.raises(UsageError, match="--rename"):
            read_renames([wrong])
    with pytest.raises(UsageError, match="both"):
        apply_renames(read_renames(["*.a=x"]), ["p.a", "q.a"])


@pytest.mark.parametrize("first", [0, 1])
def test_a_tensor_that_is_not_finite_leaves_the_others_answered(tmp_path: Path, first: int) -> None:
    points = Maker(5).walk()
    full = [dict(p) for p in points]
    for p in full[first:]:
        p["fc1.weight"] = p["fc1.weight"].clone()
        p["fc1.weight"][0, 0] = math.nan
    run = analysed(tmp_path, full)
    for name in ("fc1.bias", "fc2.weight", "emb.weight"):
        assert_right(run, [{name: p[name]} for p in points], f"tensor/{name}")
    assert np.isnan(run.measure("mds"))
    assert np.isnan(run.measure("mds", "layer/fc1"))
    found = of_kind(run, "undefined-tensors")
    assert found.tensors == ("fc1.weight",)
    assert ("only step 0 is finite" if first else "no checkpoint is finite") in found.message


def test_one_checkpoint_that_is_not_finite_is_left_out_as_before(tmp_path: Path) -> None:
    full = Maker(6).walk()
    full[2]["fc1.bias"][0] = math.inf
    run = analysed(tmp_path, full)
    assert run.steps.tolist() == [0, 100, 300, 400, 500]
    assert of_kind(run, "non-finite").steps == (200,)


def test_empty_and_quantised_matrices_are_warned_of(tmp_path: Path) -> None:
    points = Maker(7).walk({"a.norm.weight": (8,)})
    empty = [{**p, "a.q_proj.weight": torch.empty(0)} for p in points]
    run = analysed(tmp_path, empty, name="empty", kind="safetensors")
    assert "zero_to_fp32.py" in of_kind(run, "empty-tensors").message
    packed = [
        {**p, "a.fc.qweight": torch.ones(8, 8, dtype=torch.int32), "a.fc.scales": torch.ones(4, 8)} for p in points
    ]
    run = analysed(tmp_path, packed, name="packed")
    assert_right(run, points)
    assert said(run) == {"not-floating"}


def test_nothing_left_is_refused_with_what_was_there(tmp_path: Path) -> None:
    masks = [{"a.mask": torch.ones(3, 3, dtype=torch.bool), "b.running_mean": torch.zeros(3)}] * 2
    with pytest.raises(Refused, match=r"a\.mask .*b\.running_mean") as caught:
        analysed(tmp_path, masks)
    assert caught.value.kind == "no-parameters"


@pytest.mark.parametrize("changed", [("model.layers.0.w", "model.layers.1.w"), tuple(NAMES)])
def test_a_type_that_changes_is_a_warning(tmp_path: Path, changed: tuple[str, ...]) -> None:
    points = Maker(31).walk(NAMES, count=6)
    stored = [{n: v.bfloat16() if i > 3 and n in changed else v for n, v in p.items()} for i, p in enumerate(points)]
    run = analysed(tmp_path, stored)
    assert_right(run, stored)
    found = of_kind(run, "type-change")
    assert found.steps == (400, 500)
    assert found.tensors == changed
    assert "most checkpoints are float32, but bfloat16 at steps 400, 500" in found.message
    assert said(run) == {"type-change"}


def test_types_that_differ_between_tensors_are_no_change(tmp_path: Path) -> None:
    points = [{n: v.half() if "norm" in n else v for n, v in p.items()} for p in Maker(32).walk(NAMES)]
    assert not said(analysed(tmp_path, points))


TWO = {f"layers.{i}.{w}.weight": (8, 8) for i in range(2) for w in ("attn.query", "attn.key", "mlp.up")} | {
    "embed.weight": (9, 8)
}


@pytest.mark.parametrize(
    ("moves", "renames"),
    [
        ({"attn__query": "attn.q_proj", "attn__key": "attn.k_proj"}, {"*.q_proj.*=*.query.*", "*.k_proj.*=*.key.*"}),
        ({"embed__": "tokens."}, {"tokens.=embed."}),
    ],
)
def test_a_name_that_changes_is_told_with_the_line_to_type(
    tmp_path: Path, moves: dict[str, str], renames: set[str]
) -> None:
    points = Maker(41).walk(TWO, count=6)
    files = [renamed(p, **moves) if i < 2 else p for i, p in enumerate(points)]
    run = analysed(tmp_path, files)
    first, second = [f for f in run.findings if f.kind == "name-change"]
    assert set(first.details["rename"]) == renames
    assert f"trajsvc analyze {tmp_path / 'run'} --rename" in first.message
    assert "--rename" not in second.message
    again = analysed(tmp_path, files, called="again", rename=first.details["rename"])
    assert_right(again, points)
    assert not said(again)


def test_numbers_between_the_parts_stay() -> None:
    one = {f"h.{i}.self.{w}": (8, 8) for i in range(3) for w in ("q", "k")}
    other = {f"layers.{i}.attn.{w}": (8, 8) for i in range(3) for w in ("q", "k")}
    assert suggested_renames(one, other) == (r"^h\.(\d+)\.self\.=layers.\1.attn.",)


def test_two_readings_are_no_reason_to_suggest_one() -> None:
    one = {"a.weight": (4, 4), "b.weight": (4, 4), "c.weight": (2,)}
    other = {"x1.weight": (4, 4), "y1.weight": (4, 4), "c.weight": (2,)}
    assert suggested_renames(one, other) == ()
    assert suggested_renames({"a.w": (4,)}, {"a.w": (5,)}) == ()
