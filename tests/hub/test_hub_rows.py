"""A vocabulary that grows in mid-run, read from a Hub: leading rows by ranges, or whole files of which they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_repos import Repo, Revision
from hub_runs import grams, safetensors, state
from hub_server import HubServer

import trajsvc

WAYS = {"copied": {"copy": True}, "streamed": {"copy": False}, "streamed without a disk": {"copy": False, "cache": 0}}


def rows(values: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {n: v[:count] if n == "head.weight" else v for n, v in values.items()}


@pytest.mark.parametrize("way", WAYS)
def test_leading_rows_are_read_from_the_hub(way: str, hubs: Callable[..., HubServer], tmp_path: Path) -> None:
    had = {0: 5, 10: 5, 20: 7, 30: 7, 40: 7}
    revisions = {f"step{s}": Revision({"model.safetensors": safetensors(rows(state(s), n))}) for s, n in had.items()}
    hubs(Repo("local/grown", {"main": revisions["step40"], **revisions}))
    run = trajsvc.analyze("hf://local/grown", store=tmp_path / "there", name="run", **WAYS[way])
    folder = tmp_path / "cut"
    for s in had:
        (folder / f"step{s}").mkdir(parents=True)
        (folder / f"step{s}" / "model.safetensors").write_bytes(safetensors(rows(state(s), 5)))
    trajsvc.analyze(folder, store=tmp_path / "here", name="run")
    np.testing.assert_array_equal(grams(tmp_path / "there", "run"), grams(tmp_path / "here", "run"))
    (found,) = [f for f in run.findings if f.kind == "common-rows"]
    assert found.steps == (20, 30, 40)
