"""A tensor that is stored in another arrangement from some checkpoint on fits in name and shape; its jump is named for what it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from field_runs import Maker, analysed, of_kind, said

from storage_schema.models.results import Finding
from trajsvc.results.run import Run

Way = Callable[[torch.Tensor], torch.Tensor]
SHUFFLED = torch.randperm(48, generator=torch.Generator().manual_seed(3))

WAYS: dict[str, tuple[tuple[int, ...], Way, str]] = {
    "square matrix": ((24, 24), lambda w: w.T, "transposed"),
    "square experts": ((3, 20, 20), lambda w: w.transpose(1, 2), "transposed"),
    "as many channels in as out": ((12, 12, 3, 3), lambda w: w.transpose(0, 1), "transposed"),
    "square matrix, sorted too": (
        (24, 24), lambda w: torch.cat([w.T[12:], w.T[:12]]), "transposed, and with its rows in halves that changed places",
    ),
    "convolution and correlation": ((8, 4, 3, 3), lambda w: w.flip(2, 3), "with its kernels turned round"),
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


@pytest.mark.parametrize("otherwise", [(2, 3), (2,)])
def test_many_tensors_are_one_warning_and_the_way_back_another(tmp_path: Path, otherwise: tuple[int, ...]) -> None:
    shapes = {f"layers.{i}.weight": (16, 16) for i in range(12)}
    points = Maker(1).walk(shapes, count=6, start=0.3, move=0.002)
    moved = [p if t not in otherwise else {n: w.T.contiguous() for n, w in p.items()} for t, p in enumerate(points)]
    found = rearranged(analysed(tmp_path, moved))
    assert [f.steps for f in found] == [(100, 200), (100 * otherwise[-1], 100 * otherwise[-1] + 100)]
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


@pytest.mark.parametrize("shape", [(3000, 4), (4, 3000), (20_000, 8)])
def test_one_of_many_short_rows_is_near_to_any_by_chance(tmp_path: Path, shape: tuple[int, int]) -> None:
    make = Maker(6)
    points = [*make.walk({"a.weight": shape}, count=3, move=1e-4), *make.walk({"a.weight": shape}, count=3, move=1e-4)]
    assert rearranged(analysed(tmp_path, points)) == []


def test_a_vocabulary_too_large_to_be_held_is_looked_at_in_parts(tmp_path: Path) -> None:
    points = Maker(4).walk({"emb.weight": (70_000, 64)}, count=4, start=0.2, move=0.001)
    order = torch.randperm(70_000, generator=torch.Generator().manual_seed(0))
    run = analysed(tmp_path, [p if t < 2 else {"emb.weight": p["emb.weight"][order]} for t, p in enumerate(points)])
    (finding,) = rearranged(run)
    assert "emb.weight with its rows in another order" in finding.message


def layers(count: int, shape: tuple[int, ...] = (12, 16)) -> dict[str, tuple[int, ...]]:
    return {f"layers.{i}.{w}.weight": shape for i in range(count) for w in ("w1", "w3")}


def by_text(name: str) -> str:
    """The layer's name where layers were numbered in the order of their numbers as text: 0, 1, 10, 11, 2 …."""
    order = sorted(map(str, range(12)))
    return re.sub(r"(?<=layers\.)\d+", lambda m: str(order.index(m[0])), name)


EXCHANGES: dict[str, tuple[int, Callable[[str], str], int]] = {
    "gate and up under each other's names": (3, lambda n: n.translate(str.maketrans("13", "31")) if n[7] != "1" else n, 4),
    "layers in the order of text": (12, by_text, 20),
    "layers from the last": (4, lambda n: re.sub(r"(?<=layers\.)\d", lambda m: str(3 - int(m[0])), n), 8),
}  # fmt: skip


@pytest.mark.parametrize("what", EXCHANGES)
def test_tensors_under_each_other_s_names_are_said(tmp_path: Path, what: str) -> None:
    count, name, moved = EXCHANGES[what]
    points = Maker(6).walk({**layers(count), "emb.weight": (12, 16), "norm.weight": (16,)}, count=7, start=0.3)
    new = {n: name(n) if n.startswith("layers.") else n for n in points[0]}
    assert sorted(new.values()) == sorted(points[0])
    run = analysed(tmp_path, [p if t < 3 else {new[n]: w for n, w in p.items()} for t, p in enumerate(points)])
    (finding,) = rearranged(run)
    assert finding.steps == (200, 300)
    expected = {b: f"with the values of {a}" for a, b in new.items() if a != b}
    assert finding.details["tensors"] == expected
    assert f"{moved} tensors are stored in another arrangement" in finding.message
    assert said(run) == {"rearranged"}  # none is called an average of the other, with the line that leaves it out


def test_a_target_that_is_overwritten_now_and_then_is_an_average_still(tmp_path: Path) -> None:
    points = Maker(7).walk({"net.weight": (16, 16)}, count=7)
    both = [{**p, "other.weight": points[0 if t < 3 else 3]["net.weight"]} for t, p in enumerate(points)]
    run = analysed(tmp_path, both)
    assert "other.weight moves like an average of net.weight" in of_kind(run, "suspect-tensors").message


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_gains_stored_less_one_are_said(tmp_path: Path, shift: float) -> None:
    shapes = {f"layers.{i}.{n}": s for i in range(6) for n, s in (("fc.weight", (12, 8)), ("norm.weight", (12,)))}
    points = Maker(8).walk(shapes, count=6, start=0.05, move=0.004)
    gain = 1.0 if shift < 0 else 0.0
    stored = [
        {n: w + gain + (shift if t > 2 else 0.0) if "norm" in n else w for n, w in p.items()}
        for t, p in enumerate(points)
    ]
    (finding,) = rearranged(analysed(tmp_path, stored))
    assert finding.steps == (200, 300)
    how = "with 1 taken from" if shift < 0 else "with 1 added to"
    assert f"and 2 more {how} every element" in finding.message
    assert set(finding.details["tensors"]) == {n for n in points[0] if "norm" in n}


@pytest.mark.parametrize("what", ["from zero", "towards one", "one number"])
def test_gains_that_are_trained_are_none(tmp_path: Path, what: str) -> None:
    make = Maker(9)
    points = make.walk({"fc.weight": (12, 8), "norm.weight": (32,), "scale": (1,)}, count=6, start=0.05, move=0.004)
    for t, p in enumerate(points):
        if what == "from zero":
            p["norm.weight"] = p["norm.weight"] + 1.0 if t > 2 else torch.zeros(32)
        if what == "towards one" and t > 2:
            p["norm.weight"] = p["norm.weight"] + 0.8 + make.tensor(32, scale=0.2)
        if what == "one number":
            p["scale"] = p["scale"] + (1.0 if t > 2 else 0.0)
    assert rearranged(analysed(tmp_path, points)) == []
