"""Runs as people have them: points of a drifting random walk, what a trainer keeps beside them, and the right values in float64."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import trajsvc
from storage_schema.models.results import Finding
from trajsvc.results.run import Run

Point = dict[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]

NET: Shapes = {"fc1.weight": (32, 16), "fc1.bias": (32,), "fc2.weight": (16, 32), "emb.weight": (20, 16)}


class Maker:
    """Random points, tensors and queues from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def walk(self, shapes: Shapes = NET, count: int = 6, start: float = 0.1, move: float = 0.02) -> list[Point]:
        """``count`` points: a drift common to all updates and noise of its size."""
        at = {n: self.rng.normal(0, start, s) for n, s in shapes.items()}
        drift = {n: self.rng.normal(0, move, s) for n, s in shapes.items()}
        points = []
        for _ in range(count):
            points.append({n: torch.tensor(np.array(v), dtype=torch.float32) for n, v in at.items()})
            at = {n: v + drift[n] + self.rng.normal(0, move, np.shape(v)) for n, v in at.items()}
        return points

    def tensor(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.tensor(self.rng.normal(0, scale, shape), dtype=torch.float32)

    def averages(self, points: Sequence[Point], keep: float = 0.8) -> list[Point]:
        """The exponential moving average beside every point."""
        average, found = points[0], []
        for point in points:
            average = {n: keep * average[n] + (1 - keep) * point[n] for n in point}
            found.append(average)
        return found


def saved(folder: Path, checkpoints: Sequence[Mapping[str, Any]], kind: str = "pt", config: Any = None) -> Path:
    """The checkpoints as files of a run, a folder each where there is a ``config``."""
    folder.mkdir(parents=True)
    for i, tensors in enumerate(checkpoints):
        place = folder / f"step_{100 * i}.{kind}"
        if config is not None:
            (folder / f"step_{100 * i}").mkdir()
            (folder / f"step_{100 * i}" / "config.json").write_text(json.dumps(config))
            place = folder / f"step_{100 * i}" / ("model.safetensors" if kind == "safetensors" else "pytorch_model.bin")
        if kind == "safetensors":
            save_file({n: t.clone().contiguous() for n, t in tensors.items()}, place)
        else:
            torch.save(dict(tensors), place)
    return folder


def analysed(tmp_path: Path, checkpoints: Sequence[Mapping[str, Any]], name: str = "run", **options: Any) -> Run:
    """The run of some checkpoints; ``kind`` and ``config`` say how they are saved, the rest how they are analysed."""
    how = {key: options.pop(key) for key in ("kind", "config") if key in options}
    folder = tmp_path / name
    if not folder.exists():
        saved(folder, checkpoints, **how)
    found = trajsvc.analyze(folder, store=tmp_path / "store", name=options.pop("called", name), **options)
    assert isinstance(found, Run)
    return found


def matrix(points: Sequence[Mapping[str, torch.Tensor]]) -> NDArray[np.float64]:
    """(T, P) of the stored values in float64."""
    return np.stack([np.concatenate([np.asarray(v.double()).ravel() for v in p.values()]) for p in points])


def oracle(points: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
    """MDS and path length of the points, in float64 from the stored values."""
    x = matrix(points)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return {
        "mds": float((unit @ unit.T).mean()),
        "path_length": float(np.linalg.norm(np.diff(x, axis=0), axis=1).sum()),
    }


def assert_right(run: Run, points: Sequence[Mapping[str, torch.Tensor]], group: str = "network") -> None:
    """The group's values are those of ``points``, over all of them."""
    right = oracle(points)
    assert len(run.steps) == len(points)
    assert abs(float(run.measure("mds", group)) - right["mds"]) < 1e-6
    assert abs(float(run.measure("path_length", group)) / right["path_length"] - 1) < 1e-5
    assert run.groups()[group].parameters == matrix(points[:1]).shape[1]


def of_kind(run: Run, kind: str) -> Finding:
    """The one finding of a kind."""
    (found,) = [f for f in run.findings if f.kind == kind]
    return found


def said(run: Run) -> set[str]:
    """Kinds of the findings that are warnings or errors."""
    return {f.kind for f in run.findings if f.severity != "info"}
