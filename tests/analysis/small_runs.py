"""Small runs on disk, in several formats, with their parameters at hand as float64."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HIDDEN, LAYERS, VOCAB, HEADS = 32, 2, 700, 4
CONFIG = {
    "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "vocab_size": VOCAB, "tie_word_embeddings": False,
}  # fmt: skip

State = dict[str, torch.Tensor]


def shapes(hidden: int = HIDDEN, vocab: int = VOCAB) -> dict[str, tuple[int, ...]]:
    out: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (vocab, hidden)}
    for i in range(LAYERS):
        p = f"gpt_neox.layers.{i}"
        out |= {f"{p}.input_layernorm.weight": (hidden,), f"{p}.input_layernorm.bias": (hidden,)}
        for name, rows, columns in (
            ("attention.query_key_value", 3 * hidden, hidden),
            ("attention.dense", hidden, hidden),
            ("mlp.dense_h_to_4h", 4 * hidden, hidden),
            ("mlp.dense_4h_to_h", hidden, 4 * hidden),
        ):
            out |= {f"{p}.{name}.weight": (rows, columns), f"{p}.{name}.bias": (rows,)}
    return out | {"gpt_neox.final_layer_norm.weight": (hidden,), "embed_out.weight": (vocab, hidden)}


def trajectory(
    steps: int, *, update: float = 1e-2, seed: int = 0, dtype: torch.dtype = torch.float32, vocab: int = VOCAB
) -> list[State]:
    """``steps`` checkpoints of a drifting walk; biases are zero at the start."""
    rng = np.random.default_rng(seed)
    parts = shapes(vocab=vocab)
    theta = {n: 0.02 * rng.standard_normal(s) * (not n.endswith("bias")) for n, s in parts.items()}
    drift = {n: rng.standard_normal(s) for n, s in parts.items()}
    out = []
    for t in range(steps):
        if t:
            theta = {n: v + 0.02 * update * (drift[n] + rng.standard_normal(v.shape)) for n, v in theta.items()}
        out.append({n: torch.from_numpy(v).to(dtype) for n, v in theta.items()})
    return out


def write_step(folder: Path, step: int, state: State, *, kind: str = "safetensors") -> Path:
    target = folder / f"step{step}"
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(CONFIG))
    if kind == "safetensors":
        save_file({n: v.contiguous() for n, v in state.items()}, target / "model.safetensors")
        return target / "model.safetensors"
    torch.save(state, target / "pytorch_model.bin")
    return target / "pytorch_model.bin"


def write_run(
    folder: Path,
    states: Sequence[State],
    *,
    steps: Sequence[int] | None = None,
    kinds: Sequence[str] = ("safetensors",),
) -> Path:
    for t, state in enumerate(states):
        write_step(folder, steps[t] if steps else 100 * t, state, kind=kinds[t % len(kinds)])
    return folder


def flat(states: Sequence[State], names: Sequence[str]) -> np.ndarray:
    """(T, P) float64 of some tensors side by side."""
    return np.stack([np.concatenate([s[n].double().numpy().reshape(-1) for n in names]) for s in states])


def cosines(theta: np.ndarray) -> np.ndarray:
    """(T, T), one dot product each, NaN with a zero vector."""
    with np.errstate(invalid="ignore", divide="ignore"):
        norm = np.linalg.norm(theta, axis=1)
        return np.array([[a @ b for b in theta] for a in theta]) / np.outer(norm, norm)


def attention_part(states: Sequence[State], layer: int, part: str) -> np.ndarray:
    """(T, P) float64: rows of Q, K or V of the fused tensors, [heads, 3, head_dim], weight then bias."""
    which = "qkv".index(part)
    rows = []
    for state in states:
        p = f"gpt_neox.layers.{layer}.attention.query_key_value"
        weight = state[f"{p}.weight"].double().numpy().reshape(HEADS, 3, HIDDEN // HEADS, HIDDEN)[:, which]
        bias = state[f"{p}.bias"].double().numpy().reshape(HEADS, 3, HIDDEN // HEADS)[:, which]
        rows.append(np.concatenate([weight.reshape(-1), bias.reshape(-1)]))
    return np.stack(rows)
