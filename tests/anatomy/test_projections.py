"""Every Q, K and V block against the queries, keys and values that the real module computes.

A forward pass of the model is watched where queries, keys and values meet. Sequences have one token, at position 0, where a
rotation of queries and keys is the identity, so each is a linear function of the attention's input: x W^T + b, with W and b taken
from our block. A plain three-way split of an interleaved tensor has the right shapes and fails here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anatomy_zoo import CASES, Array, Case, Meeting, Saved, inputs_of, kinds, meetings, save

from trajsvc.anatomy.architectures import TABLE, Rules
from trajsvc.anatomy.blocks import Anatomy
from trajsvc.anatomy.dissect import dissect
from trajsvc.anatomy.rule import Fused, Rule

PARTS = ("attention.q", "attention.k", "attention.v")
LINEAR = [case for case in CASES if not case.norm_before_attention]


def example(case: Case) -> dict[str, torch.Tensor]:
    torch.manual_seed(11)
    if case.architecture == "vit":
        return {"pixel_values": torch.randn(4, 3, 8, 8)}
    return {"input_ids": torch.arange(3, 11)[:, None]}


def projected(
    saved: Saved, anatomy: Anatomy, x: Array, component: str, *, layer: str = "1", columns: bool = False
) -> Array:
    """x W^T + b with the blocks of one projection."""
    blocks = [b for b in anatomy.blocks if (b.layer, b.component) == (layer, component)]
    weight = next(b for b in blocks if "weight" in b.tensor)
    flat = saved.gather(weight)
    matrix = flat.reshape(x.shape[-1], -1).T if columns else flat.reshape(-1, x.shape[-1])
    bias = [saved.gather(b) for b in blocks if "bias" in b.tensor]
    assert len(bias) <= 1
    out: Array = x @ matrix.T + (bias[0] if bias else 0.0)
    return out


def watched(case: Case, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> tuple[Array, Meeting]:
    """The input of attention in layer 1, and the queries, keys and values it makes of it."""
    with (
        meetings(model, monkeypatch) as seen,
        inputs_of(model.get_submodule(case.projected)) as inputs,
        torch.no_grad(),
    ):
        model(**example(case))
    assert len(seen) == 2, "one meeting a layer"
    return inputs[0].double().numpy(), seen[1]


def heads_of(flat: Array, kv: int, heads: int) -> Array:
    """(batch, time, kv · head_dim) → (batch, heads, time, head_dim), each key and value repeated for the queries it serves."""
    split = flat.reshape(*flat.shape[:2], kv, -1).transpose(0, 2, 1, 3)
    repeated: Array = np.repeat(split, heads // kv, axis=1)
    return repeated


@pytest.fixture(scope="module", params=LINEAR, ids=lambda case: case.id)
def stored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, torch.nn.Module, Saved]:
    case: Case = request.param
    model = case.build()
    return case, model, save(model, tmp_path_factory.mktemp(case.id))


def test_blocks_make_the_queries_keys_and_values_of_the_real_module(
    stored: tuple[Case, torch.nn.Module, Saved], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, model, saved = stored
    anatomy = saved.dissect()
    assert anatomy.architecture == case.architecture
    x, meeting = watched(case, model, monkeypatch)
    for component, real in zip(PARTS, meeting, strict=True):
        flat = projected(saved, anatomy, x, component, columns=case.architecture == "gpt-2")
        kv = case.heads if component == "attention.q" else case.kv_heads
        ours = heads_of(flat, kv, real.shape[1]) * (case.query_scale if component == "attention.q" else 1.0)
        np.testing.assert_allclose(ours, real.double().numpy(), rtol=1e-4, atol=1e-3, err_msg=component)


def plain(case: Case) -> Rules:
    """The architecture's rule with its fused tensor cut into three."""
    row = next(rule for rule in TABLE if rule.key == case.architecture)
    inside = tuple((name, Fused("concatenated") if isinstance(role, Fused) else role) for name, role in row.inside)
    return Rules((Rule(key="plain", layers=row.layers, inside=inside, outside=row.outside),))


