"""Blocks that are computed again in another basis are so over a network too, to the same bits as from files of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_repos import Repo, Revision
from hub_runs import safetensors, state
from hub_server import HubServer

import trajsvc
from storage_schema.runs.contents import TreeTable
from storage_schema.runs.store import RunStore

WAYS = {"copied": {"copy": True}, "streamed": {"copy": False}, "streamed without a disk": {"copy": False, "cache": 0}}
STEPS = range(0, 80, 10)


def corrupted(step: int) -> bytes:
    """One checkpoint is a hundred thousand times too large."""
    return safetensors({n: (v * np.float32(1e5 if step == 40 else 1.0)) for n, v in state(step).items()})


def trees(store: Path) -> TreeTable:
    found = RunStore(store).open("run").trees
    assert found is not None
    return found


@pytest.mark.parametrize("way", WAYS)
def test_what_is_computed_again_is_the_same_over_a_network(
    way: str, hubs: Callable[..., HubServer], tmp_path: Path
) -> None:
    revisions = {f"step{s}": Revision({"model.safetensors": corrupted(s)}) for s in STEPS}
    hubs(Repo("local/corrupted", {"main": revisions["step70"], **revisions}))
    there = trajsvc.analyze("hf://local/corrupted", store=tmp_path / "there", name="run", **WAYS[way])  # type: ignore[arg-type]
    for s in STEPS:
        folder = tmp_path / "run" / f"step{s}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(corrupted(s))
    here = trajsvc.analyze(tmp_path / "run", store=tmp_path / "here", name="run")
    for name in ("block", "start", "scale", "gram"):
        np.testing.assert_array_equal(getattr(trees(tmp_path / "there"), name), getattr(trees(tmp_path / "here"), name))
    np.testing.assert_array_equal(there.trajectory_map(), here.trajectory_map())
    assert np.isfinite(there.norm()).all()
