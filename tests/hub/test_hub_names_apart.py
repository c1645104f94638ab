"""Branches whose names differ in more than their steps: asked about, or left out where they are there a second time."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from trajsvc.errors import Refused
from trajsvc.sources.hub.selection import RefInfo, Selected, select
from trajsvc.sources.patterns import StepPattern


def branches(names: Sequence[str], **same: str) -> list[RefInfo]:
    return [RefInfo(n, "branch", same.get(n.replace("-", "_"), f"commit-{n}")) for n in ("main", *names)]


def steps(found: Selected) -> list[int]:
    return [c.step for c in found.chosen]


APART = {
    "in turn": ("a-step100", "b-step200", "a-step300", "b-step400"),
    "settings": ("lr0.1-step100", "lr0.01-step200", "lr0.001-step300"),
    "words": ("cifar-step100", "imagenet-step200"),
}


@pytest.mark.parametrize("case", APART)
def test_several_trainings_are_a_question_whose_answers_work(case: str) -> None:
    refs = branches(APART[case])
    with pytest.raises(Refused) as asked:
        select(refs, None)
    assert asked.value.kind == "ambiguous-state"
    (glob,) = re.findall(r"--revisions '([^']+)'", asked.value.hint or "")
    assert select(refs, None, revisions=[glob]).chosen
    (pattern,) = re.findall(r"--step-pattern '([^']+)'", asked.value.hint or "")
    assert len(select(refs, None, step_pattern=StepPattern.of(pattern)).chosen) == len(APART[case])


@pytest.mark.parametrize(
    "names",
    [
        ("step100", "step200", "step300-fixed"),
        ("stage1-step100-tokens1B", "stage1-step200-tokens2B", "stage2-ingredient1-step50-tokens1B"),
        ("pretrain-step100", "pretrain-step200", "anneal-step300"),
        ("run-a-step100", "run-a-step200", "run-b-step300", "run-b-step400"),
        ("a1b2c3-step100", "d4e5f6-step200", "fed123-step300"),
    ],
)
def test_one_training_is_none(names: Sequence[str]) -> None:
    assert len(select(branches(names), None).chosen) == len(names)


@pytest.mark.parametrize("copy", ["step200-copy", "best-step200", "step200-backup"])
def test_a_copy_by_its_name_is_left_out_and_said(copy: str) -> None:
    found = select(branches(["step100", "step200", copy, "step300"]), None)
    assert [c.label for c in found.chosen] == ["step100", "step200", "step300"]
    (said,) = [f for f in found.findings if f.kind == "ignored-file"]
    assert copy in said.message
    assert said.severity == "info"


def test_two_branches_of_one_commit_and_step_are_one_checkpoint() -> None:
    refs = branches(["step100", "step200", "step-200", "step300"], step_200="commit-step200")
    refs = [RefInfo(r.name, r.kind, "commit-step200" if r.name == "step200" else r.commit) for r in refs]
    assert steps(select(refs, None)) == [100, 200, 300]


def test_two_checkpoints_of_one_step_are_refused_with_a_pattern_that_works() -> None:
    refs = branches(["step100", "step200", "step200-fixed", "step300"])
    with pytest.raises(Refused) as asked:
        select(refs, None)
    (pattern,) = re.findall(r"--revisions '([^']+)'", asked.value.hint or "")
    assert steps(select(refs, None, revisions=[pattern])) == [100, 200, 300]