@pytest.mark.parametrize("case", [c for c in CASES if c.id in ("gpt-neox", "bloom", "falcon-mha")], ids=lambda c: c.id)
def test_a_plain_three_way_split_would_be_caught(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = case.build()
    saved = save(model, tmp_path)
    anatomy = saved.dissect(rules=plain(case))
    x, meeting = watched(case, model, monkeypatch)
    flat = projected(saved, anatomy, x, "attention.q")
    assert flat.shape[-1] == meeting[0].shape[1] * meeting[0].shape[3], "the shapes look right"
    assert not np.allclose(heads_of(flat, case.heads, case.heads), meeting[0].double().numpy(), rtol=1e-2, atol=1e-1)


GATED = {"phi-3": ("model.layers.1.mlp", "gate_up_proj", "down_proj", "activation_fn"),
         "modernbert": ("model.layers.1.mlp", "Wi", "Wo", "act")}  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if c.id in GATED], ids=lambda c: c.id)
def test_the_gate_is_the_branch_that_is_activated(case: Case, tmp_path: Path) -> None:
    model = case.build()
    saved = save(model, tmp_path)
    path, fused, down, activation = GATED[case.id]
    mlp = model.get_submodule(path)
    with inputs_of(getattr(mlp, fused)) as x, inputs_of(getattr(mlp, down)) as hidden, torch.no_grad():
        model(**example(case))
    anatomy = saved.dissect()
    given = x[0].double().numpy()
    gate, up = (projected(saved, anatomy, given, c) for c in ("mlp.gate", "mlp.in"))
    activated = getattr(mlp, activation)(torch.from_numpy(gate)).numpy()
    np.testing.assert_allclose(activated * up, hidden[0].double().numpy(), rtol=1e-4, atol=1e-2)


def test_experts_in_one_tensor_are_gate_and_up_of_every_expert() -> None:
    case = next(c for c in CASES if c.id == "mixtral")
    model = case.build()
    saved = Saved(dict(model.state_dict()), dict(model.config.to_dict()))  # type: ignore[union-attr,operator]
    anatomy = saved.dissect()
    stacked = saved.tensors["model.layers.1.mlp.experts.gate_up_proj"].double().numpy()
    gate, up = np.split(stacked, 2, axis=1)
    np.testing.assert_array_equal(saved.part(anatomy, "1", "mlp.gate", "gate_up_proj"), gate.reshape(-1))
    np.testing.assert_array_equal(saved.part(anatomy, "1", "mlp.in", "gate_up_proj"), up.reshape(-1))


