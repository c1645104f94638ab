"""Names that differ in more than their step: two numbers that leave two orders, and words of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.field.listed_runs import analyzed, findings, right, save, walk
from trajsvc.errors import Refused


def saved(folder: Path, names: list[str], form: str = "{}.pt") -> list[Any]:
    points = walk(len(names))
    for name, point in zip(names, points, strict=True):
        save(folder / form.format(name), point)
    return points


@pytest.mark.parametrize(
    "names",
    [
        ["round1_step100", "round1_step300", "round2_step200", "round2_step400"],
        ["task0_epoch3", "task0_epoch7", "task1_epoch2", "task1_epoch5"],
        ["net_v1_1000", "net_v1_3000", "net_v2_500", "net_v2_2000"],
        ["cycle1/epoch_4", "cycle1/epoch_9", "cycle2/epoch_3", "cycle2/epoch_7"],
    ],
)
def test_two_numbers_that_do_not_rise_together_are_asked_about(tmp_path: Path, names: list[str]) -> None:
    points = saved(tmp_path / "run", names)
    inner = "/" in names[0]
    source = f"{tmp_path}/run/*/*.pt" if inner else tmp_path / "run"
    with pytest.raises(Refused) as caught:
        analyzed(source)
    assert caught.value.kind == "step-conflict"
    by_phase, by_step = re.findall(r"--step-pattern '([^']+)'", caught.value.hint)
    right(analyzed(source, step_pattern=by_phase), points)
    in_steps = sorted(range(len(names)), key=lambda i: int(re.findall(r"\d+", names[i])[-1]))
    right(analyzed(source, step_pattern=by_step, replace=True), [points[i] for i in in_steps])


def test_a_number_and_a_score_that_nothing_names_are_asked_about(tmp_path: Path) -> None:
    points = saved(tmp_path / "run", ["model_1_62", "model_2_71", "model_3_69", "model_10_75"])
    with pytest.raises(Refused, match="two orders") as caught:
        analyzed(tmp_path / "run")
    first = re.findall(r"--step-pattern '([^']+)'", caught.value.hint)[-1]
    run = analyzed(tmp_path / "run", step_pattern=first)
    assert run.steps.tolist() == [1, 2, 3, 10]
    right(run, points)


def test_files_may_say_which_of_two_numbers_is_the_step(tmp_path: Path) -> None:
    names, points = ["model_62_1", "model_71_2", "model_69_3"], walk(3)
    for i, (name, point) in enumerate(zip(names, points, strict=True)):
        save(tmp_path / "run" / f"{name}.pt", {"model": point, "epoch": i + 1})
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [1, 2, 3]
    right(run, points)


@pytest.mark.parametrize(
    "names",
    [
        ["round1_step100", "round1_step200", "round2_step300", "round3_step400"],
        ["net_124M_1000", "net_124M_2000", "net_124M_3000"],
        ["ckpt_0_500", "ckpt_1_200", "ckpt_2_800"],
        ["step100_quality_61", "step200_quality_58", "step300_quality_66", "step400_quality_64"],
        ["step100_map_42", "step200_map_43", "step300_map_42", "step400_map_43"],
    ],
)
def test_one_order_is_not_asked_about(tmp_path: Path, names: list[str]) -> None:
    run = analyzed((tmp_path / "run", points := saved(tmp_path / "run", names))[0])
    right(run, points)
    assert not [f for f in run.findings if f.severity != "info"]


def test_parts_behind_the_step_that_have_steps_of_their_own_are_named(tmp_path: Path) -> None:
    names = ["step100_piece1", "step300_piece1", "step200_piece2", "step400_piece2"]
    points = saved(tmp_path / "run", names)
    (found,) = findings(analyzed(tmp_path / "run"), "second-number")
    assert found.severity == "warning"
    (pattern,) = re.findall(r"--step-pattern '([^']+)'", found.message)
    right(analyzed(tmp_path / "run", step_pattern=pattern, replace=True), points)


@pytest.mark.parametrize(
    "names",
    [
        ["fold0_epoch12", "fold1_epoch9", "fold2_epoch15"],
        ["seed0_step900", "seed1_step1200"],
        ["cifar_epoch90", "svhn_epoch100", "mnist_epoch50", "mnist_epoch60"],
        ["lr0.1_step500", "lr0.01_step700", "lr1e-3_step900"],
        ["net_wd1_step500", "net_wd2_step700", "net_wd3_step900"],
        ["bs32_step100", "bs32_step300", "bs64_step200", "bs64_step400"],
        ["exp_a/best_step500", "exp_b/best_step1000", "exp_c/best_step1500"],
        ["seed0/step_900", "seed1/step_1200", "seed2/step_1500"],
    ],
)
def test_checkpoints_with_words_of_their_own_are_asked_about(tmp_path: Path, names: list[str]) -> None:
    points = saved(tmp_path / "run", names)
    source = f"{tmp_path}/run/*/*.pt" if "/" in names[0] else tmp_path / "run"
    with pytest.raises(Refused) as caught:
        analyzed(source)
    assert caught.value.kind == "ambiguous-state"
    (pattern,) = re.findall(r"--step-pattern '([^']+)'", caught.value.hint)
    order = sorted(range(len(names)), key=lambda i: int(re.findall(r"\d+", names[i])[-1]))
    right(analyzed(source, step_pattern=pattern), [points[i] for i in order])


@pytest.mark.parametrize(
    "names",
    [
        ["a3f9b2_step100", "77e1c0_step200", "0badf0_step300", "deadbe_step400"],
        ["step_100_jan05", "step_200_feb01", "step_300_mar11"],
        ["lr0.1_step100", "lr0.1_step200", "lr0.01_step300", "lr0.01_step400"],
        ["lr1e-4_step100", "lr1e-4_step200", "lr1e-4_step300"],
        ["step_100_lr0.1", "step_200_lr0.05", "step_300_lr0.01"],
        ["step_100", "step_200", "step_300_resumed", "step_400_resumed"],
        ["pretrain_1000", "anneal_200", "sft_100"],
    ],
)
def test_hashes_dates_and_stages_are_no_question(tmp_path: Path, names: list[str]) -> None:
    points = saved(tmp_path / "run", names)
    right(analyzed(tmp_path / "run"), points)


def test_a_pattern_over_folders_of_one_training_goes_on(tmp_path: Path) -> None:
    names = ["version_0/epoch=0-step=100", "version_0/epoch=1-step=200", "version_1/epoch=2-step=300"]
    points = saved(tmp_path / "run", names, "{}.ckpt")
    right(analyzed(f"{tmp_path}/run/version_*/*.ckpt"), points)
