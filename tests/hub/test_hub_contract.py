"""A repository on the Hub keeps to the contract of sources."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contracts.checkpoint_source import CheckpointSourceContract, Published, State
from hub_repos import Repo, Revision
from hub_runs import safetensors
from hub_server import HubServer

from trajsvc.sources.hub.address import parse_address
from trajsvc.sources.hub.source import HubOptions, HubSource


class Branches(Published):
    """A branch for each step, with one file of safetensors."""

    def __init__(self, hubs: Callable[..., HubServer]) -> None:
        self.repo = Repo("local/run", {"main": Revision({"README.md": b"a model"})})
        self.hub = hubs(self.repo)

    def add(self, step: int, state: State) -> None:
        self.repo.move(f"step{step}", Revision({"model.safetensors": safetensors(state)}))

    def damage(self, step: int) -> None:
        self.repo.move(f"step{step}", Revision({"model.safetensors": b"no header at all"}))

    def open(self) -> HubSource:
        return HubSource(parse_address("hf://local/run"), HubOptions(endpoint=self.hub.endpoint, connections=4))


class TestHub(CheckpointSourceContract):
    tells_change = False  # what was listed are commits, which stay as they are

    @pytest.fixture
    def published(self, hubs: Callable[..., HubServer]) -> Published:
        return Branches(hubs)
