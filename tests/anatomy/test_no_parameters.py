"""What is left out, and why: buffers by anchored name, types that are no numbers to train, tensors that are another's bytes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from anatomy_zoo import kinds

from trajsvc.anatomy.dissect import dissect

Kinds = dict[str, tuple[tuple[int, ...], str]]
NEOX_CONFIG = {"model_type": "gpt_neox", "num_attention_heads": 2}


def neox(mask: str = "uint8", kind: str = "float16") -> Kinds:
    """One layer as older files have it, with its buffers."""
    layer = "gpt_neox.layers.0"
    return {
        "gpt_neox.embed_in.weight": ((10, 8), kind),
        f"{layer}.input_layernorm.weight": ((8,), kind),
        f"{layer}.attention.bias": ((1, 1, 16, 16), mask),
        f"{layer}.attention.masked_bias": ((), kind),
        f"{layer}.attention.rotary_emb.inv_freq": ((2,), kind),
        f"{layer}.attention.query_key_value.weight": ((24, 8), kind),
        f"{layer}.attention.query_key_value.bias": ((24,), kind),
        f"{layer}.attention.dense.weight": ((8, 8), kind),
        f"{layer}.attention.dense.bias": ((8,), kind),
        "embed_out.weight": ((10, 8), kind),
    }


@pytest.mark.parametrize("mask", ["uint8", "bool", "float16", "float32"])
def test_buffers_of_pythia_are_no_parameters_and_biases_are(mask: str) -> None:
    """The mask is known by its whole name, whatever its type; ``dense.bias`` and ``query_key_value.bias`` end alike and stay."""
    anatomy = dissect(neox(mask), NEOX_CONFIG)
    layer = "gpt_neox.layers.0.attention"
    assert set(anatomy.left_out) == {f"{layer}.bias", f"{layer}.masked_bias", f"{layer}.rotary_emb.inv_freq"}
    assert all(why.startswith("buffer: ") for why in anatomy.left_out.values())
    kept = {b.tensor for b in anatomy.blocks}
    assert {f"{layer}.dense.bias", f"{layer}.query_key_value.bias"} <= kept
    assert len(kept) == 7


def test_a_mask_of_another_shape_is_still_the_rules_buffer() -> None:
    tensors = neox("float32")
    tensors["gpt_neox.layers.0.attention.bias"] = ((16, 16), "float32")
    assert "gpt_neox.layers.0.attention.bias" in dissect(tensors, NEOX_CONFIG).left_out


def test_buffers_of_gpt_2() -> None:
    h = "transformer.h.0"
    tensors = {
        f"{h}.attn.bias": ((1, 1, 16, 16), "float32"),
        f"{h}.attn.masked_bias": ((), "float32"),
        f"{h}.attn.c_attn.weight": ((8, 24), "float32"),
        f"{h}.attn.c_attn.bias": ((24,), "float32"),
        f"{h}.attn.c_proj.bias": ((8,), "float32"),
    }
    assert list(dissect(tensors).left_out) == [f"{h}.attn.bias", f"{h}.attn.masked_bias"]


def test_names_like_buffers_are_parameters_in_other_networks() -> None:
    """``attention.bias`` is a parameter where no rule says otherwise, unless it has the shape of a mask."""
    tensors = {
        "block.0.attention.bias": ((8,), "float32"),
        "block.0.attention.masked_bias": ((1,), "float32"),
        "block.1.attention.bias": ((1, 1, 16, 16), "float32"),
        "block.1.attention.mask": ((1, 1, 16, 16), "float32"),
        "block.1.conv.weight": ((1, 1, 3, 3), "float32"),
        "block.1.relative.bias": ((1, 4, 16, 16), "float32"),
        "block.2.inverse_frequency.weight": ((2,), "float32"),
    }
    anatomy = dissect(tensors)
    assert anatomy.architecture == "generic"
    assert list(anatomy.left_out) == ["block.1.attention.bias", "block.1.attention.mask"]


def test_statistics_of_batch_norm_are_no_parameters() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    anatomy = dissect(kinds(model.state_dict()))
    assert set(anatomy.left_out) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert {b.tensor for b in anatomy.blocks} == {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize(
    "name", ["bert.embeddings.position_ids", "embeddings.token_type_ids", "model.layers.0.self_attn.rotary_emb.inv_freq",
             "rotary_emb.original_inv_freq", "layers.0.self_attn.rotary_emb.cos_cached"]
)  # fmt: skip
def test_indices_and_rotary_tables_are_no_parameters_even_as_floats(name: str) -> None:
    assert set(dissect({name: ((4,), "float32"), "fc.weight": ((2, 2), "float32")}).left_out) == {name}


@pytest.mark.parametrize("kind", ["int64", "uint8", "bool", "float8_e4m3fn", "complex64"])
def test_other_types_are_left_out_and_named(kind: str) -> None:
    anatomy = dissect({"fc.weight": ((2, 2), "bfloat16"), "fc.code": ((2,), kind)})
    assert anatomy.left_out == {"fc.code": f"not a floating type: {kind}"}


def test_a_tensor_without_elements_is_left_out() -> None:
    assert dissect({"fc.weight": ((0, 2), "float32")}).left_out == {"fc.weight": "no elements"}


def test_nothing_gives_an_empty_anatomy() -> None:
    anatomy = dissect({})
    assert (anatomy.blocks, anatomy.left_out) == ((), {})


LM = {"lm_head.weight": ((10, 8), "float32"), "transformer.wte.weight": ((10, 8), "float32"),
      "transformer.h.0.attn.c_attn.weight": ((8, 24), "float32")}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"model_type": "gpt2", "tie_word_embeddings": True}, True),
        ({"model_type": "gpt2", "tie_word_embeddings": False}, False),
        ({"model_type": "gpt2"}, True),  # what GPT-2's config means where it does not say
        (None, False),  # no config, no shared bytes: two tensors
    ],
)
def test_tied_embeddings_by_the_config(config: Mapping[str, object] | None, tied: bool) -> None:
    anatomy = dissect(LM, config)
    assert anatomy.left_out == ({"lm_head.weight": "tied to transformer.wte.weight"} if tied else {})


def test_untied_is_what_a_silent_neox_config_means() -> None:
    assert "embed_out.weight" not in dissect(neox(), NEOX_CONFIG).left_out
    assert dissect(neox(), NEOX_CONFIG | {"tie_word_embeddings": True}).left_out["embed_out.weight"] == (
        "tied to gpt_neox.embed_in.weight"
    )


def test_tensors_of_the_same_bytes_count_once_as_the_embedding() -> None:
    """A torch file keeps the head before the embedding; the one that stays is the embedding."""
    anatomy = dissect(
        LM, {"model_type": "gpt2", "tie_word_embeddings": False}, tied={"transformer.wte.weight": "lm_head.weight"}
    )
    assert anatomy.left_out == {"lm_head.weight": "tied to transformer.wte.weight"}
    assert [b.component for b in anatomy.blocks if b.tensor == "transformer.wte.weight"] == ["embedding"]


def test_shared_layers_of_a_network_count_once() -> None:
    tensors = {f"blocks.{i}.weight": ((4, 4), "float32") for i in range(3)}
    anatomy = dissect(tensors, tied={"blocks.1.weight": "blocks.0.weight", "blocks.2.weight": "blocks.0.weight"})
    assert [b.name for b in anatomy.blocks] == ["blocks.0.weight"]
    assert set(anatomy.left_out.values()) == {"tied to blocks.0.weight"}


def test_a_tensor_tied_to_a_buffer_stays() -> None:
    anatomy = dissect({"a.inv_freq": ((4,), "float32"), "b.weight": ((4,), "float32")}, tied={"b.weight": "a.inv_freq"})
    assert [b.name for b in anatomy.blocks] == ["b.weight"]


def test_a_head_of_another_shape_is_not_tied() -> None:
    tensors = LM | {"lm_head.weight": ((12, 8), "float32")}
    assert "lm_head.weight" not in dissect(tensors, {"model_type": "gpt2"}).left_out


def test_both_tied_tensors_of_berts_head_are_left_out() -> None:
    """Older files hold them: the decoder's weight is the embedding, its bias the head's own."""
    tensors: Kinds = {
        "bert.embeddings.word_embeddings.weight": ((10, 8), "float32"),
        "bert.embeddings.LayerNorm.gamma": ((8,), "float32"),
        "bert.encoder.layer.0.attention.self.query.weight": ((8, 8), "float32"),
        "bert.encoder.layer.0.output.LayerNorm.beta": ((8,), "float32"),
        "cls.predictions.bias": ((10,), "float32"),
        "cls.predictions.decoder.weight": ((10, 8), "float32"),
        "cls.predictions.decoder.bias": ((10,), "float32"),
    }
    anatomy = dissect(tensors, {"model_type": "bert", "num_attention_heads": 2})
    assert set(anatomy.left_out) == {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    components = {b.name: b.component for b in anatomy.blocks}
    assert components["cls.predictions.bias"] == "unembedding"
    assert (
        components["bert.encoder.layer.0.output.LayerNorm.beta"]
        == components["bert.embeddings.LayerNorm.gamma"]
        == "norm"
    )
