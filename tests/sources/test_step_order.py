"""The axis of a run: stages one after the other, one ingredient of each, numbers as numbers."""

from __future__ import annotations

import pytest

from trajsvc.errors import Refused
from trajsvc.sources.order import in_order
from trajsvc.sources.steps import StepName, parse_step


def names(*labels: str) -> list[tuple[StepName, str]]:
    parsed = [(parse_step(label), label) for label in labels]
    assert all(name is not None for name, _ in parsed)
    return [(name, label) for name, label in parsed if name is not None]


def test_steps_are_numbers() -> None:
    run = in_order(names("step1000", "step2", "step20k", "step0"), "run", choose="choose")
    assert [(n.step, label) for n, label in run.items] == [
        (0, "step0"), (2, "step2"), (1000, "step1000"), (20_000, "step20k"),
    ]  # fmt: skip
    assert run.findings == []


def test_a_stage_that_goes_on_keeps_its_numbers() -> None:
    run = in_order(names("stage2-step300", "stage1-step100", "stage1-step200"), "run", choose="choose")
    assert [n.step for n, _ in run.items] == [100, 200, 300]
    assert run.findings == []
    assert "stage_step" not in run.items[2][0].extra


def test_a_stage_that_counts_anew_is_set_after_the_one_before() -> None:
    labels = ("stage1-step100", "stage1-step200", "stage2-step50", "stage2-step100", "stage3-step10")
    run = in_order(names(*labels), "run", choose="choose")
    assert [n.step for n, _ in run.items] == [100, 200, 250, 300, 310]
    assert [n.extra.get("stage_step") for n, _ in run.items] == [None, None, 50, 100, 10]
    assert [n.label for n, _ in run.items] == list(labels)
    assert [f.kind for f in run.findings] == ["stage-steps", "stage-steps"]


def test_the_start_of_a_stage_is_where_the_last_one_ended() -> None:
    run = in_order(names("stage1-step100", "stage2-step0", "stage2-step10"), "run", choose="choose")
    assert [n.step for n, _ in run.items] == [100, 110]
    assert [f.kind for f in run.findings] == ["stage-start", "stage-steps"]


def test_of_a_stage_s_ingredients_the_first_is_taken() -> None:
    labels = ("stage1-step100", "stage2-ingredient2-step5", "stage2-ingredient1-step5", "stage2-ingredient1-step10")
    run = in_order(names(*labels), "run", choose="--revisions 'stage2-ingredient2-*' takes them")
    assert [n.step for n, _ in run.items] == [100, 105, 110]
    (left,) = [f for f in run.findings if f.kind == "other-ingredients"]
    assert left.details["labels"] == ["stage2-ingredient2-step5"]
    assert "--revisions" in left.message


def test_ingredients_that_the_user_chose_are_no_path() -> None:
    with pytest.raises(Refused, match="alternatives") as caught:
        in_order(names("stage2-ingredient2-step5", "stage2-ingredient1-step5"), "run", choose="choose", chosen=True)
    assert caught.value.kind == "step-conflict"


def test_two_names_for_one_place() -> None:
    with pytest.raises(Refused, match=r"step2 and step02|step02 and step2") as caught:
        in_order(names("step2", "step02"), "run", choose="choose")
    assert caught.value.kind == "step-conflict"


def test_a_step_that_seems_missing_is_noted() -> None:
    run = in_order(names("step100", "step200", "step400", "step500"), "run", choose="choose")
    assert [(f.kind, f.steps) for f in run.findings] == [("gap", (200, 400))]


def test_a_gap_is_a_multiple_of_the_usual_distance() -> None:
    run = in_order(names("step100", "step200", "step450", "step550"), "run", choose="choose")
    assert run.findings == [], "250 is another schedule, not checkpoints that are missing"


def test_a_stage_that_begins_where_the_last_one_ended_counts_anew() -> None:
    run = in_order(names("stage1-step50", "stage1-step100", "stage2-step100"), "run", choose="choose")
    assert [n.step for n, _ in run.items] == [50, 100, 200], "no two checkpoints have one step"


def test_steps_and_epochs_never_share_an_axis() -> None:
    run = in_order(names("step100", "step300", "epoch_200"), "run", choose="choose")
    assert [n.step for n, _ in run.items] == [100, 300]
    assert [(f.kind, f.severity, f.details["labels"]) for f in run.findings] == [
        ("other-axis", "warning", ["epoch_200"])
    ]


def test_what_most_names_count_is_the_axis() -> None:
    run = in_order(names("epoch_1", "epoch_2", "step100", "240b_tokens"), "run", choose="choose")
    assert [(n.step, n.kind) for n, _ in run.items] == [(1, "epoch"), (2, "epoch")]
