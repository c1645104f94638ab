"""What is read is one thing throughout: of two files of one model, and of the state dicts in each file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from tests.field.listed_runs import analyzed, averaged, findings, right, save, walk
from trajsvc.results.run import Run

Other = Callable[[Path, Mapping[str, torch.Tensor]], object]


def sharded(folder: Path, point: Mapping[str, torch.Tensor]) -> None:
    names = sorted(point)
    for i, part in enumerate((names[:2], names[2:]), 1):
        save(folder / f"pytorch_model-0000{i}-of-00002.bin", {n: point[n] for n in part})
    index = {n: f"pytorch_model-0000{1 + (n in names[2:])}-of-00002.bin" for n in names}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))


BESIDE: dict[str, Other] = {
    "another format": lambda folder, point: save(folder / "pytorch_model.bin", dict(point)),
    "another precision": lambda folder, point: save(
        folder / "model.fp16.safetensors", {n: v.half() for n, v in point.items()}
    ),
    "shards": sharded,
}


def beside(tmp_path: Path, what: str, same: bool) -> Run:
    points, others = walk(4), walk(4, seed=9)
    for i, (point, other) in enumerate(zip(points, others, strict=True)):
        folder = tmp_path / "run" / f"checkpoint-{100 * i}"
        save(folder / "model.safetensors", point)
        BESIDE[what](folder, point if same or i < 2 else other)
    run = analyzed(tmp_path / "run")
    right(run, points)
    return run


@pytest.mark.parametrize("what", BESIDE)
def test_another_file_with_other_values_is_a_warning(tmp_path: Path, what: str) -> None:
    (found,) = findings(beside(tmp_path, what, same=False), "files-differ")
    assert found.severity == "warning"
    assert found.steps == (200, 300)


@pytest.mark.parametrize("what", BESIDE)
def test_another_file_with_the_same_values_is_none(tmp_path: Path, what: str) -> None:
    assert not [f for f in beside(tmp_path, what, same=True).findings if f.severity != "info"]


def test_the_other_file_is_read_by_a_pattern(tmp_path: Path) -> None:
    beside(tmp_path, "another format", same=False)
    points, others = walk(4), walk(4, seed=9)
    run = analyzed(f"{tmp_path}/run/*/pytorch_model.bin", replace=True)
    right(run, [*points[:2], *others[2:]])


def test_a_file_with_the_average_alone_is_left_out(tmp_path: Path) -> None:
    points = walk(6)
    for i, (point, average) in enumerate(zip(points, averaged(points), strict=True)):
        save(tmp_path / "run" / f"step_{i}.pt", {"ema": average} if i == 2 else {"model": point, "ema": average})
    run = analyzed(tmp_path / "run")
    right(run, [p for i, p in enumerate(points) if i != 2])
    (found,) = findings(run, "missing-weights")
    assert found.severity == "warning"
    assert found.steps == (2,)
    right(analyzed(tmp_path / "run", state="ema", replace=True), averaged(points))


def test_averages_in_all_files_are_what_there_is(tmp_path: Path) -> None:
    points = averaged(walk(4))
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"step_{i}.pt", {"ema": point})
    right(analyzed(tmp_path / "run"), points)


def test_what_says_that_it_is_no_average_is_the_model(tmp_path: Path) -> None:
    points = walk(5)
    for i, (point, average) in enumerate(zip(points, averaged(points), strict=True)):
        content = {"state_dict": point} if i < 2 else {"state_dict": average, "non_ema_state_dict": point}
        save(tmp_path / "run" / f"step_{i}.pt", content)
    right(analyzed(tmp_path / "run"), points)
