"""Small runs of transformers on disk, of any number of layers, with their parameters at hand as float64."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

Array = NDArray[np.float64]
Tensors = dict[str, Array]
HIDDEN, HEADS, VOCAB = 16, 4, 40
STEPS = (0, 10, 20, 40, 80, 160)


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a GPT-NeoX of so many layers; none: an MLP."""
    if not layers:
        return {f"fc{k}.weight": (HIDDEN, HIDDEN) for k in range(3)}
    out: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (VOCAB, HIDDEN)}
    for layer in range(layers):
        at = f"gpt_neox.layers.{layer}"
        out[f"{at}.attention.query_key_value.weight"] = (3 * HIDDEN, HIDDEN)
        out[f"{at}.attention.dense.weight"] = (HIDDEN, HIDDEN)
        out[f"{at}.mlp.dense_h_to_4h.weight"] = (4 * HIDDEN, HIDDEN)
        out[f"{at}.mlp.dense_4h_to_h.weight"] = (HIDDEN, 4 * HIDDEN)
        out[f"{at}.input_layernorm.weight"] = (HIDDEN,)
    return out | {"gpt_neox.final_layer_norm.weight": (HIDDEN,), "embed_out.weight": (VOCAB, HIDDEN)}


def trajectory(layers: int, count: int = len(STEPS), seed: int = 0) -> list[Tensors]:
    """``count`` checkpoints: every tensor goes from its start towards its own end, deeper ones sooner, with some noise."""
    rng = np.random.default_rng(seed)
    parts = shapes(layers)
    start = {name: rng.standard_normal(shape) for name, shape in parts.items()}
    end = {name: rng.standard_normal(shape) for name, shape in parts.items()}
    haste = {name: 1.0 + 0.7 * (_layer(name) or 0) + rng.uniform(0, 0.3) for name in parts}
    out = []
    for t in range(count):
        at = t / max(1, count - 1)
        state = {}
        for name, shape in parts.items():
            power = 2 * haste[name] * (own_pace(shape) if "query_key_value" in name else 1.0)
            share = 1 - (1 - at) ** power
            state[name] = (1 - share) * start[name] + share * end[name] + 0.02 * rng.standard_normal(shape)
        out.append({name: value.astype(np.float32).astype(np.float64) for name, value in state.items()})
    return out


def own_pace(shape: tuple[int, ...]) -> Array:
    """(rows, 1) of a fused tensor: Q is slow and V quick."""
    paces = np.broadcast_to(np.array([0.3, 1.0, 3.0])[None, :, None], (HEADS, 3, HIDDEN // HEADS))
    return paces.reshape(shape[0], 1)


def _layer(name: str) -> int | None:
    parts = name.split(".")
    return int(parts[2]) if "layers" in parts else None


def write_run(folder: Path, states: Sequence[Tensors], steps: Sequence[int] = STEPS) -> Path:
    """The checkpoints as ``stepN/model.safetensors`` with their config."""
    layers = sum("query_key_value" in name for name in states[0])
    config = {
        "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": HIDDEN,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "vocab_size": VOCAB, "tie_word_embeddings": False,
    }  # fmt: skip
    for step, state in zip(steps, states, strict=False):
        target = folder / f"step{step}"
        target.mkdir(parents=True, exist_ok=True)
        if layers:
            (target / "config.json").write_text(json.dumps(config))
        tensors = {name: torch.from_numpy(value.astype(np.float32)).contiguous() for name, value in state.items()}
        save_file(tensors, target / "model.safetensors")
    return folder


def damage(folder: Path, step: int) -> Path:
    """Cut a checkpoint's file short."""
    file = folder / f"step{step}" / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def flat(states: Sequence[Tensors], names: Sequence[str] | None = None) -> Array:
    """(T, P): some tensors side by side."""
    return np.stack([np.concatenate([state[n].ravel() for n in (names or state)]) for state in states])


def layer_points(states: Sequence[Tensors], layer: int) -> Array:
    """(T, P) of one layer."""
    return flat(states, [name for name in states[0] if _layer(name) == layer])


def attention_part(states: Sequence[Tensors], layer: int, part: str) -> Array:
    """(T, P): rows of Q, K or V of the fused tensor, laid out as [heads, 3, head_dim]."""
    name = f"gpt_neox.layers.{layer}.attention.query_key_value.weight"
    fused = [state[name].reshape(HEADS, 3, HIDDEN // HEADS, HIDDEN) for state in states]
    return np.stack([rows[:, "qkv".index(part)].ravel() for rows in fused])


def cosines(points: Array) -> Array:
    """(T, T): cosines of all pairs of rows, one dot product each."""
    norms = [float(np.sqrt(a @ a)) for a in points]
    return np.array(
        [
            [float(a @ b) / (n * m) for b, m in zip(points, norms, strict=True)]
            for a, n in zip(points, norms, strict=True)
        ]
    )


def family_text(name: str, *runs: str, defaults: str = "") -> str:
    """A family's file: ``runs`` are the bodies of its [[runs]]."""
    head = f'name = "{name}"\n' + (f"[defaults]\n{defaults}\n" if defaults else "")
    return head + "".join(f"[[runs]]\n{run}\n" for run in runs)


def trajsvc(*arguments: str | Path) -> Result:
    """The command line in this process, with ``batch``."""
    from trajsvc.cli import batch
    from trajsvc.cli.main import make_app

    app = make_app()
    if not any(command.name == "batch" for command in app.registered_commands):
        batch.register(app)
    return CliRunner(env={"COLUMNS": None, "NO_COLOR": "1"}).invoke(
        app, [str(a) for a in arguments], prog_name="trajsvc"
    )
