"""What names say about steps, and what a selection of steps means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajsvc.errors import NotFound, UsageError
from trajsvc.sources.steps import parse_step
from trajsvc.steps import STEP_LIMIT, select_steps

NAMES: list[tuple[str, int, str, dict[str, int]]] = [
    ("step500", 500, "step", {}),
    ("step-500", 500, "step", {}),
    ("Step_0500", 500, "step", {}),
    ("checkpoint-500", 500, "step", {}),
    ("global_step1000", 1000, "step", {}),
    ("iter_0000500", 500, "step", {}),
    ("epoch_003.pt", 3, "epoch", {}),
    ("epoch=3-step=500.ckpt", 500, "step", {"epoch": 3}),
    ("epoch=3.ckpt", 3, "epoch", {}),
    ("model_epoch10_acc0.95.pth", 10, "epoch", {}),
    ("checkpoint_epoch_7.pt", 7, "epoch", {}),
    ("checkpoint_2_5000.pt", 5000, "step", {"epoch": 2}),
    ("checkpoint-12.pth.tar", 12, "step", {}),
    ("ep1-ba2000-rank0.pt", 2000, "step", {"epoch": 1}),
    ("model_step_1000.safetensors", 1000, "step", {}),
    ("ckpt_000", 0, "index", {}),
    ("ckpt_359", 359, "index", {}),
    ("step1000-tokens4B", 1000, "step", {"tokens": 4 * 10**9}),
    ("stage1-step101000-tokens424B", 101_000, "step", {"stage": 1, "tokens": 424 * 10**9}),
    (
        "stage2-ingredient1-step11931-tokens100B",
        11_931,
        "step",
        {"stage": 2, "ingredient": 1, "tokens": 100 * 10**9},
    ),
    ("stage1-step-40000", 40_000, "step", {"stage": 1}),
    ("multiberts-seed_0-step_20k", 20_000, "step", {}),
    ("step_1.5k", 1500, "step", {}),
    ("step1000-unsharded", 1000, "step", {}),
    ("500", 500, "step", {}),
    ("500.pt", 500, "step", {}),
    ("20k", 20_000, "step", {}),
    ("model_500.pt", 500, "step", {}),
    ("resnet.012.pth", 12, "step", {}),
]


@pytest.mark.parametrize(("name", "step", "kind", "extra"), NAMES, ids=[n[0] for n in NAMES])
def test_names_that_say_a_step(name: str, step: int, kind: str, extra: dict[str, int]) -> None:
    found = parse_step(name)
    assert found is not None
    assert (found.step, found.kind, dict(found.extra)) == (step, kind, extra)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin", "last.ckpt", "version_0", "seed_3.pt",
        "consolidated.00.pth", "lightning_logs", "gpt2.bin", "footstep5", "checkpoint", "9" * 30, f"step{STEP_LIMIT + 1}", "",
        "tokenizer.json", "layer-2",
    ],
)  # fmt: skip
def test_names_that_say_none(name: str) -> None:
    assert parse_step(name) is None


@given(
    st.integers(0, STEP_LIMIT), st.sampled_from(["step{}", "checkpoint-{}", "iter_{:07d}", "{}.pt", "global_step{}"])
)
def test_a_step_is_read_as_the_number_it_is(step: int, form: str) -> None:
    found = parse_step(form.format(step))
    assert found is not None
    assert found.step == step


@given(st.text(max_size=40))
def test_any_text_is_a_name(name: str) -> None:
    found = parse_step(name)
    assert found is None or 0 <= found.step <= STEP_LIMIT


STEPS = [0, 1, 2, 4, 8, 16, 1000, 2000, 5000]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, STEPS),
        ("0,1,2", [0, 1, 2]),
        ("2, 0", [0, 2]),
        ("1000..5000", [1000, 2000, 5000]),
        ("..2", [0, 1, 2]),
        ("1000..", [1000, 2000, 5000]),
        ("every:4", [0, 8, 5000]),
        ("every:100", [0]),
        ("..2,every:4", [0, 1, 2, 8, 5000]),
        ("first:3", [0, 1, 2]),
        ("last:2", [2000, 5000]),
        ("last:100", STEPS),
        ([5000, 0], [0, 5000]),
    ],
)
def test_selections(spec: str | list[int] | None, expected: list[int]) -> None:
    assert [STEPS[i] for i in select_steps(spec, STEPS)] == expected


def test_a_step_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        select_steps("0,1500", STEPS)
    assert caught.value.kind == "step-not-found"
    assert "1500" in caught.value.message
    assert "1000" in caught.value.hint
    assert "2000" in caught.value.hint
    with pytest.raises(NotFound, match=r"6000\.\."):
        select_steps("6000..", STEPS)
    with pytest.raises(NotFound):
        select_steps([3], STEPS)


@pytest.mark.parametrize(
    "spec", ["", "one", "1..2..3", "..", "5..1", "every:0", "every:", "-1", "0,,1", "first:x", "²"]
)
def test_another_spelling_is_a_usage_error_with_the_grammar(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        select_steps(spec, STEPS)
    assert caught.value.kind == "bad-steps"
    assert "every:4" in caught.value.hint


@given(st.text(alphabet="0123456789.,:everyfistla ", max_size=20), st.lists(st.integers(0, 50), unique=True))
def test_a_selection_is_ascending_or_an_error(spec: str, steps: list[int]) -> None:
    steps.sort()
    try:
        found = select_steps(spec, steps)
    except (UsageError, NotFound):
        return
    assert found == sorted(set(found))
    assert all(0 <= i < len(steps) for i in found)
