"""Runs of a few small matrices in files, and their spectra by torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import trajsvc

Array = NDArray[np.float64]
STEPS = (0, 10, 20, 30)


def oracle(values: Array) -> Array:
    """Singular values by torch, in float64."""
    return np.asarray(torch.linalg.svdvals(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))).numpy())


def write_run(
    folder: Path,
    tensors: Sequence[Mapping[str, torch.Tensor]],
    steps: Sequence[int] = STEPS,
    config: Mapping[str, object] | None = None,
) -> Path:
    """Write a checkpoint for each of ``tensors``."""
    for step, found in zip(steps, tensors, strict=True):
        at = folder / f"checkpoint-{step}"
        at.mkdir(parents=True)
        save_file({name: value.contiguous() for name, value in found.items()}, at / "model.safetensors")
        if config is not None:
            (at / "config.json").write_text(json.dumps(config))
    return folder


def stored_run(folder: Path, tensors: Sequence[Mapping[str, torch.Tensor]], **more: object) -> Path:
    """Analyse such a run, called ``run``, into a store, and return the store."""
    write_run(folder / "run", tensors, **more)  # type: ignore[arg-type]
    trajsvc.analyze(folder / "run", store=folder / "store")
    return folder / "store"


def as_float64(value: torch.Tensor) -> Array:
    return np.asarray(value.double().numpy())


def walk(
    shape: tuple[int, ...], kind: torch.dtype, seed: int, steps: int = 4, size: float = 1e-2
) -> list[torch.Tensor]:
    """A matrix at each checkpoint: random steps of relative ``size``, rounded to the stored type."""
    made = torch.Generator().manual_seed(seed)
    at = torch.randn(shape, generator=made, dtype=torch.float64)
    found = []
    for _ in range(steps):
        found.append(at.to(kind))
        at = at + size * torch.randn(shape, generator=made, dtype=torch.float64)
    return found
