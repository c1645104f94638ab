"""Matrices of 8-bit types and their scales, read from a Hub: by ranges, or whole files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_repos import Repo, Revision
from hub_runs import grams, state
from hub_server import HubServer
from safetensors.torch import save

import trajsvc
from trajsvc.analysis.options import Options
from trajsvc.analysis.selected import plan_of, trajectory_of
from trajsvc.sources.resolve import open_named
from trajsvc.trajectory.windows import reading_cost

WAYS = {"copied": {"copy": True}, "streamed": {"copy": False}, "streamed without a disk": {"copy": False, "cache": 0}}
STEPS = (0, 10, 20, 30)


def quantised(step: int) -> dict[str, torch.Tensor]:
    """The matrices in blocks of 32 × 32."""
    stored = {n: torch.from_numpy(v) for n, v in state(step).items()}
    for name in [n for n in stored if n.startswith("layers") and n.endswith("weight")]:
        value = stored[name]
        scale = value.abs().reshape(3, 32, 3, 32).amax(dim=(1, 3)) / 448
        spread = scale.repeat_interleave(32, 0).repeat_interleave(32, 1)
        stored[name], stored[f"{name}_scale_inv"] = (value / spread).to(torch.float8_e4m3fn), scale
    return stored


@pytest.fixture
def served(hubs: Callable[..., HubServer]) -> HubServer:
    revisions = {f"step{s}": Revision({"model.safetensors": save(quantised(s))}) for s in STEPS}
    return hubs(Repo("local/eight", {"main": revisions["step30"], **revisions}))


@pytest.mark.parametrize("way", WAYS)
def test_codes_and_scales_come_from_the_hub(way: str, served: HubServer, tmp_path: Path) -> None:
    trajsvc.analyze("hf://local/eight", store=tmp_path / "there", name="run", **WAYS[way])
    for s in STEPS:
        folder = tmp_path / "run" / f"step{s}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(save(quantised(s)))
    trajsvc.analyze(tmp_path / "run", store=tmp_path / "here", name="run")
    np.testing.assert_array_equal(grams(tmp_path / "there", "run"), grams(tmp_path / "here", "run"))


def test_the_plan_counts_the_scales_that_are_read(served: HubServer, tmp_path: Path) -> None:
    with closing(open_named("hf://local/eight", tmp_path)) as source:
        options = Options(copy_parameters=False)
        trajectory = trajectory_of(source, options)
        cost = reading_cost(trajectory, plan_of(trajectory, options), 2**30)
    scales = 2 * 9 * 4 * len(STEPS)
    assert cost.bytes >= trajectory.bytes + scales
