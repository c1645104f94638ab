"""Complex parameters count as their real and imaginary parts, in every format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from field_runs import Maker, Point, analysed, assert_right, said

SHAPES = {"spectral.weights1.re": (4, 6, 3), "spectral.weights1.im": (4, 6, 3), "fc.weight": (8, 8)}


def complex_points(wide: bool = False) -> tuple[list[Point], list[Point]]:
    """The points of a walk, and the same with two tensors as one that is complex."""
    points = Maker(31).walk(SHAPES)
    kind = torch.float64 if wide else torch.float32
    stored = [
        {
            "spectral.weights1": torch.complex(*(p[f"spectral.weights1.{part}"].to(kind) for part in ("re", "im"))),
            "fc.weight": p["fc.weight"],
        }
        for p in points
    ]
    return points, stored


@pytest.mark.parametrize(("kind", "wide"), [("pt", False), ("pt", True), ("safetensors", False)])
def test_complex_parameters_are_counted(tmp_path: Path, kind: str, wide: bool) -> None:
    points, stored = complex_points(wide)
    run = analysed(tmp_path, stored, kind=kind)
    assert_right(run, points)
    assert not said(run)


def test_a_complex_tensor_that_does_not_lie_in_order_is_read_too(tmp_path: Path) -> None:
    points, stored = complex_points()
    turned = [p | {"spectral.weights1": p["spectral.weights1"].transpose(0, 2)} for p in stored]
    assert_right(analysed(tmp_path, turned), points)


def test_half_of_a_run_may_hold_them_as_real(tmp_path: Path) -> None:
    points, stored = complex_points()
    real = [p | {"spectral.weights1": torch.view_as_real(p["spectral.weights1"])} for p in stored]
    assert_right(analysed(tmp_path, [*stored[:3], *real[3:]]), points)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_distributed_checkpoints_have_them_too(tmp_path: Path) -> None:
    points, stored = complex_points()
    for i, point in enumerate(stored):
        dcp.save(point, checkpoint_id=str(tmp_path / "run" / f"step_{100 * i}"), no_dist=True)
    assert_right(analysed(tmp_path, stored), points)


def test_a_complex_table_of_rotary_frequencies_is_no_parameter(tmp_path: Path) -> None:
    points = Maker(32).walk()
    table = torch.polar(torch.ones(20, 4), torch.arange(80.0).reshape(20, 4))
    assert_right(analysed(tmp_path, [p | {"freqs_cis": table} for p in points]), points)
