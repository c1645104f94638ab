"""Adding checkpoints to a stored run: as if computed anew, and without looking at the stored ones again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from small_runs import State, trajectory, write_run, write_step

import trajsvc
from storage_schema.runs.contents import RunContents
from storage_schema.runs.store import RunStore
from trajsvc.gram import slab_worker

STORED, ALL = 6, 9
TORN = "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"


@pytest.fixture
def states() -> list[State]:
    """A walk whose third checkpoint lost the values of half a tensor, at a size of which a part is sampled."""
    found = trajectory(ALL, vocab=4000)
    found[2][TORN][:16] = 0.0
    return found


def contents(store: Path) -> RunContents:
    return RunStore(store).open("run").contents()


def check_same(mine: RunContents, anew: RunContents) -> None:
    assert mine.checkpoints.fingerprint == anew.checkpoints.fingerprint
    assert mine.nonfinite.tolist() == anew.nonfinite.tolist()
    assert mine.changes is not None
    assert anew.changes is not None
    assert mine.changes.tolist() == anew.changes.tolist()
    assert_allclose(mine.gram, anew.gram, rtol=1e-12, atol=1e-15)
    assert_allclose(mine.rounding, anew.rounding, rtol=1e-12)
    assert mine.attributes["carried"] == anew.attributes["carried"]
    kinds = [(f["kind"], f["steps"], f["tensors"]) for f in mine.attributes["findings"]]
    assert kinds == [(f["kind"], f["steps"], f["tensors"]) for f in anew.attributes["findings"]]
    assert ("mostly-zero", [200], [TORN]) in [(kind, list(steps), list(tensors)) for kind, steps, tensors in kinds]


class Looks:
    """Counts the checkpoints whose bytes are hashed and whose values are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        digests, observe = slab_worker._digests, slab_worker.observe

        def hashed(raw: NDArray[np.uint8], places: Sequence[int], step: int) -> NDArray[np.uint64]:
            self.most = max(self.most, len(raw))
            return digests(raw, places, step)

        def seen(values: NDArray[np.floating], statistics: object) -> NDArray[np.float64]:
            self.most = max(self.most, len(values))
            return observe(values, statistics)  # type: ignore[arg-type]

        monkeypatch.setattr(slab_worker, "_digests", hashed)
        monkeypatch.setattr(slab_worker, "observe", seen)


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_an_append_looks_at_the_new_checkpoints_alone(
    tmp_path: Path, states: list[State], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "run", states[:STORED], kinds=(kind,))
    trajsvc.analyze(folder, store=tmp_path / "store")
    for t in range(STORED, ALL):
        write_step(folder, 100 * t, states[t], kind=kind)
    looks = Looks(monkeypatch)
    trajsvc.analyze(folder, store=tmp_path / "store")
    assert looks.most == ALL - STORED
    trajsvc.analyze(folder, store=tmp_path / "other")
    assert looks.most == ALL
    check_same(contents(tmp_path / "store"), contents(tmp_path / "other"))


def test_a_run_of_a_version_that_kept_no_zeros_is_looked_at_as_a_whole(
    tmp_path: Path, states: list[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = write_run(tmp_path / "run", states[:STORED]), tmp_path / "store"
    trajsvc.analyze(folder, store=store)
    with RunStore(store).writer("run") as writer:
        writer.commit(replace(contents(store), zeros=None))
    for t in range(STORED, ALL):
        write_step(folder, 100 * t, states[t])
    looks = Looks(monkeypatch)
    trajsvc.analyze(folder, store=store)
    assert looks.most == ALL
    trajsvc.analyze(folder, store=tmp_path / "other")
    check_same(contents(store), contents(tmp_path / "other"))
    assert contents(store).zeros is not None
