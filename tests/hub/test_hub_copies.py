"""Matrices that a trainer saved twice, under names of its own: found over a network too, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_repos import Repo, Revision
from hub_runs import safetensors, state
from hub_server import HubServer

import trajsvc

WAYS = {"copied": True, "streamed": False}
STEPS = (0, 10, 20, 30, 40)


def twice(step: int, name: str, *, apart: tuple[int, ...] = ()) -> bytes:
    """The checkpoint with a matrix of its own under a second ``name``; another matrix there at the steps ``apart``."""
    values = state(step)
    copy = values["layers.1.weight"] + np.float32(0.5 if step in apart else 0.0)
    return safetensors({**values, name: copy})


def served(hubs: Callable[..., HubServer], name: str, *, apart: tuple[int, ...] = ()) -> HubServer:
    revisions = {f"step{s}": Revision({"model.safetensors": twice(s, name, apart=apart)}) for s in STEPS}
    return hubs(Repo("local/twice", {"main": revisions["step40"], **revisions}))


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_under_another_name_is_counted_once(way: str, hubs: Callable[..., HubServer], tmp_path: Path) -> None:
    served(hubs, "projector.table")
    run = trajsvc.analyze("hf://local/twice", store=tmp_path, name="run", copy=WAYS[way])
    assert run.attributes["left_out"] == {"projector.table": "tied to layers.1.weight"}
    (told,) = [f for f in run.findings if f.kind == "equal-copies"]
    assert told.tensors == ("projector.table",)
    assert run.parameters == sum(v.size for v in state(0).values())


@pytest.mark.parametrize("apart", [(0,), (20,), (40,)])
def test_what_differs_at_one_checkpoint_is_no_copy(
    apart: tuple[int, ...], hubs: Callable[..., HubServer], tmp_path: Path
) -> None:
    served(hubs, "projector.table", apart=apart)
    run = trajsvc.analyze("hf://local/twice", store=tmp_path, name="run", copy=False)
    assert "projector.table" not in run.attributes["left_out"]
    assert run.parameters == sum(v.size for v in state(0).values()) + state(0)["layers.1.weight"].size
