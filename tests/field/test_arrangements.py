"""A tensor that is stored in another arrangement from some checkpoint on fits in name and shape; its jump is named for what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from field_runs import Maker, analysed

from storage_schema.models.results import Finding
from trajsvc.results.run import Run

Way = Callable[[torch.Tensor], torch.Tensor]
SHUFFLED = torch.randperm(48, generator=torch.Generator().manual_seed(3))

WAYS: dict[str, tuple[tuple[int, ...], Way, str]] = {
    "square matrix": ((24, 24), lambda w: w.T, "transposed"),
    "square experts": ((3, 20, 20), lambda w: w.transpose(1, 2), "transposed"),
    "as many channels in as out": ((12, 12, 3, 3), lambda w: w.transpose(0, 1), "transposed"),
    "gate and up": ((48, 16), lambda w: torch.cat([w[24:], w[:24]]), "with its rows in halves that changed places"),
    "queries, keys, values": (
        (48, 16),
        lambda w: torch.cat([w[32:], w[:32]]),
        "with its rows in 3 equal parts, now in the order 3, 1, 2",
    ),
    "stored by head": (
        (48, 16),
        lambda w: w.reshape(3, 16, 16).transpose(0, 1).reshape(48, 16),
        "with its rows of 3 equal parts taken in turn, one of each",
    ),
    "no more by head": (
        (48, 16),
        lambda w: w.reshape(16, 3, 16).transpose(0, 1).reshape(48, 16),
        "with its rows in 3 equal parts, where they were taken in turn, one of each",
    ),
    "sorted vocabulary": ((48, 16), lambda w: w[SHUFFLED], "with its rows in another order"),
    "inputs in another order": ((20, 48), lambda w: w[:, SHUFFLED], "with its columns in another order"),
    "gate and up of experts": (
        (3, 16, 24),
        lambda w: torch.cat([w[:, 8:], w[:, :8]], dim=1),
        "with its second axis in halves that changed places",
    ),
}  # fmt: skip


def rearranged(run: Run) -> list[Finding]:
    return [f for f in run.findings if f.kind == "rearranged"]


@pytest.mark.parametrize("what", WAYS)
@pytest.mark.parametrize("start", [0.5, 0.05])
def test_another_arrangement_is_said(tmp_path: Path, what: str, start: float) -> None:
    shape, way, words = WAYS[what]
    points = Maker(5).walk({"a.weight": shape, "b.weight": (24, 10), "b.bias": (24,)}, count=7, start=start, move=0.004)
    moved = [p if t < 4 else {**p, "a.weight": way(p["a.weight"]).contiguous()} for t, p in enumerate(points)]
    run = analysed(tmp_path, moved)
    (finding,) = rearranged(run)
    assert f"1 tensor is stored in another arrangement: a.weight {words}." in finding.message
    assert finding.steps == (300, 400)
    assert "analyse ..300 and 400.. apart with --steps" in finding.message
    # nothing is put back: the numbers are those of the files
    rows = np.stack([np.concatenate([p[n].double().numpy().ravel() for n in sorted(p)]) for p in moved])
    np.testing.assert_allclose(run.gram().gram.cumsum(axis=0).cumsum(axis=1), rows @ rows.T, rtol=1e-9)
    for side in ("..300", "400.."):
        assert rearranged(analysed(tmp_path, moved, steps=side, called=f"side {side[-1]}")) == []


def test_many_tensors_are_one_warning_and_the_way_back_another(tmp_path: Path) -> None:
    shapes = {f"layers.{i}.weight": (16, 16) for i in range(12)}
    points = Maker(1).walk(shapes, count=6, start=0.3, move=0.002)
    moved = [p if t not in (2, 3) else {n: w.T.contiguous() for n, w in p.items()} for t, p in enumerate(points)]
    found = rearranged(analysed(tmp_path, moved))
    assert [f.steps for f in found] == [(100, 200), (300, 400)]
    assert all(
        "12 tensors are stored in another arrangement" in f.message and "and 8 more transposed" in f.message
        for f in found
    )


@pytest.mark.parametrize("what", ["early training", "symmetric", "restarted", "noise"])
def test_a_jump_of_training_is_none(tmp_path: Path, what: str) -> None:
    make = Maker(2)
    points = make.walk({"a.weight": (24, 24), "b.weight": (48, 16)}, count=6, start=0.1, move=0.005)
    if what == "early training":
        points = [points[0], *make.walk({"a.weight": (24, 24), "b.weight": (48, 16)}, count=5, start=0.4, move=0.005)]
    if what == "symmetric":
        points = [{**p, "a.weight": p["a.weight"] + p["a.weight"].T} for p in points]
        points[3:] = [{**p, "a.weight": -p["a.weight"]} for p in points[3:]]
    if what == "restarted":
        points[3:] = make.walk({"a.weight": (24, 24), "b.weight": (48, 16)}, count=3, start=0.1, move=0.005)
    if what == "noise":
        points = [{n: make.tensor(*w.shape) for n, w in p.items()} for p in points]
    assert rearranged(analysed(tmp_path, points)) == []


def test_a_vocabulary_too_large_to_be_held_is_looked_at_in_parts(tmp_path: Path) -> None:
    points = Maker(4).walk({"emb.weight": (70_000, 64)}, count=4, start=0.2, move=0.001)
    order = torch.randperm(70_000, generator=torch.Generator().manual_seed(0))
    run = analysed(tmp_path, [p if t < 2 else {"emb.weight": p["emb.weight"][order]} for t, p in enumerate(points)])
    (finding,) = rearranged(run)
    assert "emb.weight with its rows in another order" in finding.message
