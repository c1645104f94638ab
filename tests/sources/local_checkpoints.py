"""Checkpoints on disk, and what a source says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from storage_schema.format.arrays import FLOAT_TYPES
from trajsvc.sources.local.source import LocalSource
from trajsvc.trajectory.elements import read_elements

State = dict[str, torch.Tensor]


def state(seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(6, 4, generator=generator), "a.bias": torch.randn(4, generator=generator)}


def write(path: Path, tensors: State | None = None) -> Path:
    """A checkpoint in one file; the suffix says which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = state() if tensors is None else tensors
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def shards(
    folder: Path, parts: list[State], *, suffix: str = ".safetensors", index: dict[str, str] | None = None
) -> Path:
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = [f"{stem}-{i + 1:05d}-of-{len(parts):05d}{suffix}" for i in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        write(folder / name, part)
    weight_map = {n: name for name, part in zip(names, parts, strict=True) for n in part} if index is None else index
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def steps(source: LocalSource) -> list[int]:
    return [c.step for c in source.checkpoints()]


def values(source: LocalSource, number: int = 0) -> State:
    found = {}
    for name, entry in source.tensors(source.checkpoints()[number]).tensors.items():
        if entry.dtype in FLOAT_TYPES:
            dtype = getattr(torch, entry.dtype)
            out = np.empty(entry.size * dtype.itemsize, np.uint8)
            read_elements(source, entry, 0, entry.size, memoryview(out))
            found[name] = torch.from_numpy(out).view(dtype).reshape(entry.shape)
    return found


def same(found: State, expected: State) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)


def kinds(source: LocalSource, number: int = 0) -> list[str]:
    return [f.kind for f in (*source.findings(), *source.tensors(source.checkpoints()[number]).findings)]
