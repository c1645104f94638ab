"""A run in words: every statement has the number of its measure, and says nothing that the number does not carry."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import trajsvc
from storage_schema.models.results import Statement
from trajsvc.results import answers
from trajsvc.results.explain import FEWEST
from trajsvc.results.run import Run


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Run]:
    def make(points: np.ndarray) -> Run:
        """A run of two layers with these points, (T, P), in float32."""
        half = points.shape[1] // 2
        for step, point in enumerate(points.astype(np.float32)):
            parts = {"layers.0.weight": point[:half].reshape(-1, 4), "layers.1.weight": point[half:].reshape(-1, 4)}
            save_file({k: np.ascontiguousarray(v) for k, v in parts.items()}, tmp_path / f"step{step}.safetensors")
        return trajsvc.analyze(tmp_path, store=tmp_path / "store", name="made")

    return make


def said(run: Run, kind: str) -> list[Statement]:
    return [s for s in run.explain() if s.kind == kind]


WALKS = {
    "independent": lambda g: g.normal(size=(20, 4000)),
    "drift": lambda g: np.ones(4000) + 0.1 * g.normal(size=(20, 4000)),
    "swinging": lambda g: np.outer((-1.0) ** np.arange(20), np.ones(4000)) + 0.1 * g.normal(size=(20, 4000)),
}


@pytest.mark.parametrize(
    ("walk", "words"),
    [
        ("independent", {"straightness": "as straight as", "alignment": "no more aligned than chance"}),
        ("drift", {"straightness": "straighter than", "alignment": "go on in the direction"}),
        ("swinging", {"straightness": "more winding than", "alignment": "turn back"}),
    ],
)
def test_words_follow_the_walk(run_of: Callable[..., Run], walk: str, words: dict[str, str]) -> None:
    g = np.random.default_rng(8)
    run = run_of(np.cumsum(np.vstack([g.normal(size=(1, 4000)), WALKS[walk](g)]), axis=0))
    for kind, text in words.items():
        assert all(text in s.text for s in said(run, kind)), [s.text for s in said(run, kind)]
        assert said(run, kind)


def test_numbers_are_those_of_the_measures(run_of: Callable[..., Run]) -> None:
    g = np.random.default_rng(1)
    updates = np.concatenate([0.02 * g.normal(size=(12, 4000)) + 0.01, 0.4 * g.normal(size=(12, 4000))])
    run = run_of(np.cumsum(np.vstack([g.normal(size=(1, 4000)), updates]), axis=0))
    (straight,) = said(run, "straightness")
    assert (straight.number, straight.null) == (run.relative_mds(), run.random_walk_mds())
    (directions,) = said(run, "directions")
    assert directions.number == run.participation_ratio_updates()
    cosines = run.update_cosine()
    for one in said(run, "alignment"):
        inside = cosines[(cosines["step"] > one.first_step) & (cosines["step"] < one.last_step)]
        assert one.number == pytest.approx(float(inside.mean()))
        assert one.null == run.random_bound()
    changes = said(run, "change")
    assert [c.number for c in changes] == [p.change.strength for p in run.phases()[1:]]
    assert any(c.first_step <= 12 <= c.last_step and "speed" in c.text for c in changes)
    (far,) = said(run, "distance-by-layer")
    assert far.number == float(run.distance_from_init(far.group)[-1] / run.norm(far.group)[0])
    assert answers.summary(run).statements == run.explain()
    for one in run.explain():
        assert not re.search(r"\bnan\b|None|-\d", one.text), one.text


def test_few_checkpoints_say_so_and_nothing_else(run_of: Callable[..., Run]) -> None:
    (only,) = run_of(np.random.default_rng(2).normal(size=(FEWEST - 1, 64))).explain()
    assert only.kind == "too-few"
    assert only.number == FEWEST - 1


def test_a_network_that_rests_is_described_without_numbers_that_are_not_there(run_of: Callable[..., Run]) -> None:
    run = run_of(np.tile(np.random.default_rng(3).normal(size=(1, 64)), (8, 1)))
    assert {s.kind for s in run.explain()} <= {"distance-by-layer", "settling-by-layer", "rounding"}


def test_updates_at_the_size_of_rounding_are_named(run_of: Callable[..., Run]) -> None:
    g = np.random.default_rng(4)
    points = g.normal(size=(1, 256)) + np.cumsum(1e-9 * g.normal(size=(9, 256)), axis=0)
    found = said(run_of(points), "rounding")
    assert found
    assert "rounding of the stored type" in found[0].text
