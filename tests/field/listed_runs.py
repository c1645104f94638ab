"""Inputs of real situations, made small: a drifting random walk saved as a training script would, and its measures in float64."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import trajsvc
from storage_schema.models.results import Finding
from trajsvc.results.run import Run

State = OrderedDict[str, torch.Tensor]
SMALL: dict[str, tuple[int, ...]] = {"fc1.weight": (12, 8), "fc1.bias": (12,), "fc2.weight": (5, 12), "fc2.bias": (5,)}


def walk(count: int, shapes: Mapping[str, tuple[int, ...]] | None = None, seed: int = 0) -> list[State]:
    """``count`` points of a walk with a drift: no two are alike, and any other order has another path length."""
    rng = np.random.default_rng(seed)
    shapes = shapes or SMALL
    at = {n: rng.normal(0, 0.1, s) for n, s in shapes.items()}
    drift = {n: rng.normal(0, 0.02, s) for n, s in shapes.items()}
    out = []
    for _ in range(count):
        out.append(OrderedDict((n, torch.tensor(np.asarray(v), dtype=torch.float32)) for n, v in at.items()))
        at = {n: v + drift[n] + rng.normal(0, 0.02, np.shape(v)) for n, v in at.items()}
    return out


def averaged(points: Sequence[State], keep: float = 0.9) -> list[State]:
    """The moving average of a walk."""
    at, out = points[0], []
    for point in points:
        at = OrderedDict((n, keep * at[n] + (1 - keep) * v) for n, v in point.items())
        out.append(at)
    return out


@dataclass(frozen=True)
class Oracle:
    """What is right of a run, in float64 from its values."""

    mds: float
    relative_mds: float
    path_length: float
    parameters: int


def oracle(points: Sequence[Mapping[str, torch.Tensor]]) -> Oracle:
    """The measures of a run by their definitions: mean of the cosines of its points, of its displacements, and the sum of its updates."""
    x = np.stack([np.concatenate([v.detach().double().numpy().ravel() for v in p.values()]) for p in points])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    moved = x[1:] - x[0]
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    path = np.linalg.norm(np.diff(x, axis=0), axis=1).sum()
    return Oracle(float((unit @ unit.T).mean()), float((moved @ moved.T).mean()), float(path), x.shape[1])


def right(run: Run, points: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Assert that ``run`` is the trajectory of ``points``, in that order."""
    expected = oracle(points)
    assert run.parameters == expected.parameters
    assert len(run.steps) == len(points)
    np.testing.assert_allclose(run.mds(), expected.mds, atol=1e-6)
    np.testing.assert_allclose(float(run.measure("relative_mds")), expected.relative_mds, atol=1e-6)
    np.testing.assert_allclose(float(run.measure("path_length")), expected.path_length, rtol=1e-5)


def analyzed(source: Path | str, **options: Any) -> Run:
    """The run of a source, in a store beside it."""
    base = Path(str(source).split("*", 1)[0])
    return trajsvc.analyze(source, store=base.parent / "store", name="run", **options)


def findings(run: Run, kind: str) -> list[Finding]:
    return [f for f in run.findings if f.kind == kind]


def save(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file({n: v.contiguous() for n, v in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
