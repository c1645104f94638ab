"""The runs that the tests of the page look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from storage_schema.runs.gradient_writer import GradientWriter
from storage_schema.runs.store import RunStore
from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.gradients.set_grams import SetGrams

NASTY = "<img src=x onerror=alert(1)>"


def make_deep_run(folder: Path, steps: int = 154, layers: int = 100, size: int = 48) -> Path:
    """Many checkpoints of many small layers, one of which has a name that would be an element."""
    rng = np.random.default_rng(5)
    names = [f"blocks.{i}.weight" for i in range(layers)] + [f"{NASTY}.weight"]
    values = {name: rng.normal(size=size).astype(np.float32) for name in names}
    drift = {name: rng.normal(size=size).astype(np.float32) for name in names}
    for step in range(steps):
        place = folder / f"step{step * 100}"
        place.mkdir(parents=True)
        save_file(values, place / "model.safetensors")
        for name in names:
            values[name] += (0.02 * drift[name] + 0.05 * rng.normal(size=size) / (1 + step / 20)).astype(np.float32)
        # One layer far down turns round: what all maps span is not what those at the top span.
        if step == steps // 2:
            values[f"blocks.{layers - 1}.weight"] *= -1
    return folder


def make_patchy_run(folder: Path, steps: int = 12, size: int = 16) -> Path:
    """LLaMA's names; a layer without attention, one without an MLP, and a norm after the last."""
    rng = np.random.default_rng(3)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (40, size), "lm_head.weight": (40, size)}
    for i in range(5):
        if i != 1:
            shapes |= {f"model.layers.{i}.self_attn.{part}_proj.weight": (size, size) for part in "qkvo"}
        if i != 2:
            sides = {"gate": (2 * size, size), "up": (2 * size, size), "down": (size, 2 * size)}
            shapes |= {f"model.layers.{i}.mlp.{part}_proj.weight": shape for part, shape in sides.items()}
        shapes[f"model.layers.{i}.input_layernorm.weight"] = (size,)
    shapes["model.norm.weight"] = (size,)
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    drift = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    config = {"model_type": "llama", "hidden_size": size, "num_attention_heads": 4, "num_hidden_layers": 5}
    for step in range(steps):
        place = folder / f"checkpoint-{step * 100}"
        place.mkdir(parents=True)
        save_file(values, place / "model.safetensors")
        (place / "config.json").write_text(json.dumps(config))
        for k, (name, value) in enumerate(values.items()):
            noise = rng.normal(size=value.shape).astype(np.float32)
            values[name] = value + np.float32(0.1 * (1 + k % 4)) * drift[name] + np.float32(0.1) * noise
    return folder


def make_moving_run(folder: Path, steps: int = 16, tensors: int = 8, side: int = 256) -> Path:
    """Tensors that move by as much as they are, at different speeds, so that an estimate has something to be wrong about."""
    rng = np.random.default_rng(7)
    values = [rng.normal(size=(side, side)).astype(np.float32) for _ in range(tensors)]
    for step in range(steps):
        place = folder / f"step{step * 10}"
        place.mkdir(parents=True)
        save_file({f"layers.{i}.weight": v for i, v in enumerate(values)}, place / "model.safetensors")
        for i, value in enumerate(values):
            value += (0.05 * (i + 1) * rng.normal(size=value.shape)).astype(np.float32)
    return folder


def make_logged_run(folder: Path, steps: int = 14, tokens: int = 2, seed: int = 1) -> Path:
    """Checkpoints whose names tell their tokens (in billions), and a log in which the learning rate drops twice."""
    rng = np.random.default_rng(seed)
    value = rng.normal(size=4000).astype(np.float32)
    for step in range(steps):
        place = folder / f"step{step * 100}-tokens{step * tokens + 1}B"
        place.mkdir(parents=True)
        save_file({"layers.0.weight": value, "layers.1.weight": value[::-1].copy()}, place / "model.safetensors")
        value = value + ((0.2 if step < 7 else 0.05) * rng.normal(size=4000)).astype(np.float32)
    rates = {step: 0.1 if step < 700 else 0.01 if step < 1000 else 0.001 for step in range(0, 100 * steps, 10)}
    lines = [json.dumps({"step": step, "lr": rate}) for step, rate in rates.items()]
    (folder / "train_log.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_gradients(store: Path, run: str = "pythia-nano", examples: int = 24, batch: int = 4) -> None:
    """Sets ``example`` and ``batch`` beside a stored run, of made gradients that point to four sides and spread as training goes on; at the
    last step those of layer 2 are all zero."""
    stored = RunStore(store).open(run)
    rng = np.random.default_rng(11)
    blocks = tuple(
        Block(name, tensor, part, layer, component, Extent(1, size, 0, size))
        for name, tensor, part, layer, component, size in zip(
            *(getattr(stored.blocks, n) for n in ("name", "tensor", "part", "layer", "component")),
            stored.blocks.size.tolist(), strict=True,
        )
    )  # fmt: skip
    sides, chosen = rng.normal(size=(4, 20)), rng.permutation(np.arange(examples) % 4)
    steps = stored.checkpoints.step.tolist()[::3]
    with GradientWriter(store, stored) as writer:
        for kind in ("example", "batch"):
            writer.begin(kind, {"kind": kind, "probe": "made", "data": "0" * 64, "examples": examples})
            for k, step in enumerate(steps):
                grams = []
                for i, block in enumerate(blocks):
                    rows = sides[chosen] / (1 + k) + (0.3 + i / len(blocks)) * rng.normal(size=(examples, 20))
                    if block.layer == "2" and step == steps[-1]:
                        rows[:] = 0.0
                    if kind == "batch":
                        rows = rows.reshape(-1, batch, 20).mean(axis=1)
                    grams.append(rows @ rows.T)
                writer.put(kind, step, SetGrams(kind, blocks, np.stack(grams)))


def make_result(store: Path, run: str) -> None:
    """Keep a result of an experiment with a grey figure of 40 × 20, and tag a run as its own."""
    from PIL import Image

    from storage_schema.runs.store import RunStore
    from trajsvc.experiments.kept import save_result

    figure = store.parent / "h11.png"
    Image.new("RGB", (40, 20), (200, 200, 200)).save(figure)
    RunStore(store).tag(run, add=["experiment:h11", "baseline"])
    facts = {
        "name": "h11", "title": "The map of a random walk", "paper": "Hallmarks", "figure": "appendix C",
        "claim": "Cosines approach a limit", "criterion": "they differ from it by less than 5e-3",
        "measured": {"largest_difference": {"constant": 0.01}, "points": [1, None], "rows": [{"a": True}]},
        "verdict": "not reproduced", "notes": ["few dimensions"], "seeds": [0, 1], "scale": "brief", "settings": "20 steps",
        "paper_settings": "the networks", "versions": {"trajsvc": "0.1.0"}, "seconds": 1.25, "made": "2026-11-27T10:00:00+00:00",
        "family": None, "runs": [run],
    }  # fmt: skip
    save_result(store, facts, [figure])
