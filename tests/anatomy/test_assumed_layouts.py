"""Layouts that are taken from names alone: said, and not taken where the shapes are others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import trajsvc
from trajsvc.anatomy.dissect import dissect
from trajsvc.errors import Refused
from trajsvc.results.run import Run

Shapes = Mapping[str, tuple[int, ...]]
D, HEADS = 16, 4
GPT2: Shapes = {
    "transformer.wte.weight": (30, D),
    "transformer.h.0.attn.c_attn.weight": (D, 3 * D),
    "transformer.h.0.attn.c_attn.bias": (3 * D,),
    "transformer.h.0.attn.c_proj.weight": (D, D),
    "transformer.h.0.mlp.c_fc.weight": (D, 4 * D),
}
LINEAR = {n: (s[::-1] if ".h.0." in n else s) for n, s in GPT2.items()}
"""as nanoGPT keeps them"""
MULTI_QUERY = {**LINEAR, "transformer.h.0.attn.c_attn.weight": (D + 8, D), "transformer.h.0.attn.c_attn.bias": (D + 8,)}
NEOX: Shapes = {
    "gpt_neox.embed_in.weight": (30, D),
    "gpt_neox.layers.0.attention.query_key_value.weight": (3 * D, D),
    "gpt_neox.layers.0.attention.query_key_value.bias": (3 * D,),
    "gpt_neox.layers.0.attention.dense.weight": (D, D),
}


def experts(gate_up: tuple[int, ...]) -> Shapes:
    inside = {f"self_attn.{n}_proj.weight": (D, D) for n in "qkvo"}
    return {
        f"model.layers.0.{n}": s
        for n, s in {**inside, "mlp.experts.gate_up_proj": gate_up, "mlp.experts.down_proj": (4, D, 12)}.items()
    }


def kinds(shapes: Shapes) -> dict[str, tuple[tuple[int, ...], str]]:
    return {n: (s, "float32") for n, s in shapes.items()}


def analysed(tmp_path: Path, shapes: Shapes, **options: object) -> tuple[Run, list[dict[str, torch.Tensor]]]:
    rng = np.random.default_rng(0)
    points = [
        {n: torch.tensor(rng.normal(0, 1 + t, s), dtype=torch.float32) for n, s in shapes.items()} for t in range(3)
    ]
    for t, point in enumerate(points):
        folder = tmp_path / "run" / f"step_{t}"
        folder.mkdir(parents=True)
        save_file(point, folder / "model.safetensors")
    return trajsvc.analyze(tmp_path / "run", store=tmp_path / "store", name="run", **options), points  # type: ignore[arg-type]


def squared_norms(run: Run, group: str) -> np.ndarray:
    return np.asarray(run.measure("norm", group), dtype=np.float64) ** 2


@pytest.mark.parametrize("shapes", [GPT2, LINEAR], ids=["Conv1D", "Linear"])
def test_a_run_without_a_config_says_what_it_takes_c_attn_for(tmp_path: Path, shapes: Shapes) -> None:
    run, points = analysed(tmp_path, shapes)
    (found,) = [f for f in run.findings if f.kind == "layout"]
    assert "c_attn.weight and 1 more: taken to hold q, k, v one after the other, as in gpt-2" in found.message
    assert found.severity == "info"
    axis = 1 if shapes is GPT2 else 0
    for i, part in enumerate("qkv"):
        right = [
            p["transformer.h.0.attn.c_attn.weight"].double().chunk(3, axis)[i].square().sum()
            + p["transformer.h.0.attn.c_attn.bias"].double().chunk(3)[i].square().sum()
            for p in points
        ]
        np.testing.assert_allclose(squared_norms(run, f"layer/0/attention.{part}"), right, rtol=1e-9)


def test_heads_that_were_given_are_said_with_the_layout(tmp_path: Path) -> None:
    run, points = analysed(tmp_path, NEOX, heads=HEADS)
    (found,) = [f for f in run.findings if f.kind == "layout"]
    assert "taken to hold q, k, v head by head, 4 heads, as in gpt-neox" in found.message
    weights = [p["gpt_neox.layers.0.attention.query_key_value.weight"].double().view(HEADS, 3, -1, D) for p in points]
    biases = [p["gpt_neox.layers.0.attention.query_key_value.bias"].double().view(HEADS, 3, -1) for p in points]
    for i, part in enumerate("qkv"):
        right = [w[:, i].square().sum() + b[:, i].square().sum() for w, b in zip(weights, biases, strict=True)]
        np.testing.assert_allclose(squared_norms(run, f"layer/0/attention.{part}"), right, rtol=1e-9)


def test_without_heads_the_question_is_asked(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="number of heads is not known"):
        analysed(tmp_path, NEOX)


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (MULTI_QUERY, "transformer.h.0.attn.c_attn"),
        (experts((4, D, 24)), "model.layers.0.mlp.experts.gate_up_proj"),  # gpt-oss, LLaMA 4
        (experts((4, D, D)), "model.layers.0.mlp.experts.gate_up_proj"),
    ],
    ids=["multi-query", "columns of experts", "square"],
)
def test_shapes_of_another_layout_are_left_whole_and_said(tmp_path: Path, shapes: Shapes, name: str) -> None:
    run, _ = analysed(tmp_path, shapes)
    (found,) = [f for f in run.findings if f.kind == "layout"]
    assert name in found.message
    assert "left whole" in found.message
    assert not any("[" in g for g in run.groups())


def test_rows_of_experts_are_split_by_their_shape() -> None:
    found = dissect(kinds(experts((4, 24, D))))
    assert [b.part for b in found.blocks if "gate_up" in b.tensor] == ["gate", "up"]
    assert "gate_up_proj: taken to hold gate, up one after the other, as in llama" in found.layouts[0]


@pytest.mark.parametrize(
    ("shapes", "config"),
    [
        (GPT2, {"model_type": "gpt2", "n_head": HEADS}),
        (NEOX, {"model_type": "gpt_neox", "num_attention_heads": HEADS}),
        (experts((4, 24, D)), {"model_type": "qwen3_moe", "num_attention_heads": HEADS}),
    ],
    ids=["gpt2", "neox", "moe"],
)
def test_nothing_is_assumed_where_a_config_says_it(shapes: Shapes, config: dict[str, object]) -> None:
    assert dissect(kinds(shapes), config).layouts == ()
