"""Grams of per-example gradients of transformers' networks, fused projections split by their anatomy, against torch.func."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from per_example import assert_grams, explicit
from torch import nn
from torch.nn import functional

from trajsvc.anatomy.blocks import Block
from trajsvc.anatomy.dissect import dissect
from trajsvc.gradients.layerwise import layerwise_grams

transformers = pytest.importorskip("transformers")

N, LENGTH, VOCABULARY = 5, 7, 29
SIZES = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 20}
WORDS = {"vocab_size": VOCABULARY, "max_position_embeddings": 16}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def next_tokens(network: nn.Module, examples: Any) -> torch.Tensor:
    tokens = torch.stack(list(examples))
    scores = network(input_ids=tokens).logits[:, :-1].transpose(1, 2)
    return functional.cross_entropy(scores, tokens[:, 1:], reduction="none").mean(dim=1)


def same_tokens(network: nn.Module, examples: Any) -> torch.Tensor:
    tokens = torch.stack(list(examples))
    scores = network(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits.transpose(1, 2)
    return functional.cross_entropy(scores, tokens, reduction="none").mean(dim=1)


def classes(network: nn.Module, examples: Any) -> torch.Tensor:
    images, labels = (torch.stack(part) for part in zip(*examples, strict=True))
    return functional.cross_entropy(network(pixel_values=images).logits, labels, reduction="none")


def texts() -> list[torch.Tensor]:
    return list(torch.randint(VOCABULARY, (N, LENGTH), generator=torch.Generator().manual_seed(1)))


def images() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(N, 3, 8, 8, dtype=torch.float64, generator=generator)
    return list(zip(pixels, torch.randint(4, (N,), generator=generator), strict=True))


def gpt_neox() -> nn.Module:
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES, **WORDS, attn_implementation="eager"))


def gpt2() -> nn.Module:
    sizes = {"n_embd": 12, "n_head": 3, "n_layer": 2, "n_positions": 16, "vocab_size": VOCABULARY}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, attn_implementation="eager"))


def llama() -> nn.Module:
    sizes = {**SIZES, "num_key_value_heads": 1}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **WORDS, attn_implementation="eager"))


def bert() -> nn.Module:
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, **WORDS, attn_implementation="eager"))


def vit() -> nn.Module:
    sizes = {**SIZES, "image_size": 8, "patch_size": 4, "num_labels": 4}
    return transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, attn_implementation="eager"))


NETWORKS: dict[str, Any] = {
    "gpt-neox": (gpt_neox, next_tokens, texts),
    "gpt2": (gpt2, next_tokens, texts),
    "llama": (llama, next_tokens, texts),
    "bert": (bert, same_tokens, texts),
    "vit": (vit, classes, images),
}


def blocks_of(network: Any) -> tuple[Block, ...]:
    tensors = {name: (tuple(p.shape), "float64") for name, p in network.named_parameters()}
    return dissect(tensors, network.config.to_dict()).blocks


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_grams_are_those_of_the_gradients_of_each_example(name: str) -> None:
    make, losses, examples = NETWORKS[name]
    torch.manual_seed(0)
    network = make().double().eval()
    for parameter in network.parameters():  # biases of zero and scales of one hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    blocks = blocks_of(network)
    oracle = explicit(network, losses, examples())
    assert {b.tensor for b in blocks} == set(oracle)
    found = layerwise_grams(network, losses, examples(), blocks)
    assert found.facts["by_autograd"] == [], "no tensor needs more than its layer"
    assert_grams(found.gram, blocks, oracle)
    largest = max(p.numel() for p in network.parameters())
    small = layerwise_grams(network, losses, examples(), blocks, memory=8 * 8 * largest, together=2)
    assert small.facts["evaluations"] > N
    assert_grams(small.gram, blocks, oracle)


@pytest.mark.parametrize("name", ["gpt-neox", "gpt2"])
def test_fused_projections_are_split_into_q_k_and_v(name: str) -> None:
    network = NETWORKS[name][0]()
    fused = [b for b in blocks_of(network) if b.part]
    assert sorted({b.part for b in fused}) == ["k", "q", "v"]
    assert len(fused) == 2 * 2 * 3, "weight and bias of two layers"
