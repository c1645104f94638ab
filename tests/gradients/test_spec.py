"""The spec of a set holds what its vectors depend on, and nothing else."""

from __future__ import annotations

import pytest

from trajsvc.gradients.options import SET_KINDS, GradientOptions, SetKind
from trajsvc.gradients.spec import set_name, set_spec

OPTIONS = GradientOptions(probe="causal-lm", data="text.txt")


def changed(kind: SetKind, **values: object) -> bool:
    other = OPTIONS.model_copy(update=values)
    return set_spec(kind, OPTIONS, "d") != set_spec(kind, other, "d")


@pytest.mark.parametrize("kind", SET_KINDS)
def test_every_set_depends_on_its_examples_and_on_no_place(kind: SetKind) -> None:
    assert changed(kind, examples=3)
    assert changed(kind, mask=0.1)
    assert not changed(kind, data="elsewhere/text.txt", steps="0", memory=1, sets=("full",))
    assert set_spec(kind, OPTIONS, "d") != set_spec(kind, OPTIONS, "e")


@pytest.mark.parametrize(
    ("field", "value", "kinds"),
    [
        ("batch", 3, {"batch", "path", "points", "weights"}),
        ("eta", 0.5, {"weights", "inputs"}),
        ("seed", 9, {"points", "weights", "inputs"}),
        ("anchor", 5, {"anchored"}),
        ("learning_rate", 0.5, {"path"}),
    ],
)
def test_an_option_belongs_to_the_sets_that_use_it(field: str, value: object, kinds: set[str]) -> None:
    assert {kind for kind in SET_KINDS if changed(kind, **{field: value})} == kinds


def test_a_second_name_is_of_one_set_or_begins_those_of_several() -> None:
    assert set_name("example", ("example",), None) == "example"
    assert set_name("example", ("example",), "again") == "again"
    assert set_name("batch", ("example", "batch"), "again") == "again-batch"
