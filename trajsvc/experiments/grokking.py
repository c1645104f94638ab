"""Modular addition and the one-layer transformer that learns it late: grokking."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage_schema.files.regular import read_text
from trajsvc.experiments.base import Setting
from trajsvc.experiments.training import DONE, one_thread
from trajsvc.experiments.weights import save_weights

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Grokking:
    """Full-batch AdamW on a + b mod p, a checkpoint and both accuracies every ``every`` steps."""

    modulus: int = 59
    share: float = 0.5
    """of all pairs that are trained on; the others are the test"""
    width: int = 64
    heads: int = 4
    hidden: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    steps: int = 2000
    every: int = 25
    seed: int = 0


def transformer(given: Grokking) -> torch.nn.Module:
    """One layer of attention and an MLP, without normalisation, read at the last of three tokens: a, b and =."""
    import torch
    from torch import nn

    width, scale = given.width, given.width**-0.5

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Linear(width, width, bias=False)
            self.k = nn.Linear(width, width, bias=False)
            self.v = nn.Linear(width, width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.up = nn.Linear(width, given.hidden)
            self.down = nn.Linear(given.hidden, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            last = x[:, -1:]  # nothing else is read
            q, k, v = (self._split(t) for t in (self.q(last), self.k(x), self.v(x)))
            mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(x), width)
            inside = last[:, 0] + self.out(mixed)
            return inside + self.down(self.up(inside).relu())  # type: ignore[no-any-return]

        def _split(self, t: torch.Tensor) -> torch.Tensor:
            return t.view(len(t), -1, given.heads, width // given.heads).transpose(1, 2)

    class Adder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(given.modulus + 1, width)
            self.position = nn.Parameter(torch.randn(3, width) * scale)
            self.block = Block()
            self.unembedding = nn.Linear(width, given.modulus, bias=False)
            nn.init.normal_(self.embedding.weight, std=scale)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.unembedding(self.block(self.embedding(tokens) + self.position))  # type: ignore[no-any-return]

    return Adder()


def grok(given: Grokking, folder: Path, setting: Setting) -> dict[str, Any]:
    """Train with a checkpoint every ``given.every`` steps in ``folder``; return {step, train, test}, accuracies at these steps.

    A training that is there is not repeated.
    """
    done = folder / DONE
    facts = asdict(given)
    if done.is_file() and (found := json.loads(read_text(done)))["training"] == facts:
        return dict(found["result"])
    folder.mkdir(parents=True, exist_ok=True)
    with one_thread():
        result = _trained(given, folder, setting)
    done.write_text(json.dumps({"training": facts, "result": result}))
    return result


def _trained(given: Grokking, folder: Path, setting: Setting) -> dict[str, Any]:
    import torch

    torch.manual_seed(given.seed)
    numbers = torch.arange(given.modulus)
    pairs = torch.cartesian_prod(numbers, numbers)
    tokens = torch.cat([pairs, torch.full((len(pairs), 1), given.modulus)], dim=1)
    sums = pairs.sum(dim=1) % given.modulus
    order = torch.randperm(len(pairs))
    learnt, unseen = order.tensor_split([round(given.share * len(pairs))])
    network = transformer(given)
    optimizer = torch.optim.AdamW(
        network.parameters(), given.learning_rate, betas=(0.9, 0.98), weight_decay=given.weight_decay
    )
    result: dict[str, list[float]] = {"step": [], "train": [], "test": []}
    for step in range(given.steps + 1):
        if step % given.every == 0:
            save_weights(network, folder / f"step_{step}.safetensors")
            with torch.no_grad():
                right = (network(tokens).argmax(dim=1) == sums).double()
            result["step"].append(step)
            result["train"].append(float(right[learnt].mean()))
            result["test"].append(float(right[unseen].mean()))
            setting.note(f"{folder.name}: step {step} of {given.steps}, test accuracy {result['test'][-1]:.2f}")
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(tokens[learnt]), sums[learnt]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return result
