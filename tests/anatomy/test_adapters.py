"""Adapters stand where their base model's modules do; TransformerLens' names are known."""

from __future__ import annotations

import pytest

from trajsvc.anatomy.adapters import base_name
from trajsvc.anatomy.blocks import Anatomy
from trajsvc.anatomy.dissect import dissect
from trajsvc.anatomy.groups import groups

Shapes = dict[str, tuple[int, ...]]


def anatomy(shapes: Shapes, config: dict[str, object] | None = None) -> Anatomy:
    return dissect({n: (s, "float32") for n, s in shapes.items()}, config)


def placed(found: Anatomy) -> dict[str, tuple[str, str]]:
    return {b.name: (b.layer, b.component) for b in found.blocks}


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight", "model.layers.3.self_attn.q_proj.weight"),
        (
            "base_model.model.model.layers.3.self_attn.q_proj.lora_B.default.weight",
            "model.layers.3.self_attn.q_proj.weight",
        ),
        ("base_model.model.model.layers.3.mlp.up_proj.lora_magnitude_vector", "model.layers.3.mlp.up_proj.weight"),
        ("base_model.model.model.embed_tokens.lora_embedding_A.default", "model.embed_tokens.weight"),
        ("base_model.model.model.layers.3.self_attn.q_proj.base_layer.bias", "model.layers.3.self_attn.q_proj.bias"),
        ("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.weight"),
        ("base_model.model.lm_head.original_module.weight", "lm_head.weight"),
        ("base_model.model.layers.0.k_proj.ia3_l.default", "layers.0.k_proj.weight"),
        ("base_model.model.layers.0.k_proj.hada_w1_a", "layers.0.k_proj.weight"),
        ("model.layers.0.lora_block.fc.weight.extra", "model.layers.0.lora_block.fc.weight.extra"),
        ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
    ],
)
def test_the_base_models_name_of_an_adapters_tensor(name: str, base: str) -> None:
    assert base_name(name).removeprefix("base_model.model.") == base.removeprefix("base_model.model.")


@pytest.mark.parametrize("own", ["", ".default", ".my-task"])
@pytest.mark.parametrize("targets", ["qv", "qkvo"])
def test_a_lora_has_the_layers_and_projections_of_its_base(own: str, targets: str) -> None:
    shapes: Shapes = {}
    for layer in range(11):
        for p in targets:
            stem = f"base_model.model.model.layers.{layer}.self_attn.{p}_proj"
            shapes |= {f"{stem}.lora_A{own}.weight": (4, 32), f"{stem}.lora_B{own}.weight": (32, 4)}
    found = anatomy(shapes)
    assert found.architecture == "llama"
    components = {"q": "attention.q", "k": "attention.k", "v": "attention.v", "o": "attention.out"}
    for name, (layer, component) in placed(found).items():
        assert f".layers.{layer}." in name
        assert component == components[name.partition("self_attn.")[2][0]]
    assert {f"layer/{i}/attention.q" for i in range(11)} <= set(groups(found))


@pytest.mark.parametrize(
    ("stem", "rule", "component"),
    [
        ("base_model.model.encoder.layer.2.attention.self.query", "bert", "attention.q"),
        ("base_model.model.transformer.h.2.attn.q_proj", "gpt-j", "attention.q"),
        ("base_model.model.gpt_neox.layers.2.attention.dense", "gpt-neox", "attention.out"),
        ("base_model.model.gpt_neox.layers.2.attention.query_key_value", "gpt-neox", ""),
        ("base_model.model.transformer.h.2.attn.c_attn", "gpt-2", ""),
    ],
)
def test_adapters_of_other_models(stem: str, rule: str, component: str) -> None:
    found = anatomy({f"{stem}.lora_A.weight": (4, 32), f"{stem}.lora_B.weight": (96, 4)})
    assert found.architecture == rule
    assert set(placed(found).values()) == {("2", component)}


def test_a_config_names_the_base_of_an_adapter() -> None:
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    found = anatomy({f"{stem}.lora_A.weight": (4, 32), f"{stem}.lora_B.weight": (32, 4)}, {"model_type": "opt"})
    assert found.architecture == "opt"


def test_a_whole_model_with_its_adapters() -> None:
    stem = "base_model.model.model.layers.0.self_attn"
    shapes: Shapes = {"base_model.model.model.embed_tokens.weight": (50, 32)}
    for p in "qkvo":
        shapes |= {f"{stem}.{p}_proj.base_layer.weight": (32, 32), f"{stem}.{p}_proj.lora_A.default.weight": (4, 32)}
    shapes["base_model.model.lm_head.modules_to_save.default.weight"] = (50, 32)
    found = placed(anatomy(shapes))
    assert (
        found[f"{stem}.v_proj.base_layer.weight"]
        == found[f"{stem}.v_proj.lora_A.default.weight"]
        == ("0", "attention.v")
    )
    assert found["base_model.model.lm_head.modules_to_save.default.weight"] == ("", "unembedding")


@pytest.mark.parametrize("shared", ["", "_"])
def test_transformer_lens(shared: str) -> None:
    layer = {
        "attn.W_Q": "attention.q", "attn.b_Q": "attention.q", f"attn.{shared}W_K": "attention.k",
        f"attn.{shared}b_K": "attention.k", f"attn.{shared}W_V": "attention.v", f"attn.{shared}b_V": "attention.v",
        "attn.W_O": "attention.out", "attn.b_O": "attention.out", "mlp.W_in": "mlp.in", "mlp.b_in": "mlp.in",
        "mlp.W_gate": "mlp.gate", "mlp.W_out": "mlp.out", "mlp.b_out": "mlp.out", "ln1.w": "norm", "ln1.b": "norm",
    }  # fmt: skip
    shapes: Shapes = {"embed.W_E": (50, 16), "pos_embed.W_pos": (8, 16), "unembed.W_U": (16, 50), "unembed.b_U": (50,)}
    for i in range(2):
        shapes |= {f"blocks.{i}.{name}": (4, 16, 4) if "W_" in name else (4, 4) for name in layer}
    shapes |= {"ln_final.w": (16,), "blocks.0.attn.rotary_sin": (8, 4), "blocks.0.attn.IGNORE": ()}
    found = anatomy(shapes)
    assert found.architecture == "transformer-lens"
    assert set(found.left_out) == {"blocks.0.attn.rotary_sin", "blocks.0.attn.IGNORE"}
    assert {n: c for n, c in placed(found).items() if n.startswith("blocks.1.")} == {
        f"blocks.1.{name}": ("1", component) for name, component in layer.items()
    }
    assert {placed(found)[n][1] for n in ("embed.W_E", "pos_embed.W_pos")} == {"embedding"}
    assert {placed(found)[n][1] for n in ("unembed.W_U", "unembed.b_U")} == {"unembedding"}
