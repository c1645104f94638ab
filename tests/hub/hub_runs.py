"""Runs for the tests of the Hub: the shipped real one, small ones with what published runs have, and what a store holds of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hub_repos import Repo, Revision, repo_of
from safetensors.numpy import save

from storage_schema.runs.store import RunStore

EXAMPLE = Path(__file__).parents[2] / "examples" / "pythia-nano"


def example() -> Repo:
    """The real run that ships with the project: safetensors, .bin and sharded checkpoints."""
    return repo_of("local/pythia-nano", EXAMPLE)


def state(step: int, *, width: int = 96, seed: int = 0) -> dict[str, np.ndarray]:
    """A small network's parameters at a step: a smooth path with some noise."""
    start = np.random.default_rng(seed)
    drift, noise = np.random.default_rng(seed + 1), np.random.default_rng((seed, step))
    shapes = {
        "layers.0.weight": (width, width),
        "layers.0.bias": (width,),
        "layers.1.weight": (width, width),
        "head.weight": (7, width),
    }
    return {
        n: (
            start.standard_normal(s) + step**0.5 * 0.01 * (drift.standard_normal(s) + 0.3 * noise.standard_normal(s))
        ).astype("f4")
        for n, s in shapes.items()
    }


def safetensors(values: Mapping[str, np.ndarray]) -> bytes:
    return save(dict(values))


def steps_repo(id: str, steps: Sequence[int], **more: Any) -> Repo:
    """One ``model.safetensors`` in a branch for each step, and ``main`` as the last."""
    branches = {
        f"step{s}": Revision({"model.safetensors": safetensors(state(s)), "README.md": b"a model"}) for s in steps
    }
    last = Revision({"model.safetensors": safetensors(state(steps[-1])), "README.md": b"the model"})
    return Repo(id, {"main": last, **branches}, **more)


def grams(store: Path, name: str) -> np.ndarray:
    return RunStore(store).open(name).block_grams()


def bytes_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.exists() else 0
