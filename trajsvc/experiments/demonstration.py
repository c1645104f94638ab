"""A training of seconds whose checkpoints ``trajsvc demo`` analyses: a decoder of two layers learns to count in steps.

Sequences are x_t = a + d t mod 32; from the third word on the next one can be known. The tensors are named as LLaMA's are, so that
layers, Q, K and V are recognised.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from storage_schema.files.outputs import KEPT, writing_result
from trajsvc.experiments.weights import save_weights

WORDS: Final = 32
WIDTH: Final = 48
HEADS: Final = 4
LAYERS: Final = 2
LENGTH: Final = 12
BATCH: Final = 64
STEPS: Final = 400
SAVED: Final = (0, 1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 200, 240, 280, 320, 360, STEPS)
SEED: Final = 0


class Attention(nn.Module):
    """Causal attention with separate Q, K and V."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """W_down(silu(W_gate x) ⊙ W_up x)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(WIDTH, 2 * WIDTH, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention and MLP, each after its norm, added to what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.self_attn, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Embeddings with sines of the place added, the layers, a norm and the unembedding."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(WORDS, WIDTH),
                "layers": nn.Sequential(*(Layer() for _ in range(LAYERS))),
                "norm": nn.RMSNorm(WIDTH),
            }
        )
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        angle = torch.arange(words.shape[1])[:, None] / 100 ** (torch.arange(0, WIDTH, 2) / WIDTH)
        x = self.model["embed_tokens"](words) + torch.cat([angle.sin(), angle.cos()], dim=1)
        x = self.model["layers"](x)
        return self.lm_head(self.model["norm"](x))  # type: ignore[no-any-return]


def train(folder: Path, saved: Callable[[int, float], object] = lambda step, loss: None) -> Path:
    """Train and write ``folder/stepN/model.safetensors`` at each of ``SAVED`` and a log beside them; an existing ``folder`` is left.

    The folder appears when the training is whole. ``saved(step, loss)`` is called at each checkpoint.
    """
    with writing_result(folder):
        if folder.exists():
            return folder
    place = folder.with_name(f".{folder.name[:KEPT]}.partial")  # one name: what an earlier one left behind is removed
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small are multiplied sooner by one
    try:
        with writing_result(folder, place), torch.random.fork_rng(devices=[]):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            torch.manual_seed(SEED)
            _train(place, saved)
            place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        torch.set_num_threads(threads)
    return folder


def _train(place: Path, saved: Callable[[int, float], object]) -> None:
    network = Decoder()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.1)
    log = []
    for step in range(STEPS + 1):
        first, by = torch.randint(WORDS, (BATCH, 1)), torch.randint(1, WORDS, (BATCH, 1))
        words = (first + by * torch.arange(LENGTH)) % WORDS
        loss = functional.cross_entropy(network(words[:, 1:-1]).flatten(0, 1), words[:, 2:].flatten())
        if step in SAVED:
            (place / f"step{step}").mkdir()
            save_weights(network, place / f"step{step}" / "model.safetensors")
            log.append({"step": step, "train_loss": round(loss.item(), 5)})
            saved(step, loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    (place / "train_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log), "utf-8")
