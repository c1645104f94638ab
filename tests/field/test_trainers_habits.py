"""What trainers keep beside the weights and how they name their files: the right tensors, in the right order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from field_runs import Maker, Point, analysed, assert_right, of_kind, said

import trajsvc
from trajsvc.results.run import Run


def written(folder: Path, names: Sequence[str], points: Sequence[Any]) -> Run:
    folder.mkdir()
    for name, point in zip(names, points, strict=True):
        torch.save(point, folder / name)
    found = trajsvc.analyze(folder, store=folder.parent / "store", name="run")
    assert isinstance(found, Run)
    return found


@pytest.mark.parametrize(
    ("names", "steps", "axis"),
    [
        (["ckpt_ep1_it500", "ckpt_ep1_it1000", "ckpt_ep2_it1500"], [500, 1000, 1500], "step"),
        (["e0_s0", "e0_s500", "e1_s1000"], [0, 500, 1000], "step"),
        (["model_500K", "model_1.5M", "model_2M"], [500_000, 1_500_000, 2_000_000], "step"),
        (["net_0.5k_ema", "net_1k_ema", "net_10k_ema"], [500, 1000, 10_000], "step"),
        (["ckpt-2k", "ckpt-10k", "ckpt-1M"], [2000, 10_000, 1_000_000], "step"),
        (["step_1e3", "step_2.5e3", "step_1e4"], [1000, 2500, 10_000], "step"),
        (["model_1e5_steps", "model_1e6_steps", "model_1.5e6_steps"], [100_000, 1_000_000, 1_500_000], "step"),
        (["ckpt-1B", "ckpt-2B", "ckpt-10B"], [10**9, 2 * 10**9, 10**10], "tokens"),
        (["ckpt_1", "ckpt_2", "ckpt_10"], [1, 2, 10], "index"),
        (["lr1e-4_bs32_step9", "lr1e-4_bs32_step10", "lr1e-4_bs32_step100"], [9, 10, 100], "step"),
        (["9_steps", "10_steps", "100_steps"], [9, 10, 100], "step"),
    ],
)
def test_names_are_read_for_what_they_say(tmp_path: Path, names: list[str], steps: list[int], axis: str) -> None:
    points = Maker(1).walk(count=3)
    order = [1, 2, 0]
    run = written(tmp_path / "run", [f"{names[i]}.pt" for i in order], [points[i] for i in order])
    assert list(run.steps) == steps
    assert run.attributes["axis"] == axis
    assert_right(run, points)
    assert not said(run)


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_that_count_checkpoints_stand_at_their_files_steps(tmp_path: Path, first: int) -> None:
    points = Maker(2).walk(count=5)
    files = [{"model": p, "step": 1000 * (first + i)} for i, p in enumerate(points)]
    run = written(tmp_path / "run", [f"model-{first + i}.pt" for i in range(5)], files)
    assert list(run.steps) == [1000 * (first + i) for i in range(5)]
    assert_right(run, points)
    assert "count checkpoints" in of_kind(run, "counted").message
    assert not said(run)


@pytest.mark.parametrize("steps", [[1000, 2000, 1500, 4000], [7, 7, 7, 7], [1000, None, 3000, 4000]])
def test_steps_that_do_not_rise_with_the_numbers_leave_them(tmp_path: Path, steps: list[int | None]) -> None:
    points = Maker(3).walk(count=4)
    files = [{"model": p, **({} if s is None else {"step": s})} for p, s in zip(points, steps, strict=True)]
    run = written(tmp_path / "run", [f"model-{i + 1}.pt" for i in range(4)], files)
    assert list(run.steps) == [1, 2, 3, 4]


Beside = Callable[[Maker, Point, int], dict[str, torch.Tensor]]
TABLE = torch.linspace(-2, 2, 480).reshape(1, 30, 16)
BESIDE: dict[str, Beside] = {
    "statistics of observations": lambda m, p, i: {"obs_norm.mean": m.tensor(7), "obs_norm.var": m.tensor(7)},
    "statistics of returns": lambda m, p, i: {"ret_rms.mean": m.tensor(1), "ret_rms._std": m.tensor(1)},
    "normaliser": lambda m, p, i: {
        "pre.normalizer.running_std": m.tensor(7),
        "normalizer.count": torch.tensor(float(i)),
    },
    "slopes": lambda m, p, i: {"h.0.attn.slopes": TABLE[0, :8, 0], "alibi": TABLE},
    "fixed positions": lambda m, p, i: {"pos_embed": TABLE, "decoder_pos_embed": TABLE},
    "gradients": lambda m, p, i: {f"{n}.grad": m.tensor(*v.shape) for n, v in p.items()},
    "momenta": lambda m, p, i: {
        f"{n}_{w}": m.tensor(*v.shape) for n, v in p.items() for w in ("momentum", "exp_avg_sq")
    },
    "state of a train state": lambda m, p, i: (
        {f"opt_state.0.{w}.params.{n}": m.tensor(*v.shape) for n, v in p.items() for w in ("mu", "nu")}
        | {"batch_stats.BatchNorm_0.mean": m.tensor(9) * i, "batch_stats.BatchNorm_0.var": m.tensor(9).abs() + i}
    ),
    "state of an optimizer further in": lambda m, p, i: {
        f"app.optim.state.{n}.sum": m.tensor(*v.shape).abs() * i for n, v in p.items()
    },
    "chained optimizers": lambda m, p, i: {
        f"chained_{k}.optimizer.state.{w}.{n}": v if w == "fp32_param" else m.tensor(*v.shape)
        for k, (n, v) in enumerate(p.items())
        for w in ("fp32_param", "exp_avg")
    },
    "several optimizers": lambda m, p, i: {f"optimizer_1.state.{n}.buf": m.tensor(*v.shape) for n, v in p.items()},
    "momenta under a word": lambda m, p, i: {
        f"opt.{n}.{w}": m.tensor(*v.shape) for n, v in p.items() for w in ("m", "v")
    },
    "variables of an optimizer": lambda m, p, i: {
        f"adam/{n.replace('.', '_')}_{w}": m.tensor(*v.shape) for n, v in p.items() for w in ("momentum", "velocity")
    },
    "statistics with slashes": lambda m, p, i: {
        "net/~/bn/~/mean_ema/average": m.tensor(9) * i,
        "net/obs_norm/mean": m.tensor(9) * i,
        "net/~/bn/~/var_ema/hidden": m.tensor(9) * i,
    },
    "master copies": lambda m, p, i: {f"master_params.{n}": v + 1e-6 for n, v in p.items()},
    "banks of features": lambda m, p, i: {"contrast.memory_v1": m.tensor(50, 16).abs()},
    "average in one word": lambda m, p, i: {f"ema_{n.replace('.', '_')}": v for n, v in p.items()},
}


@pytest.mark.parametrize("what", BESIDE)
def test_what_is_kept_beside_the_weights_is_no_parameter(tmp_path: Path, what: str) -> None:
    points = Maker(4).walk(count=6)
    averages, maker = Maker(4).averages(points), Maker(5)
    run = analysed(
        tmp_path, [p | BESIDE[what](maker, a, i) for i, (p, a) in enumerate(zip(points, averages, strict=True))]
    )
    assert_right(run, points)
    assert not said(run)
    assert of_kind(run, "left-out")


def test_learned_positions_are_parameters(tmp_path: Path) -> None:
    points = Maker(6).walk(
        {"fc.weight": (16, 16), "pos_embed": (1, 30, 16), "encoder.position_embeddings.weight": (30, 16)}
    )
    run = analysed(tmp_path, points)
    assert_right(run, points)
    assert not said(run)


def test_a_word_alone_is_no_state_of_an_optimizer(tmp_path: Path) -> None:
    shapes = {"gate_grad.weight": (8, 8), "edge.grad": (8, 8), "edge.weight": (8, 8), "opt.decoder.weight": (8, 8)}
    points = Maker(7).walk(shapes | {"learned.optimizer.lstm.weight": (8, 8), "memory_tokens": (4, 8)})
    assert_right(analysed(tmp_path, points), points)
