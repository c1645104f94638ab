"""What is known to be no parameter is left out and named, and the numbers are those of the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from field_runs import Maker, Point, analysed, assert_right, of_kind, said

Case = Callable[[Maker], tuple[Sequence[Point], Sequence[Point]]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def beside(points: Sequence[Point], **constant: torch.Tensor) -> list[Point]:
    """The points with tensors that never change; ``__`` in a name is a dot."""
    return [{**{n.replace("__", "."): t for n, t in constant.items()}, **p} for p in points]


@case
def table_of_positions(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    angles = torch.arange(500).unsqueeze(1) * torch.exp(-torch.arange(0, 16, 2) / 4)
    table = torch.stack([angles.sin(), angles.cos()], dim=2).reshape(500, 1, 16)
    return beside(points, pos_encoder__pe=table), points


@case
def scales_of_adapters(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    modules = [f"lora_te_layers_{i}_{x}_proj" for i in range(3) for x in "qv"]
    shapes = {
        f"{m}.lora_{way}.weight": (4, 16) if way == "down" else (16, 4) for m in modules for way in ("down", "up")
    }
    points = make.walk(shapes)
    return [{**p, **{f"{m}.alpha": torch.tensor(32.0) for m in modules}} for p in points], points


@case
def masks_of_any_value(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    infinite = torch.triu(torch.full((12, 12), -math.inf), 1)
    return (
        beside(
            points,
            blocks__0__attn_mask=torch.full((4, 9, 9), -100.0),
            blocks__1__causal_mask=torch.triu(torch.full((12, 12), -1e9), 1),
            blocks__2__tril=torch.tril(torch.ones(7, 7)),
            blocks__3__mask=infinite,
            blocks__4__something=infinite,
            blocks__4__IGNORE=torch.tensor(-math.inf),
        ),
        points,
    )


@case
def schedules(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    betas = torch.linspace(1e-4, 0.02, 1000)
    kept = torch.cumprod(1 - betas, 0)
    return (
        beside(
            points,
            betas=betas,
            alphas_cumprod=kept,
            sqrt_recipm1_alphas_cumprod=(1 / kept - 1).sqrt(),
            loss_weight=kept,
        ),
        points,
    )


@case
def vectors_of_spectral_norm(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk({"0.weight_orig": (16, 8), "1.parametrizations.weight.original": (8, 16)})
    full = []
    for i, point in enumerate(points):
        sign = 1.0 if i % 2 else -1.0
        vectors = {}
        for stem, names in (("0.weight_orig", ("0.weight_u", "0.weight_v")),
                            ("1.parametrizations.weight.original",
                             ("1.parametrizations.weight.0._u", "1.parametrizations.weight.0._v"))):  # fmt: skip
            left, _, right = torch.linalg.svd(point[stem], full_matrices=False)
            vectors |= {names[0]: sign * left[:, 0], names[1]: sign * right[0]}
        full.append({**point, **vectors})
    return full, points


@case
def weight_norm_keeps_both_of_its_tensors(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk({"0.weight_g": (16, 1), "0.weight_v": (16, 8), "0.bias": (16,)})
    return beside(points, pe=make.tensor(9, 9)), points


@case
def momentum_encoder_and_queue(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk(
        {f"encoder_q.{n}": s for n, s in {"conv.weight": (8, 3, 3, 3), "fc.weight": (8, 8), "fc.bias": (8,)}.items()}
    )
    full = []
    for i, (point, average) in enumerate(zip(points, make.averages(points), strict=True)):
        keys = make.tensor(8, 256)
        full.append(
            {**point, **{n.replace("encoder_q", "encoder_k"): t for n, t in average.items()},
             "queue": keys / keys.norm(dim=0), "queue_ptr": torch.tensor([32 * i])}
        )  # fmt: skip
    return full, points


@pytest.mark.parametrize(
    ("model", "average"),
    [
        ("student.", "teacher."), ("", "ema."), ("", "ema.module."), ("model.", "ema_model."), ("online_net.", "target_net."),
        ("critic.", "critic_target."), ("visual.", "visual_m."), ("base_encoder.", "momentum_encoder."), ("net.", "net_ema."),
    ],
)  # fmt: skip
def test_averages_under_the_names_that_trainers_give_them(tmp_path: Path, model: str, average: str) -> None:
    make = Maker(7)
    points = make.walk()
    full = [
        {**{model + n: t for n, t in p.items()}, **{average + n: t for n, t in a.items()}}
        for p, a in zip(points, make.averages(points), strict=True)
    ]
    run = analysed(tmp_path, full)
    assert_right(run, points)
    assert not said(run)
    assert "moving average" in of_kind(run, "left-out").message


@case
def average_whose_names_lost_their_dots(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk(
        {f"model.{n}": s for n, s in {"blocks.0.fc.weight": (16, 16), "blocks.0.fc.bias": (16,)}.items()}
    )
    full = [
        {**p, **{f"model_ema.{n.removeprefix('model.').replace('.', '')}": t for n, t in a.items()},
         "model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
        for p, a in zip(points, make.averages(points), strict=True)
    ]  # fmt: skip
    return full, points


@case
def average_of_many_steps_between_checkpoints(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    fine = make.walk(count=501, move=0.002)
    pairs = list(zip(fine, make.averages(fine, keep=0.99), strict=True))[::100]
    full = [
        {**{f"student.{n}": t for n, t in p.items()}, **{f"teacher.{n}": t for n, t in a.items()}} for p, a in pairs
    ]
    return full, [{f"student.{n}": t for n, t in p.items()} for p, _ in pairs]


@case
def state_of_an_optimizer_inside(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    return [
        {**p, "exp_avg.fc1.weight": make.tensor(32, 16), "optimizer.state.0.exp_avg_sq": make.tensor(32, 16)}
        for p in points
    ], points


@case
def codebook_statistics_and_quantisation_observers(make: Maker) -> tuple[Sequence[Point], Sequence[Point]]:
    points = make.walk()
    return [
        {
            **p,
            "vq.cluster_size": make.tensor(40),
            "vq.embed_avg": make.tensor(40, 8),
            "fc1.activation_post_process.min_val": make.tensor(1),
        }
        for p in points
    ], points


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("name", CASES)
def test_known_kinds_are_left_out_and_named(tmp_path: Path, name: str, kind: str) -> None:
    full, points = CASES[name](Maker(sum(map(ord, name))))
    run = analysed(tmp_path, full, kind=kind)
    assert_right(run, points)
    assert not said(run)
    left = of_kind(run, "left-out")
    assert left.severity == "info"
    floats = {n for n, t in full[0].items() if t.is_floating_point()}
    assert set(left.tensors) == floats - set(points[0])


def test_a_table_that_is_learned_is_a_parameter(tmp_path: Path) -> None:
    points = Maker(1).walk({"pe": (20, 8), "attn.mask_token": (8,), "fc.weight": (8, 8), "alpha": ()})
    run = analysed(tmp_path, points)
    assert_right(run, points)
    assert not run.findings


def test_a_teacher_that_is_trained_on_its_own_is_counted_and_doubted(tmp_path: Path) -> None:
    make = Maker(2)
    one, other = make.walk(), make.walk()
    full = [
        {**{f"student.{n}": t for n, t in a.items()}, **{f"teacher.{n}": t for n, t in b.items()}}
        for a, b in zip(one, other, strict=True)
    ]
    run = analysed(tmp_path, full)
    assert_right(run, full)
    assert "moves on its own" in of_kind(run, "suspect-tensors").message


def test_keys_and_queries_of_attention_are_no_pair_of_encoders(tmp_path: Path) -> None:
    names = ("self.query", "self.key", "q_proj", "k_proj", "norm_q", "norm_k")
    points = Maker(3).walk({f"layers.0.{n}.weight": (8, 8) for n in names})
    run = analysed(tmp_path, points)
    assert_right(run, points)
    assert not run.findings


@pytest.mark.parametrize("half", [False, True])
def test_tied_copies_are_counted_once_whether_some_or_all_checkpoints_have_both(tmp_path: Path, half: bool) -> None:
    points = Maker(4).walk({"transformer.wte.weight": (30, 8), "transformer.h.0.fc.weight": (8, 8)})
    full = [
        p if half and i < 3 else {**p, "lm_head.weight": p["transformer.wte.weight"].clone()}
        for i, p in enumerate(points)
    ]
    run = analysed(tmp_path, full, kind="safetensors")
    assert_right(run, points)
    assert not said(run)
    assert run.attributes["left_out"] == {"lm_head.weight": "tied to transformer.wte.weight"}
    assert of_kind(run, "equal-copies").tensors == ("lm_head.weight",)


def test_a_head_that_leaves_the_embedding_is_counted(tmp_path: Path) -> None:
    points = Maker(5).walk({"wte.weight": (30, 8), "fc.weight": (8, 8)})
    full = [{**p, "lm_head.weight": p["wte.weight"].clone()} for p in points]
    full[3]["lm_head.weight"][29, 7] += 1e-3
    assert_right(analysed(tmp_path, full), full)


def test_layers_that_begin_alike_are_counted(tmp_path: Path) -> None:
    points = Maker(6).walk({"layers.0.w": (8, 8), "layers.1.w": (8, 8), "norm.weight": (8,), "norm2.weight": (8,)})
    points[0]["layers.1.w"] = points[0]["layers.0.w"].clone()
    for p in points:
        p["norm.weight"] = p["norm2.weight"] = torch.ones(8)
    assert_right(analysed(tmp_path, points, kind="safetensors"), points)


def test_biases_of_parallel_branches_stay_equal_and_are_two(tmp_path: Path) -> None:
    """Their gradients are equal, as GPT-NeoX adds attention and MLP to one residual: equal values are no sign of a copy."""
    points = Maker(8).walk({"attention.dense.bias": (64,), "mlp.out.weight": (8, 8)})
    full = [{**p, "mlp.out.bias": p["attention.dense.bias"].clone()} for p in points]
    run = analysed(tmp_path, full, kind="safetensors")
    assert_right(run, full)
    assert not run.findings


@pytest.mark.parametrize("tied", [(0,), (0, 1, 2), (5,)], ids=["at first", "some steps", "at last"])
def test_one_object_at_some_steps_is_two_parameters(tmp_path: Path, tied: tuple[int, ...]) -> None:
    """A torch file has one storage for what is one object in memory: a head before it is untied, a copy of what training begins with."""
    points = Maker(9).walk({"wte.weight": (30, 8), "fc.weight": (8, 8)})
    heads = Maker(10).walk({"lm_head.weight": (30, 8)})
    full = [{**p, **({"lm_head.weight": p["wte.weight"]} if t in tied else heads[t])} for t, p in enumerate(points)]
    run = analysed(tmp_path, full)
    assert_right(run, full)
    assert said(run) <= {"jump"}  # to values of another start, where it was the embedding


def test_one_object_that_is_a_copy_later_is_one_parameter(tmp_path: Path) -> None:
    points = Maker(11).walk({"wte.weight": (30, 8), "fc.weight": (8, 8)})
    full = [
        {**p, "lm_head.weight": p["wte.weight"] if t < 3 else p["wte.weight"].clone()} for t, p in enumerate(points)
    ]
    assert_right(analysed(tmp_path, full), points)
