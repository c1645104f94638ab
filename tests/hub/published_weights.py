"""Weights of small networks along a training that never was, under the names of published ones, and how they are stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import save_file

Shapes = Mapping[str, tuple[int, ...]]
State = dict[str, torch.Tensor]
Form = Literal["safetensors", "bin", "sharded-safetensors", "sharded-bin", "mixed"]
FORMS: Final[tuple[Form, ...]] = ("safetensors", "bin", "sharded-safetensors", "sharded-bin")
ROUNDED: Final = "float16 values in float32"
_DTYPES: Final = {
    ROUNDED: torch.float32,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def pythia_shapes(layers: int, hidden: int, vocab: int) -> dict[str, tuple[int, ...]]:
    """The parameters of a GPT-NeoX network."""
    norm = {"weight": (hidden,), "bias": (hidden,)}
    inside = {
        "input_layernorm": norm,
        "post_attention_layernorm": norm,
        "attention.query_key_value": {"weight": (3 * hidden, hidden), "bias": (3 * hidden,)},
        "attention.dense": {"weight": (hidden, hidden), "bias": (hidden,)},
        "mlp.dense_h_to_4h": {"weight": (4 * hidden, hidden), "bias": (4 * hidden,)},
        "mlp.dense_4h_to_h": {"weight": (hidden, 4 * hidden), "bias": (hidden,)},
    }
    out: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (vocab, hidden)}
    for i in range(layers):
        out |= {f"gpt_neox.layers.{i}.{module}.{n}": shape for module, of in inside.items() for n, shape in of.items()}
    return out | {f"gpt_neox.final_layer_norm.{n}": s for n, s in norm.items()} | {"embed_out.weight": (vocab, hidden)}


def pythia_buffers(layers: int, hidden: int, heads: int, context: int = 16) -> State:
    """What Pythia's files hold beside parameters: causal masks, the masked value, rotary frequencies."""
    rotary = max(2, hidden // heads // 4)
    inverse = 1.0 / 10000 ** (torch.arange(0, rotary, 2, dtype=torch.float32) / rotary)
    out: State = {}
    for i in range(layers):
        at = f"gpt_neox.layers.{i}.attention"
        out[f"{at}.bias"] = torch.tril(torch.ones(context, context, dtype=torch.uint8))[None, None].contiguous()
        out[f"{at}.masked_bias"] = torch.tensor(-1e9)
        out[f"{at}.rotary_emb.inv_freq"] = inverse.clone()
    return out


def olmo_shapes(layers: int, hidden: int, vocab: int) -> dict[str, tuple[int, ...]]:
    """The parameters of an OLMo-2 network."""
    inside = {f"self_attn.{n}_proj": (hidden, hidden) for n in "qkvo"} | {
        f"self_attn.{n}_norm": (hidden,) for n in "qk"
    }
    inside |= {
        "mlp.gate_proj": (2 * hidden, hidden),
        "mlp.up_proj": (2 * hidden, hidden),
        "mlp.down_proj": (hidden, 2 * hidden),
    }
    inside |= {f"post_{n}_layernorm": (hidden,) for n in ("attention", "feedforward")}
    out: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for i in range(layers):
        out |= {f"model.layers.{i}.{name}.weight": shape for name, shape in inside.items()}
    return out | {"model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}


def bert_shapes(layers: int, hidden: int, vocab: int) -> dict[str, tuple[int, ...]]:
    """The parameters of a BERT encoder."""
    dense = {f"attention.self.{n}": (hidden, hidden) for n in ("query", "key", "value")}
    dense |= {
        "attention.output.dense": (hidden, hidden),
        "intermediate.dense": (4 * hidden, hidden),
        "output.dense": (hidden, 4 * hidden),
    }
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    rows = (("word", vocab), ("position", 16), ("token_type", 2))
    out: dict[str, tuple[int, ...]] = {f"bert.embeddings.{n}_embeddings.weight": (count, hidden) for n, count in rows}
    for i in range(layers):
        at = f"bert.encoder.layer.{i}"
        for name, shape in dense.items():
            out |= {f"{at}.{name}.weight": shape, f"{at}.{name}.bias": shape[:1]}
        out |= {f"{at}.{name}.{n}": (hidden,) for name in norms for n in ("weight", "bias")}
    return out


def state_at(shapes: Shapes, step: float, end: float, *, seed: int = 0, dtype: str = ROUNDED) -> State:
    """The parameters at ``step`` of ``end``: an initialisation, two directions followed at different speeds, noise of its own."""
    done = step / end if end else 0.0
    out: State = {}
    for name, shape in shapes.items():
        path = np.random.default_rng((seed, crc32(name.encode())))  # not hash(): that one changes with the process
        start, fast, slow = path.standard_normal((3, *shape))
        noise = np.random.default_rng((seed, crc32(name.encode()), int(step) + 1)).standard_normal(shape)
        values = 0.02 * start + 0.03 * np.tanh(8 * done) * fast + 0.04 * done * slow + 0.004 * done**0.5 * noise
        if "norm" in name.lower() and name.endswith("weight"):
            values += 1
        rounded = values.astype(np.float16) if dtype in (ROUNDED, "float16") else values.astype(np.float32)
        out[name] = torch.from_numpy(rounded).to(_DTYPES[dtype])
    return out


def write_state(folder: Path, state: State, form: Form, *, shards: int = 3) -> None:
    """Store a state as transformers does; ``mixed`` is none of a single state."""
    folder.mkdir(parents=True, exist_ok=True)
    safe = form.endswith("safetensors")
    stem, suffix = ("model", ".safetensors") if safe else ("pytorch_model", ".bin")
    if not form.startswith("sharded"):
        _save(folder / (stem + suffix), state)
        return
    names = list(state)
    parts = [names[len(names) * k // shards : len(names) * (k + 1) // shards] for k in range(shards)]
    where: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file = f"{stem}-{number:05}-of-{shards:05}{suffix}"
        _save(folder / file, {n: state[n] for n in part})
        where |= dict.fromkeys(part, file)
    total = sum(t.numel() * t.element_size() for t in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    write_json(folder / f"{stem}{suffix}.index.json", index)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def weights_in(files: Iterable[str]) -> list[str]:
    """Those of a revision's files that hold weights."""
    return sorted(f for f in files if f.endswith((".safetensors", ".bin")))


def _save(path: Path, state: State) -> None:
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={"format": "pt"})
    else:
        torch.save(state, path)
