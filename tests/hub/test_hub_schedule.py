"""The learning rate of a run on the Hub, from what its trainer pushed beside the weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_repos import Revision
from hub_runs import safetensors, state, steps_repo
from hub_server import HubServer

import trajsvc

Hubs = Callable[..., HubServer]
HISTORY = [{"step": s, "learning_rate": 0.1 if s <= 10 else 0.01} for s in range(0, 21, 5)]


@pytest.mark.parametrize("copy", [True, False])
def test_it_is_read_from_the_last_revision(hubs: Hubs, tmp_path: Path, copy: bool) -> None:
    repo = steps_repo("local/run", [0, 10, 20])
    files = {
        "model.safetensors": safetensors(state(20)),
        "trainer_state.json": json.dumps({"log_history": HISTORY}).encode(),
    }
    repo.move("step20", Revision(files))
    hubs(repo)
    found = trajsvc.analyze("hf://local/run", store=tmp_path, copy=copy).learning_rate
    assert found is not None
    assert found.drops == [10]


def test_a_run_without_one_asks_for_none(hubs: Hubs, tmp_path: Path) -> None:
    hub = hubs(steps_repo("local/run", [0, 10, 20]))
    assert trajsvc.analyze("hf://local/run", store=tmp_path).learning_rate is None
    assert not any("trainer_state" in p or ".jsonl" in p for p in hub.stats()["paths"])
