"""Which order: steps, epochs, tokens, phases and scores in names are different things, and the order is that of the training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from listed_runs import State, analyzed, findings, right, save, walk

from trajsvc.errors import NotFound, Refused, UsageError
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.patterns import LONGEST, StepPattern


def numbers(folder: Path, **options: Any) -> list[int]:
    return [c.step for c in LocalSource(folder, **options).checkpoints()]


def fairseq(epoch: int, updates: int, point: State) -> dict[str, Any]:
    return {
        "args": None, "model": point, "optimizer_history": [{"num_updates": updates, "optimizer_name": "Adam"}],
        "extra_state": {"train_iterator": {"epoch": epoch}, "best": 3.9},
    }  # fmt: skip


NAMED = [
    ("checkpoint_1_500.pt", 1, 500), ("checkpoint1.pt", 1, 800), ("checkpoint_2_1000.pt", 2, 1000), ("checkpoint_2_1500.pt", 2, 1500),
    ("checkpoint2.pt", 2, 1600), ("checkpoint_3_2000.pt", 3, 2000), ("checkpoint3.pt", 3, 2400),
]  # fmt: skip


def test_ends_of_epochs_stand_between_updates_where_their_keys_say(tmp_path: Path) -> None:
    points = walk(len(NAMED))
    for (name, epoch, updates), point in zip(NAMED, points, strict=True):
        save(tmp_path / "run" / name, fairseq(epoch, updates, point))
    save(tmp_path / "run" / "checkpoint_best.pt", fairseq(2, 1500, points[3]))
    save(tmp_path / "run" / "checkpoint_last.pt", fairseq(3, 2400, points[-1]))
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [500, 800, 1000, 1500, 1600, 2000, 2400]
    right(run, points)


def test_ends_of_epochs_without_keys_are_left_out_by_name(tmp_path: Path) -> None:
    points = walk(len(NAMED))
    for (name, _, _), point in zip(NAMED, points, strict=True):
        save(tmp_path / "run" / name.replace(".pt", ".safetensors"), point)
    run = analyzed(tmp_path / "run")
    right(run, [p for (name, _, _), p in zip(NAMED, points, strict=True) if name.count("_") == 2])
    (left,) = findings(run, "other-axis")
    assert left.severity == "warning"
    assert left.details["labels"] == ["checkpoint1", "checkpoint2", "checkpoint3"]


@pytest.mark.parametrize(
    ("steps", "epochs"),
    [("step_{}.pt", "epoch_{}.pt"), ("model-{}-steps.pt", "model-{}-epoch.pt"), ("iter{}.pth", "ep{}.pth")],
)
def test_epochs_beside_steps_are_placed_by_the_step_in_their_files(tmp_path: Path, steps: str, epochs: str) -> None:
    points = walk(6)
    for i, point in enumerate(points):
        name = epochs.format(i // 2 + 1) if i % 2 else steps.format(1000 * (i + 1))
        save(tmp_path / "run" / name, {"model": point, "global_step": 1000 * (i + 1), "epoch": i // 2 + 1})
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [1000, 2000, 3000, 4000, 5000, 6000]
    right(run, points)


def test_the_best_of_steps_that_only_knows_its_epoch_is_no_step(tmp_path: Path) -> None:
    points = walk(6)
    for i, point in enumerate(points):
        save(
            tmp_path / "run" / f"model_step_{1000 * (i + 1)}.pt",
            {"model_state_dict": point, "step": 1000 * (i + 1), "epoch": i // 2},
        )
    save(tmp_path / "run" / "best_model.pt", {"model_state_dict": points[4], "epoch": 2, "val_loss": 0.31})
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert any("best_model.pt" in f.message for f in run.findings)


@pytest.mark.parametrize(
    "score", ["best_model_0.{}.pth", "best-acc={}.pth", "best_val_loss_0.{}.pth", "model_best_psnr{}.pth"]
)
def test_a_score_is_no_step(tmp_path: Path, score: str) -> None:
    points = walk(6)
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"model_epoch_{i + 1}.pth", {"state_dict": point, "epoch": i + 1})
    save(tmp_path / "run" / score.format(8734), {"state_dict": points[2], "epoch": 3})
    save(tmp_path / "run" / score.format(9012), {"state_dict": points[4], "epoch": 5})
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert run.attributes["axis"] == "epoch"
    assert not findings(run, "identical")


def test_scores_at_the_end_of_names_do_not_hide_the_number(tmp_path: Path) -> None:
    points = walk(4)
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"weights.{10 * (i + 1):05d}-0.{53 - i}.pt", point)
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [10, 20, 30, 40]
    right(run, points)


PHASES = [(1, 3000), (1, 6000), (1, 9000), (2, 4000), (2, 8000), (2, 12000), (3, 1000), (3, 2000)]


@pytest.mark.parametrize(
    "form",
    ["Crystal_phase{}_checkpoint_{:06d}", "stage{}-step{}", "phase-{}_iter_{}", "p{}/step_{}", "phase{}/step_{}"],
)
def test_phases_come_one_after_the_other(tmp_path: Path, form: str) -> None:
    points = walk(len(PHASES))
    for (phase, step), point in zip(PHASES, points, strict=True):
        save(tmp_path / "run" / form.format(phase, step) / "model.safetensors", point)
    source = f"{tmp_path}/run/*/*" if "/" in form else tmp_path / "run"
    pattern = r"p(?P<phase>\d)/step_(?P<step>\d+)" if form.startswith("p{}") else None
    run = analyzed(source, step_pattern=pattern)
    assert run.steps.tolist() == [3000, 6000, 9000, 13000, 17000, 21000, 22000, 23000]
    right(run, points)


def test_stages_may_be_words(tmp_path: Path) -> None:
    named = [("pretrain", 1000), ("pretrain", 2000), ("anneal", 500), ("anneal", 1000), ("sft", 100), ("sft", 200)]
    points = walk(len(named))
    for (stage, step), point in zip(named, points, strict=True):
        save(tmp_path / "run" / f"{stage}_iter_{step:07d}" / "model.safetensors", point)
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [1000, 2000, 2500, 3000, 3100, 3200]
    right(run, points)


BEFORE = [
    ("{}_net_G.pth", 5, "epoch"), ("rl_model_{}_steps/policy.pth", 1000, "step"), ("model_{}_step.pt", 1000, "step"),
    ("{}_iter.pt", 500, "step"), ("{:07d}_adapters/adapters.safetensors", 100, "step"), ("{:07d}_adapters.safetensors", 100, "step"),
    ("{}-epochs.pt", 3, "epoch"), ("{}k-steps.pt", 20, "step"), ("{}b_tokens/model.safetensors", 120, "tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "distance", "kind"), BEFORE, ids=[b[0] for b in BEFORE])
def test_a_number_may_stand_before_its_word(tmp_path: Path, form: str, distance: int, kind: str) -> None:
    points = walk(5)
    for i, point in enumerate(points):
        save(tmp_path / "run" / form.format(distance * (i + 1)), point)
    if "policy" in form:
        for i in range(5):
            for name in ("policy.optimizer.pth", "pytorch_variables.pth"):
                save(tmp_path / "run" / Path(form.format(distance * (i + 1))).parent / name, {})
    if "net_G" in form:
        save(tmp_path / "run" / "latest_net_G.pth", points[-1])
    run = analyzed(tmp_path / "run")
    unit = {"{}k": 10**3, "{}b": 10**9}.get(form[:3], 1)
    assert run.steps.tolist() == [distance * unit * (i + 1) for i in range(5)]
    assert run.attributes["axis"] == kind
    right(run, points)


@pytest.mark.parametrize("offset", [0, 1])
def test_numbers_that_a_name_does_not_explain_are_what_the_keys_say(tmp_path: Path, offset: int) -> None:
    """checkpoint0020.pth of a script that counts epochs, from 0 or from 1."""
    points = walk(5)
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"checkpoint{20 * i + offset:04d}.pth", {"model": point, "epoch": 20 * i})
    run = analyzed(tmp_path / "run")
    assert run.attributes["axis"] == "epoch"
    right(run, points)


def test_the_end_of_the_training_stands_where_the_agreeing_key_says(tmp_path: Path) -> None:
    """final/ holds counts of micro-batches and of steps; the others are named by steps."""
    points = walk(6)
    for i, point in enumerate(points):
        count = 1000 * (i + 1) if i < 5 else 5400
        place = "final" if i == 5 else f"step-{count:08d}"
        save(tmp_path / "run" / place / "lit_model.pth", {"model": point, "iter_num": 4 * count, "step_count": count})
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [1000, 2000, 3000, 4000, 5000, 5400]
    right(run, points)


def test_an_end_without_keys_is_named(tmp_path: Path) -> None:
    points = walk(4)
    for i, point in enumerate(points):
        save(tmp_path / "run" / ("final" if i == 3 else f"checkpoint-{500 * (i + 1)}") / "model.safetensors", point)
    run = analyzed(tmp_path / "run")
    right(run, points[:3])
    (unread,) = findings(run, "unread-weights")
    assert unread.severity == "warning"
    assert "final" in unread.message


def test_tokens_and_units(tmp_path: Path) -> None:
    points = walk(3)
    for name, point in zip(("train_00220B", "train_00440B", "train_01100B"), points, strict=True):
        save(tmp_path / "run" / name / "pytorch_model.bin", point)
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [220 * 10**9, 440 * 10**9, 1100 * 10**9]
    assert run.attributes["axis"] == "tokens"


PATTERNS = [
    (r"at(?P<step>\d+k)", ["run_at1k_x", "run_at20k_y", "run_at3k_z"], [1000, 3000, 20_000], "step"),
    (r"^(?P<epoch>\d+)e$", ["3e", "12e"], [3, 12], "epoch"),
    (r"(?P<phase>\d)[ab](?P<step>\d+)", ["2a10", "1b10", "1a20"], [10, 20, 30], "step"),
    (r"(?P<tokens>\d+(?:\.\d+)?[BM])", ["x1.5B", "x200M"], [200 * 10**6, 15 * 10**8], "tokens"),
    (r"(?P<stage>pretrain|cooldown)-(?P<step>\d+)", ["cooldown-5", "pretrain-10"], [10, 15], "step"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "names", "steps", "kind"), PATTERNS, ids=[p[0] for p in PATTERNS])
def test_a_pattern_says_where_the_step_is(
    tmp_path: Path, pattern: str, names: list[str], steps: list[int], kind: str
) -> None:
    points = walk(len(names))
    for name, point in zip(names, points, strict=True):
        save(tmp_path / "run" / name / "model.safetensors", point)
    run = analyzed(tmp_path / "run", step_pattern=pattern)
    assert run.steps.tolist() == steps
    assert run.attributes["axis"] == kind


def test_a_pattern_that_meets_nothing_says_so(tmp_path: Path) -> None:
    save(tmp_path / "run" / "step1" / "model.safetensors", walk(1)[0])
    with pytest.raises(NotFound):
        analyzed(tmp_path / "run", step_pattern=r"epoch(?P<epoch>\d+)")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(?<=step)(?P<step>\d+)", "Look-around"), (r"(?P<step>\d+)_\1", "earlier groups"), (r"(?P<step>", "no regular expression"),
        (r"step\d+", "no group"), (r"(?P<stop>\d+)(?P<step>\d+)", "stop"), ("(?P<step>" + "x" * LONGEST + ")", str(LONGEST)),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_used_is_refused_with_words(pattern: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        StepPattern.of(pattern)
    assert caught.value.kind == "bad-pattern"
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "pattern", [r"(?P<step>(\w*\w*\w*\w*\w*\w*\w*\w*)+)!", r"(?P<step>(a|aa)+)$", r"(?P<step>(x+x+)+y)"]
)
def test_no_pattern_takes_more_than_linear_time(pattern: str) -> None:
    """Each of these takes a backtracking engine longer than the universe has; here it ends."""
    assert re.compile(pattern)
    found = StepPattern.of(pattern)
    for text in ("a" * 5000, "x" * 5000, "a" * 4999 + "b"):
        assert found.read(text) is None


def test_steps_of_folders_of_phases_begin_anew_in_each(tmp_path: Path) -> None:
    """phase2 holds one checkpoint, whose step is less than those of phase1."""
    named = ["phase1/step_1000.pt", "phase1/step_2000.pt", "phase2/step_100.pt"]
    points = walk(len(named))
    for name, point in zip(named, points, strict=True):
        save(tmp_path / "run" / name, point)
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [1000, 2000, 2100]
    right(run, points)
    (told,) = findings(run, "stages")
    assert "phase1, phase2" in told.message


def test_what_lies_beside_folders_of_stages_is_named(tmp_path: Path) -> None:
    points = walk(6)
    named = [
        "pretrain/step_100.pt",
        "pretrain/step_200.pt",
        "sft/step_50.pt",
        "sft/final.pt",
        "old/step_1.pt",
        "old/step_2.pt",
    ]
    for name, point in zip(named, points, strict=True):
        save(tmp_path / "run" / name, point)
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [100, 200, 250]
    unread = " ".join(f.message for f in findings(run, "unread-weights"))
    assert "final.pt" in unread
    assert "old" in unread


def test_two_folders_of_one_stage_are_asked_about(tmp_path: Path) -> None:
    for name, point in zip(("stage1_a/step_1.pt", "stage1_b/step_1.pt"), walk(2), strict=True):
        save(tmp_path / "run" / name, point)
    with pytest.raises(Refused, match="both stage 1") as caught:
        analyzed(tmp_path / "run")
    assert "--step-pattern" in caught.value.hint


def test_a_pattern_says_the_phase_of_folders(tmp_path: Path) -> None:
    points = walk(4)
    for name, point in zip(("p1/s10.pt", "p1/s20.pt", "p2/s10.pt", "p2/s20.pt"), points, strict=True):
        save(tmp_path / "run" / name, point)
    run = analyzed(tmp_path / "run", step_pattern=r"p(?P<phase>\d)/s(?P<step>\d+)")
    assert run.steps.tolist() == [10, 20, 30, 40]
    right(run, points)


def test_a_run_beside_one_checkpoint_is_not_passed_over(tmp_path: Path) -> None:
    """a/ is a run and b/ holds one checkpoint: which is meant is not said."""
    for name, point in zip(("a/step_100.pt", "a/step_200.pt", "b/step_100.pt"), walk(3), strict=True):
        save(tmp_path / "run" / name, point)
    with pytest.raises(NotFound) as caught:
        analyzed(tmp_path / "run")
    assert "These folders in it look like runs: a" in caught.value.hint


def test_thousands_may_be_apart(tmp_path: Path) -> None:
    points = walk(4)
    for step, point in zip((500, 1000, 2000, 12_000), points, strict=True):
        save(tmp_path / "run" / f"step_{step:_}.pt", {"model": point, "global_step": step})
    save(tmp_path / "run" / "last.pt", {"model": points[-1], "global_step": 12_000})
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == [500, 1000, 2000, 12_000]
    right(run, points)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["epoch_0_iter_400", "epoch_0_iter_800", "epoch_1_iter_400", "epoch_1_iter_800"], [400, 800, 1200, 1600]),
        (["E000_S000900", "E001_S000100", "E001_S000900"], [900, 1000, 1800]),
    ],
)
def test_steps_that_begin_anew_in_each_epoch_are_added_up(tmp_path: Path, names: list[str], steps: list[int]) -> None:
    points = walk(len(names))
    for name, point in zip(names, points, strict=True):
        save(tmp_path / "run" / f"{name}.pt", point)
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == steps
    right(run, points)
    (found,) = findings(run, "epoch-steps")
    assert found.severity == "warning"


def test_steps_that_fall_while_epochs_rise_are_asked_about(tmp_path: Path) -> None:
    names = ["epoch_0_iter_400", "epoch_0_iter_800", "epoch_1_iter_100", "epoch_1_iter_500"]
    points = walk(len(names))
    for name, point in zip(names, points, strict=True):
        save(tmp_path / "run" / f"{name}.pt", point)
    with pytest.raises(Refused) as caught:
        analyzed(tmp_path / "run")
    assert caught.value.kind == "step-conflict"
    anew, on = re.findall(r"--step-pattern '([^']+)'", caught.value.hint)
    run = analyzed(tmp_path / "run", step_pattern=anew)
    assert run.steps.tolist() == [400, 800, 900, 1300]
    right(run, points)
    assert numbers(tmp_path / "run", step_pattern=StepPattern.of(on)) == [100, 400, 500, 800]


@pytest.mark.parametrize(
    ("names", "steps", "axis"),
    [
        (["model_e3", "model_e9", "model_e10"], [3, 9, 10], "epoch"),
        (["s500", "s1000", "s20000"], [500, 1000, 20_000], "step"),
        (["ppo_5000_timesteps", "ppo_10000_timesteps", "ppo_200000_timesteps"], [5000, 10_000, 200_000], "step"),
        (["network-200kimg", "network-1000kimg", "network-25000kimg"], [200, 1000, 25_000], "index"),
        (["0.5B", "1.5B", "10B"], [5 * 10**8, 15 * 10**8, 10**10], "tokens"),
        (["500_7B", "1000_7B", "20000_7B"], [500, 1000, 20_000], "index"),
    ],
)
def test_the_only_number_in_which_names_differ_is_their_order(
    tmp_path: Path, names: list[str], steps: list[int], axis: str
) -> None:
    points = walk(len(names))
    for name, point in zip(names, points, strict=True):
        save(tmp_path / "run" / f"{name}.pt", point)
    run = analyzed(tmp_path / "run")
    assert run.steps.tolist() == steps
    assert run.attributes["axis"] == axis
    right(run, points)
    assert not [f for f in run.findings if f.severity != "info"]


@pytest.mark.parametrize(
    "names", [["fold1", "fold2", "fold3"], ["net_seed1", "net_seed2"], ["model_0.91", "model_0.93"]]
)
def test_numbers_that_are_no_place_stay_a_question(tmp_path: Path, names: list[str]) -> None:
    for name, point in zip(names, walk(len(names)), strict=True):
        save(tmp_path / "run" / f"{name}.pt", point)
    with pytest.raises(Refused) as caught:
        analyzed(tmp_path / "run")
    assert "--step-pattern" in caught.value.hint