def attended(
    module: torch.nn.Module, call: Any, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """What meets in torch's own attention; in training mode, where it takes no fused path around its Python code."""
    module.train()
    with meetings(module, monkeypatch) as seen, torch.no_grad():
        call()
    return seen


def test_multihead_attention_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    attention = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    torch.nn.init.normal_(attention.in_proj_bias)
    query, key, value = torch.randn(3, 4, 5, 24)
    [meeting] = attended(attention, lambda: attention(query, key, value, need_weights=False), monkeypatch)
    saved = Saved(dict(attention.state_dict()), None)
    anatomy = saved.dissect()
    assert anatomy.architecture == "torch-mha"
    for component, x, real in zip(PARTS, (query, key, value), meeting, strict=True):
        layer = next(b.layer for b in anatomy.blocks if b.component == component)
        flat = projected(saved, anatomy, x.double().numpy(), component, layer=layer)
        np.testing.assert_allclose(heads_of(flat, 3, 3), real.double().numpy(), rtol=1e-4, atol=1e-5)


def test_multihead_attention_inside_a_transformer_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    model = torch.nn.Transformer(24, 4, 2, 2, 36, dropout=0.0, batch_first=True)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    source, target = torch.randn(2, 4, 5, 24)
    cross = model.decoder.layers[1].multihead_attn
    with inputs_of(cross) as queries, inputs_of(model.encoder.norm) as memory:
        seen = attended(model, lambda: model(source, target), monkeypatch)
    keys = torch.nn.functional.layer_norm(memory[0], (24,), model.encoder.norm.weight, model.encoder.norm.bias)
    saved = Saved(dict(model.state_dict()), None)
    anatomy = saved.dissect()
    layers = {b.layer for b in anatomy.blocks}
    assert {"encoder.layers.0", "encoder.layers.1", "decoder.layers.0", "decoder.layers.1"} <= layers
    given = {"q": queries[0], "k": keys, "v": keys}
    for part, real in zip(
        "qkv", seen[-1], strict=True
    ):  # the last to meet: cross-attention of the decoder's last layer
        x = given[part].detach().double().numpy()
        flat = projected(saved, anatomy, x, f"cross-attention.{part}", layer="decoder.layers.1")
        np.testing.assert_allclose(heads_of(flat, 4, 4), real.double().numpy(), rtol=1e-4, atol=1e-3)


def test_one_stack_of_torch_layers_is_numbered() -> None:
    layer = torch.nn.TransformerEncoderLayer(24, 4, 36, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    anatomy = dissect(kinds(model.state_dict()))
    assert {b.layer for b in anatomy.blocks} == {"0", "1"}
    assert {b.component for b in anatomy.blocks} == {*PARTS, "attention.out", "mlp.in", "mlp.out", "norm"}


def test_multihead_attention_with_keys_of_another_width_has_its_projections_apart() -> None:
    model = torch.nn.MultiheadAttention(24, 3, kdim=16, vdim=8)
    anatomy = dissect(kinds(model.state_dict()))
    found = {b.name: b.component for b in anatomy.blocks}
    assert [found[f"{part}_proj_weight"] for part in "qkv"] == list(PARTS)
    assert [found[f"in_proj_bias[{part}]"] for part in "qkv"] == list(PARTS)


class TimmAttention(torch.nn.Module):
    """Attention laid out as timm documents it: ``qkv(x).reshape(B, N, 3, heads, head_dim).permute(2, 0, 3, 1, 4)``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.proj = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        result: torch.Tensor = self.proj(out.transpose(1, 2).reshape(b, n, c))
        return result


def test_timm_layout_by_its_documented_reshape(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm itself is not among the test dependencies (it needs torchvision), so this is its reshape in a module of our own; the
    next test takes the real one where it is installed."""
    torch.manual_seed(2)
    blocks = [torch.nn.ModuleDict({"attn": TimmAttention(24, 3), "mlp": torch.nn.ModuleDict(
        {"fc1": torch.nn.Linear(24, 36), "fc2": torch.nn.Linear(36, 24)})}) for _ in range(2)]  # fmt: skip
    model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList(blocks)})
    _check_timm(model, model.get_submodule("blocks.1.attn"), monkeypatch)


def test_real_timm_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5
    )
    anatomy = _check_timm(model, model.get_submodule("blocks.1.attn"), monkeypatch)
    assert {b.component for b in anatomy.blocks if b.layer == "1"} == {
        *PARTS,
        "attention.out",
        "mlp.in",
        "mlp.out",
        "norm",
    }


def _check_timm(model: torch.nn.Module, attention: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> Anatomy:
    x = torch.randn(4, 5, 24)
    with meetings(attention, monkeypatch) as seen, torch.no_grad():
        attention.eval()(x)
    saved = Saved(dict(model.state_dict()), None)
    anatomy = saved.dissect()
    assert anatomy.architecture == "vit-timm"
    for component, real in zip(PARTS, seen[0], strict=True):
        flat = projected(saved, anatomy, x.double().numpy(), component)
        np.testing.assert_allclose(heads_of(flat, 3, 3), real.double().numpy(), rtol=1e-4, atol=1e-5)
    return anatomy


def test_gpt_2_rewritten_with_linear_layers_is_split_by_rows() -> None:
    """A Linear under the name ``c_attn`` holds [3 · out, in]; such scripts take ``c_attn(x).split(width, dim=2)``."""
    torch.manual_seed(1)
    linear = torch.nn.Linear(24, 72)
    name = "transformer.h.0.attn.c_attn"
    saved = Saved({f"{name}.weight": linear.weight.detach(), f"{name}.bias": linear.bias.detach()}, None)
    anatomy = saved.dissect()
    assert anatomy.architecture == "gpt-2"
    x = torch.randn(2, 5, 24)
    for component, real in zip(PARTS, linear(x).split(24, dim=2), strict=True):
        flat = projected(saved, anatomy, x.double().numpy(), component, layer="0")
        np.testing.assert_allclose(flat, real.detach().double().numpy(), rtol=1e-4, atol=1e-5)
