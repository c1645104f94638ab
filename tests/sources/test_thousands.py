"""Numbers in groups of three: read as one where the names of a run leave no other reading, else asked for."""

from __future__ import annotations

import pytest

from trajsvc.errors import Refused
from trajsvc.sources.order import with_whole_numbers
from trajsvc.sources.patterns import StepPattern
from trajsvc.sources.steps import parse_step, scaled


def steps(*names: str) -> list[int]:
    parsed = [p for n in names if (p := parse_step(n)) is not None]
    assert len(parsed) == len(names)
    return [n.step for n in with_whole_numbers(parsed, "run")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("step_1_000.pt", "step_2_000.pt", "step_12_000.pt"), [1000, 2000, 12_000]),
        (("step_500.pt", "step_1_000.pt", "step_1_500.pt"), [500, 1000, 1500]),
        (("step_500_000.pt", "step_1_000_000.pt"), [500_000, 1_000_000]),
        (("step_1_000", "step_12_000"), [1000, 12_000]),
        (("1_000.pt", "2_000.pt"), [1000, 2000]),
        (("12_000_steps.pt", "1_000_steps.pt", "2_000_steps.pt"), [12_000, 1000, 2000]),
        (("checkpoint_1_000.pt", "checkpoint_2_000.pt"), [1000, 2000]),
        (("step_1_000_rank_0_of_8.pt", "step_2_000_rank_0_of_8.pt"), [1000, 2000]),
        (("step-1,000.pt", "step-12,000.pt", "step-1'500.pt", "step-500.pt"), [1000, 12_000, 1500, 500]),
        (("model_250.pt", "model_500.pt", "model_1_000.pt"), [250, 500, 1000]),
    ],
)
def test_groups_are_one_number(names: tuple[str, ...], expected: list[int]) -> None:
    assert steps(*names) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("epoch_3_step_100.pt", "epoch_4_step_200.pt"), [100, 200]),
        (("step_3_rank_0_of_8.pt", "step_4_rank_0_of_8.pt"), [3, 4]),
        (("step_500_000.pt", "step_1000_000.pt"), [500, 1000]),
        (("step_500_000.pt", "step_500_001.pt"), [500, 500]),
        (("resnet_50_100.pt", "resnet_50_200.pt"), [100, 200]),
        (("resnet_50_100.pt", "resnet_50_1000.pt"), [100, 1000]),
        (("checkpoint_1_200.pt", "checkpoint_2_400.pt"), [200, 400]),
        (("checkpoint_1_500.pt", "checkpoint_2_1000.pt"), [500, 1000]),
    ],
)
def test_underscores_that_separate_other_things(names: tuple[str, ...], expected: list[int]) -> None:
    """Epochs, ranks, a model's size; two files at one step are refused as a conflict later."""
    assert steps(*names) == expected


@pytest.mark.parametrize(
    ("names", "readings"),
    [
        (("step_1000.pt", "step_2_000.pt"), {"step_2_000": (2000, 2)}),
        (("model_1_100.pt", "model_2_200.pt"), {"model_1_100": (1100, 100)}),
    ],
)
def test_two_readings_are_asked_about_with_a_pattern_for_each(
    names: tuple[str, ...], readings: dict[str, tuple[int, int]]
) -> None:
    with pytest.raises(Refused) as caught:
        steps(*names)
    assert caught.value.kind == "step-conflict"
    patterns = [StepPattern.of(text) for text in caught.value.hint.split("'")[1::2]]
    for name, expected in readings.items():
        found = [p.read(name) for p in patterns]
        assert tuple(f.step for f in found if f is not None) == expected


def test_a_number_of_the_user_s_pattern_may_be_in_groups() -> None:
    assert [scaled(t) for t in ("1_000", "12,000", "1'000'000", "1_00", "1_0000", "_000")] == [
        1000, 12_000, 1_000_000, None, None, None,
    ]  # fmt: skip
