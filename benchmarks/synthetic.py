"""A run of GPT-NeoX shape on disk: a drifting random walk whose updates shrink as training goes on.

python benchmarks/synthetic.py FOLDER --hidden 256 --layers 6 --vocab 50304 --steps 64 --dtype float16
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def shapes(hidden: int, layers: int, vocab: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a GPT-NeoX model's parameters."""
    out: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (vocab, hidden)}
    for i in range(layers):
        p = f"gpt_neox.layers.{i}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out |= {f"{p}.{norm}.weight": (hidden,), f"{p}.{norm}.bias": (hidden,)}
        for name, rows, columns in (
            ("attention.query_key_value", 3 * hidden, hidden),
            ("attention.dense", hidden, hidden),
            ("mlp.dense_h_to_4h", 4 * hidden, hidden),
            ("mlp.dense_4h_to_h", hidden, 4 * hidden),
        ):
            out |= {f"{p}.{name}.weight": (rows, columns), f"{p}.{name}.bias": (rows,)}
    out |= {"gpt_neox.final_layer_norm.weight": (hidden,), "gpt_neox.final_layer_norm.bias": (hidden,)}
    return out | {"embed_out.weight": (vocab, hidden)}


def make_run(
    folder: Path, *, hidden: int, layers: int, vocab: int, steps: int, dtype: str, update: float = 1e-2, seed: int = 0
) -> int:
    """Write ``steps`` checkpoints (step0, step1000, …) and return the number of parameters. A run that is there is kept."""
    parts = shapes(hidden, layers, vocab)
    parameters = sum(int(np.prod(s)) for s in parts.values())
    done = folder / "complete.json"
    facts = {"hidden": hidden, "layers": layers, "vocab": vocab, "steps": steps, "dtype": dtype, "update": update}
    if done.exists() and json.loads(done.read_text()) == facts:
        return parameters
    config = {
        "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": 8, "vocab_size": vocab, "tie_word_embeddings": False,
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    theta = {n: 0.02 * rng.standard_normal(s, dtype=np.float32) for n, s in parts.items()}
    drift = {n: rng.standard_normal(s, dtype=np.float32) for n, s in parts.items()}
    for t in range(steps):
        if t:
            size = 0.02 * update * (1 - 0.9 * t / steps)
            for n, s in parts.items():
                theta[n] += size * (0.5 * drift[n] + rng.standard_normal(s, dtype=np.float32))
        target = folder / f"step{1000 * t}"
        target.mkdir(parents=True, exist_ok=True)
        (target / "config.json").write_text(json.dumps(config))
        save_file({n: torch.from_numpy(v).to(DTYPES[dtype]) for n, v in theta.items()}, target / "model.safetensors")
    done.write_text(json.dumps(facts))
    return parameters


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocab", type=int, default=50304)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float16")
    given = vars(parser.parse_args())
    print(f"{make_run(given.pop('folder'), **given):,} parameters")
