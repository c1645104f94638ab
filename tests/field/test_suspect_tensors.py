"""What may be no parameter and is not known is counted, and named in one warning with its share and the line that leaves it out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from field_runs import Maker, Point, analysed, assert_right, of_kind, oracle, said

Case = Callable[[Maker], tuple[Sequence[Point], Sequence[Point]]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


@case
def constant_of_an_unknown_name(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    zeta = make.tensor(50, 16)
    return [{**p, "blocks.0.zeta": zeta} for p in points], points


@case
def frozen_backbone(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    frozen = {f"trunk.{i}.weight": make.tensor(30, 30) for i in range(12)}
    return [{**p, **frozen} for p in points], points


@case
def average_under_another_prefix(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    return [
        {**p, **{f"zz.{n}": t for n, t in a.items()}} for p, a in zip(points, make.averages(points), strict=True)
    ], points


@case
def average_beside_in_every_module(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk({f"blocks.{i}.one.w": (16, 16) for i in range(4)})
    pairs = zip(points, make.averages(points, keep=0.5), strict=True)
    return [{**p, **{n.replace("one", "two"): t for n, t in a.items()}} for p, a in pairs], points


@case
def queue_that_is_replaced_whole(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    keys = [make.tensor(16, 128) for _ in points]
    return [{**p, "store": k / k.norm(dim=0)} for p, k in zip(points, keys, strict=True)], points


@case
def queue_that_is_replaced_in_turn(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points, keys, full = make.walk(), make.tensor(128, 16), []
    for i, point in enumerate(points):
        keys = keys.clone()
        keys[16 * i % 128 : 16 * i % 128 + 16] = make.tensor(16, 16)
        full.append({**point, "store": keys})
    return full, points


@case
def named_like_a_buffer(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    extra = make.walk({"head.running_scale": (64,)})
    return [{**p, **e} for p, e in zip(points, extra, strict=True)], points


@pytest.mark.parametrize("name", CASES)
def test_one_warning_names_them_and_its_line_leaves_them_out(tmp_path: Path, name: str) -> None:
    full, points = CASES[name](Maker(sum(map(ord, name))))
    run = analysed(tmp_path, full)
    assert_right(run, full)
    assert said(run) == {"suspect-tensors"}
    found = of_kind(run, "suspect-tensors")
    assert set(found.details["tensors"]) == set(full[0]) - set(points[0])
    words = shlex.split(found.message.rpartition(": ")[2])
    assert words[::2] == ["--exclude"] * (len(words) // 2)
    assert len(words) // 2 <= 2
    again = analysed(tmp_path, full, called="again", exclude=words[1::2])
    assert_right(again, points)
    assert not said(again)
    assert "--exclude" in of_kind(again, "left-out").message


def test_the_share_is_that_of_the_squared_norm(tmp_path: Path) -> None:
    make = Maker(1)
    points = make.walk()
    zeta = make.tensor(40, 40)
    run = analysed(tmp_path, [{**p, "zeta": zeta} for p in points])
    mine = float(zeta.double().square().sum())
    shares = [mine / (mine + sum(float(t.double().square().sum()) for t in p.values())) for p in points]
    found = of_kind(run, "suspect-tensors")
    assert found.details["tensors"]["zeta"]["share"] == pytest.approx(max(shares), abs=1e-6)
    assert f"{max(shares):.1%} of the squared norm" in found.message


def test_an_ordinary_run_raises_no_doubt(tmp_path: Path) -> None:
    points = Maker(2).walk(
        {f"layers.{i}.{n}.weight": (16, 16) for i in range(4) for n in ("q_proj", "k_proj", "up", "down")}
    )
    for t, p in enumerate(points):  # norms move together, as they do under weight decay
        p |= {f"layers.{i}.norm.weight": torch.full((16,), 1.0 - 0.01 * t * (1 + i)) for i in range(4)}
        p["layers.0.bias"] = torch.zeros(16)
    run = analysed(tmp_path, points)
    assert_right(run, points)
    assert not run.findings


def test_a_run_that_does_not_move_says_so_of_its_checkpoints(tmp_path: Path) -> None:
    point = Maker(3).walk(count=1)[0]
    run = analysed(tmp_path, [point] * 3)
    assert "suspect-tensors" not in {f.kind for f in run.findings}
    assert {"identical", "zero-update"} <= {f.kind for f in run.findings}


def test_a_pattern_that_is_no_tensor_s_name_is_said(tmp_path: Path) -> None:
    points = Maker(4).walk()
    run = analysed(tmp_path, points, exclude=["decoder.*", "emb.weight"])
    kept = [{n: t for n, t in p.items() if n != "emb.weight"} for p in points]
    assert_right(run, kept)
    assert "--exclude decoder.*" in of_kind(run, "exclude-unused").message


def test_rules_leave_tensors_out_too(tmp_path: Path) -> None:
    points = Maker(5).walk()
    rules = tmp_path / "rules.toml"
    rules.write_text('[mine]\nextends = "generic"\nexclude = ["fc?.*"]\n')
    run = analysed(tmp_path, points, rules=rules)
    assert_right(run, [{"emb.weight": p["emb.weight"]} for p in points])


def test_the_oracle_sees_what_a_table_would_do(tmp_path: Path) -> None:
    """Counted, a table makes every map nearly 1: the reason for all of this."""
    make = Maker(6)
    points, table = make.walk(), make.tensor(100, 16)
    assert oracle([{**p, "table": table} for p in points])["mds"] > 0.99 > oracle(points)["mds"]
