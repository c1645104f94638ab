"""Tiny real models: what each library writes to its files, and what its modules compute."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from trajsvc.anatomy.blocks import Anatomy, Block, Extent
from trajsvc.anatomy.dissect import dissect

Array = NDArray[np.float64]
NUMPY_NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float64: "float64"}
LAYERS = 2
SMALL: dict[str, Any] = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDE: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": LAYERS, "intermediate_size": 36, **SMALL}
GROUPED: dict[str, Any] = {"num_attention_heads": 6, "num_key_value_heads": 2, **WIDE}


@dataclass(frozen=True)
class Case:
    """A model of transformers: its class, its configuration, the architecture it is, and the module whose input is projected."""

    id: str
    model: str
    config: str
    options: Mapping[str, Any]
    architecture: str
    projected: str
    """path, in layer 1 of the running model, of the module that makes the queries"""
    kv_heads: int
    heads: int
    norm_before_attention: bool = False
    """whether queries and keys are normalised before they meet: then they are not linear in the input"""
    query_scale: float = 1.0
    """what the module multiplies queries with before they meet keys"""

    def build(self) -> torch.nn.Module:
        import transformers

        torch.manual_seed(7)
        config = getattr(transformers, self.config)(**self.options)
        config._attn_implementation = "eager" if self.architecture in ("bloom", "gpt-j", "gpt-neo") else "sdpa"
        model: torch.nn.Module = getattr(transformers, self.model)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        return model.eval()


def _falcon(id: str, **options: Any) -> Case:
    base = {"hidden_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": 6, **SMALL}
    kv = {"mq": 1, "new": 2}.get(id, 6)
    return Case(f"falcon-{id}", "FalconForCausalLM", "FalconConfig", base | options, "falcon",
                "transformer.h.1.self_attention.query_key_value", kv, 6)  # fmt: skip


CASES = (
    Case("gpt-neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", {"num_attention_heads": 3, **WIDE}, "gpt-neox",
         "gpt_neox.layers.1.attention.query_key_value", 3, 3),
    Case("bloom", "BloomForCausalLM", "BloomConfig", {"hidden_size": 24, "n_head": 3, "n_layer": LAYERS, **SMALL}, "bloom",
         "transformer.h.1.self_attention.query_key_value", 3, 3),
    _falcon("mha", multi_query=False, new_decoder_architecture=False, bias=True),
    _falcon("mq", multi_query=True, new_decoder_architecture=False, bias=True),
    _falcon("new", multi_query=True, new_decoder_architecture=True, num_kv_heads=2, bias=True),
    Case("gpt-2", "GPT2LMHeadModel", "GPT2Config",
         {"n_embd": 24, "n_head": 3, "n_layer": LAYERS, "n_positions": 16, **SMALL}, "gpt-2",
         "transformer.h.1.attn.c_attn", 3, 3),
    Case("gpt-j", "GPTJForCausalLM", "GPTJConfig",
         {"n_embd": 24, "n_head": 3, "n_layer": LAYERS, "n_positions": 16, "rotary_dim": 4, **SMALL}, "gpt-j",
         "transformer.h.1.attn.q_proj", 3, 3),
    Case("gpt-neo", "GPTNeoForCausalLM", "GPTNeoConfig",
         {"hidden_size": 24, "num_heads": 3, "num_layers": LAYERS, "attention_types": [[["global", "local"], 1]],
          "max_position_embeddings": 16, **SMALL}, "gpt-neo", "transformer.h.1.attn.attention.q_proj", 3, 3),
    Case("llama", "LlamaForCausalLM", "LlamaConfig", GROUPED, "llama", "model.layers.1.self_attn.q_proj", 2, 6),
    Case("llama-tied", "LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": True}, "llama",
         "model.layers.1.self_attn.q_proj", 2, 6),
    Case("mistral", "MistralForCausalLM", "MistralConfig", GROUPED, "llama", "model.layers.1.self_attn.q_proj", 2, 6),
    Case("qwen2", "Qwen2ForCausalLM", "Qwen2Config", GROUPED, "llama", "model.layers.1.self_attn.q_proj", 2, 6),
    Case("qwen3", "Qwen3ForCausalLM", "Qwen3Config", GROUPED | {"head_dim": 8}, "llama",
         "model.layers.1.self_attn.q_proj", 2, 6, True),
    Case("olmo", "OlmoForCausalLM", "OlmoConfig", GROUPED, "llama", "model.layers.1.self_attn.q_proj", 2, 6),
    Case("olmo2", "Olmo2ForCausalLM", "Olmo2Config", GROUPED, "llama", "model.layers.1.self_attn.q_proj", 2, 6, True),
    Case("smollm3", "SmolLM3ForCausalLM", "SmolLM3Config", GROUPED, "llama", "model.layers.1.self_attn.q_proj", 2, 6),
    Case("gemma", "GemmaForCausalLM", "GemmaConfig", GROUPED | {"head_dim": 4}, "llama",
         "model.layers.1.self_attn.q_proj", 2, 6),
    Case("mixtral", "MixtralForCausalLM", "MixtralConfig", GROUPED | {"num_local_experts": 2}, "llama",
         "model.layers.1.self_attn.q_proj", 2, 6),
    Case("olmoe", "OlmoeForCausalLM", "OlmoeConfig", GROUPED | {"num_experts": 2, "num_experts_per_tok": 1}, "llama",
         "model.layers.1.self_attn.q_proj", 2, 6, True),
    Case("phi-3", "Phi3ForCausalLM", "Phi3Config", GROUPED, "phi-3", "model.layers.1.self_attn.qkv_proj", 2, 6),
    Case("phi", "PhiForCausalLM", "PhiConfig", GROUPED | {"num_key_value_heads": 6}, "phi",
         "model.layers.1.self_attn.q_proj", 6, 6),
    Case("opt", "OPTForCausalLM", "OPTConfig",
         {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": LAYERS, "ffn_dim": 36, "word_embed_proj_dim": 24,
          "max_position_embeddings": 16, **SMALL}, "opt", "model.decoder.layers.1.self_attn.q_proj", 3, 3, query_scale=8**-0.5),
    Case("bert", "BertForMaskedLM", "BertConfig", {"num_attention_heads": 3, **WIDE}, "bert",
         "bert.encoder.layer.1.attention.self.query", 3, 3),
    Case("roberta", "RobertaForMaskedLM", "RobertaConfig", {"num_attention_heads": 3, **WIDE}, "bert",
         "roberta.encoder.layer.1.attention.self.query", 3, 3),
    Case("modernbert", "ModernBertForMaskedLM", "ModernBertConfig",
         {"num_attention_heads": 3, "cls_token_id": 1, "sep_token_id": 2, "attention_bias": True, **WIDE}, "modernbert",
         "model.layers.1.attn.Wqkv", 3, 3),
    Case("vit", "ViTForImageClassification", "ViTConfig",
         {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": LAYERS, "intermediate_size": 36, "image_size": 8,
          "patch_size": 4}, "vit", "vit.layers.1.attention.q_proj", 3, 3),
)  # fmt: skip
"""Two layers each, and another number of heads than of layers, so that no axis passes for another."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it lies in files: its tensors in the files' order, and its configuration."""

    tensors: dict[str, torch.Tensor]
    config: dict[str, Any] | None

    def kinds(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return kinds(self.tensors)

    def dissect(self, **options: Any) -> Anatomy:
        return dissect(self.kinds(), self.config, **options)

    def gather(self, block: Block) -> Array:
        """The elements of a block, flat, taken from the flat tensor by its extent."""
        return gather(self.tensors[block.tensor].double().numpy().reshape(-1), block.extent)

    def part(self, anatomy: Anatomy, layer: str, component: str, suffix: str, rows: int | None = None) -> Array:
        """The weight (rows, features) or bias (rows) of one projection, from its block; a Conv1D's weight stands as stored."""
        found = [
            b for b in anatomy.blocks if (b.layer, b.component) == (layer, component) and b.tensor.endswith(suffix)
        ]
        assert len(found) == 1, f"{component} of layer {layer}: {[b.name for b in found]}"
        flat = self.gather(found[0])
        return flat if rows is None else flat.reshape(rows, -1)


def kinds(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Names with shapes and stored types, as a reader gives them."""
    return {
        n: (tuple(t.shape), NUMPY_NAMES.get(t.dtype, str(t.dtype).removeprefix("torch."))) for n, t in tensors.items()
    }


def gather(flat: Array, extent: Extent) -> Array:
    """{o * stride + start + i}: written out element by element, as the extent is defined."""
    index = np.arange(extent.outer)[:, None] * extent.stride + extent.start + np.arange(extent.length)
    picked: Array = flat[index.reshape(-1)]
    return picked


def save(model: Any, folder: Path) -> Saved:
    """Write a model as its library does and read the files back."""
    model.save_pretrained(folder)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return Saved(tensors, json.loads((folder / "config.json").read_text()))


Meeting = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@contextmanager
def meetings(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Meeting]]:
    """Queries, keys and values as the model's own code hands them to attention, one entry a layer: (batch, heads, time, head_dim).

    Where attention is torch's function, the function is watched; where a module computes it itself, the method that it gives
    the three to or takes them from.
    """
    seen: list[Meeting] = []
    real = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        seen.append((query.detach(), key.detach(), value.detach()))
        return real(query, key, value, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
        for module in model.modules():
            kind = type(module).__name__
            if kind == "BloomAttention":
                patch.setattr(module, "_reshape", _watch_result(module._reshape, seen))
            elif kind in ("GPTJAttention", "GPTNeoSelfAttention"):
                patch.setattr(module, "_attn", _watch_arguments(module._attn, seen))
        yield seen


def _watch_result(method: Callable[..., Any], seen: list[Meeting]) -> Callable[..., Any]:
    def watched(*given: Any) -> Any:
        query, key, value = method(*given)
        seen.append((query.detach(), key.detach(), value.detach()))
        return query, key, value

    return watched


def _watch_arguments(method: Callable[..., Any], seen: list[Meeting]) -> Callable[..., Any]:
    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **named: Any) -> Any:
        seen.append((query.detach(), key.detach(), value.detach()))
        return method(query, key, value, *rest, **named)

    return watched


@contextmanager
def inputs_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """The first argument of every call of a module."""
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()
