"""Matrices of 8-bit floating types are read as values, times the scales beside them, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from field_runs import Maker, Point, analysed, matrix, of_kind, oracle, said
from safetensors.torch import save_file

import trajsvc
from trajsvc.results.run import Run

NAMES = {
    "model.layers.0.self_attn.q_proj.weight": (300, 200),
    "model.layers.0.self_attn.o_proj.weight": (200, 300),
    "model.norm.weight": (200,),
}
MATRICES = [n for n in NAMES if "proj" in n]
KINDS = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
LARGEST = 240.0


def blocks(value: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The largest magnitude of every block of a matrix, over ``LARGEST``."""
    padded = torch.nn.functional.pad(value.abs(), (0, -value.shape[1] % columns, 0, -value.shape[0] % rows))
    shaped = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns)
    return shaped.amax(dim=(1, 3)) / LARGEST


def spread(scale: torch.Tensor, value: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """A scale for every element."""
    whole = scale.double().repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return whole[: value.shape[0], : value.shape[1]]


Quantise = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""a matrix → its scales as they are stored, and one for every element in float64"""

SCALES: dict[str, tuple[str, Quantise]] = {
    "blocks": ("weight_scale_inv", lambda v: (s := blocks(v, 128, 128), spread(s, v, 128, 128))),
    "tensor": ("weight_scale", lambda v: (s := v.abs().max() / LARGEST, s.double().expand(v.shape))),
    "tensor of one": ("scale_weight", lambda v: (s := v.abs().amax()[None] / LARGEST, s.double().expand(v.shape))),
    "rows": ("weight_scale", lambda v: (s := blocks(v, 1, v.shape[1]), spread(s, v, 1, v.shape[1]))),
    "rows, flat": ("weight_scale", lambda v: ((s := blocks(v, 1, v.shape[1]))[:, 0], spread(s, v, 1, v.shape[1]))),
    "columns": ("weight_scale", lambda v: (s := blocks(v, v.shape[0], 1), spread(s, v, v.shape[0], 1))),
    "half": ("weight_scale", lambda v: (s := blocks(v, 128, 128).bfloat16(), spread(s, v, 128, 128))),
    "powers of two": (
        "weight_scale_inv",
        lambda v: (s := blocks(v, 1, 50).log2().ceil().exp2().to(torch.float8_e8m0fnu), spread(s.float(), v, 1, 50)),
    ),
}


def quantised(point: Point, leaf: str, scales: Quantise, kind: torch.dtype) -> tuple[Point, Point]:
    """The point as it is stored, and what its stored values are in float64."""
    stored, right = dict(point), dict(point)
    for name in MATRICES:
        scale, everywhere = scales(point[name])
        stored[name] = (point[name].double() / everywhere).float().to(kind)
        stored[name.removesuffix("weight") + leaf] = scale.clone().contiguous()
        right[name] = stored[name].double() * everywhere
    return stored, right


def assert_exact(run: Run, points: list[Point]) -> None:
    right = oracle(points)
    assert len(run.steps) == len(points)
    assert abs(float(run.measure("mds")) - right["mds"]) < 1e-12
    assert abs(float(run.measure("path_length")) / right["path_length"] - 1) < 1e-12
    assert run.groups()["network"].parameters == matrix(points[:1]).shape[1]


@pytest.mark.parametrize(
    ("kind", "form"), [*((k, "pt") for k in KINDS), *((k, "safetensors") for k in KINDS[:2])], ids=str
)
def test_codes_without_scales_are_their_values(tmp_path: Path, kind: torch.dtype, form: str) -> None:
    points = Maker(1).walk(NAMES, start=1.0, move=0.3)
    stored = [{n: v.to(kind) if n in MATRICES else v for n, v in p.items()} for p in points]
    run = analysed(tmp_path, stored, kind=form)
    assert_exact(run, [{n: v.double() for n, v in p.items()} for p in stored])
    assert not said(run)
    assert "without a scale" in of_kind(run, "float8").message
    assert of_kind(run, "float8").details["types"] == str(kind).removeprefix("torch.")


@pytest.mark.parametrize("way", SCALES)
@pytest.mark.parametrize("options", [{}, {"copy": True}, {"memory": "64MiB"}], ids=["in place", "copied", "many slabs"])
def test_scales_are_multiplied_in(tmp_path: Path, way: str, options: dict[str, object]) -> None:
    points = [quantised(p, *SCALES[way], torch.float8_e4m3fn) for p in Maker(2).walk(NAMES, count=5)]
    run = analysed(tmp_path, [stored for stored, _ in points], kind="safetensors", **options)
    assert_exact(run, [right for _, right in points])
    assert not said(run)
    assert f"times {SCALES[way][0]}" in of_kind(run, "float8").message
    assert {"scale of a quantised matrix"} == set(run.attributes["left_out"].values())


def test_a_matrix_that_does_not_lie_in_order_is_read_too(tmp_path: Path) -> None:
    points = [quantised(p, *SCALES["blocks"], torch.float8_e5m2) for p in Maker(3).walk(NAMES, count=4)]
    turned = [
        {n: v.view(torch.uint8).t().contiguous().t().view(v.dtype) if n in MATRICES else v for n, v in stored.items()}
        for stored, _ in points
    ]
    assert_exact(analysed(tmp_path, turned), [right for _, right in points])


def test_experts_have_scales_of_their_own(tmp_path: Path) -> None:
    maker = Maker(4)
    points, rights = [], []
    for p in maker.walk({"experts.weight": (3, 40, 24)}, count=4):
        scale = p["experts.weight"].abs().amax(dim=(1, 2)) / LARGEST
        codes = (p["experts.weight"] / scale[:, None, None]).to(torch.float8_e4m3fn)
        points.append({"experts.weight": codes, "experts.weight_scale": scale})
        rights.append({"experts.weight": codes.double() * scale.double()[:, None, None]})
    assert_exact(analysed(tmp_path, points), rights)


def test_a_run_may_become_8_bit_in_its_middle(tmp_path: Path) -> None:
    points = Maker(5).walk(NAMES)
    pairs = [quantised(p, *SCALES["blocks"], torch.float8_e4m3fn) if i > 2 else (p, p) for i, p in enumerate(points)]
    run = analysed(tmp_path, [stored for stored, _ in pairs])
    assert_exact(run, [right for _, right in pairs])
    assert of_kind(run, "float8").steps == (300, 400, 500)


def test_scales_may_lie_in_another_shard(tmp_path: Path) -> None:
    points = [quantised(p, *SCALES["rows"], torch.float8_e4m3fn) for p in Maker(6).walk(NAMES, count=4)]
    for i, (stored, _) in enumerate(points):
        place = tmp_path / "run" / f"step_{100 * i}"
        place.mkdir(parents=True)
        shards = {n: f"model-0000{1 + n.endswith('scale')}-of-00002.safetensors" for n in stored}
        for shard in set(shards.values()):
            save_file({n: v for n, v in stored.items() if shards[n] == shard}, place / shard)
        (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    run = trajsvc.analyze(tmp_path / "run", store=tmp_path / "store")
    assert_exact(run, [right for _, right in points])


def test_scales_that_do_not_fit_leave_the_matrix_out_with_a_warning(tmp_path: Path) -> None:
    points = []
    for p in Maker(7).walk(NAMES, count=4):
        stored, _ = quantised(p, *SCALES["blocks"], torch.float8_e4m3fn)
        stored[MATRICES[0] + "_scale_inv"] = torch.ones(7, 3)
        points.append(stored)
    run = analysed(tmp_path, points)
    assert of_kind(run, "not-floating").tensors == (MATRICES[0],)


def test_the_noise_is_that_of_8_bits(tmp_path: Path) -> None:
    points = Maker(8).walk(NAMES, start=1.0)
    stored = [{n: v.to(torch.float8_e4m3fn) if n in MATRICES else v for n, v in p.items()} for p in points]
    run = analysed(tmp_path, stored)
    noise = run.stored.contents().rounding[list(run.stored.blocks.tensor).index(MATRICES[0])]
    true = [
        float((p[MATRICES[0]].double() - s[MATRICES[0]].double()).square().sum())
        for p, s in zip(points, stored, strict=True)
    ]
    assert np.allclose(noise, true, rtol=0.25)


@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_codes_that_are_equal_under_other_scales_are_another_checkpoint(tmp_path: Path, form: str) -> None:
    """Only the scales of one checkpoint differ from those of the one before: no copy, and an update of its size."""
    leaf, scales = SCALES["blocks"]
    points = [quantised(p, leaf, scales, torch.float8_e4m3fn) for p in Maker(2).walk(NAMES, count=4)]
    stored, right = dict(points[2][0]), dict(points[2][1])
    for name in MATRICES:
        beside = name.removesuffix("weight") + leaf
        stored[beside], right[name] = stored[beside] * 2, right[name] * 2
    points[3] = stored, right
    run = analysed(tmp_path, [s for s, _ in points], kind=form)
    assert_exact(run, [r for _, r in points])
    assert "identical" not in {f.kind for f in run.findings}
    points[3] = points[2]
    again = analysed(tmp_path, [s for s, _ in points], kind=form, name="copied")
    assert of_kind(again, "identical").steps == (200, 300)
