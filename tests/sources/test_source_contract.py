"""Local folders keep to the contract of sources, in every format that they may be in."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from contracts.checkpoint_source import CheckpointSourceContract, Published, State
from safetensors.numpy import save_file
from torch.distributed import checkpoint as dcp

from trajsvc.sources.local.source import LocalSource


class Folder(Published):
    """A folder for each step, with one file of safetensors."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, step: int, state: State) -> None:
        place = self.root / f"step{step}"
        place.mkdir(parents=True)
        self.save(state, place)

    def save(self, state: State, place: Path) -> None:
        save_file(dict(state), place / "model.safetensors")

    def damage(self, step: int) -> None:
        next(p for p in sorted((self.root / f"step{step}").iterdir()) if p.is_file()).write_bytes(b"no header at all")

    def open(self) -> LocalSource:
        return LocalSource(self.root)


class TorchFolder(Folder):
    """The same with an archive of torch."""

    def save(self, state: State, place: Path) -> None:
        torch.save({name: torch.from_numpy(value.copy()) for name, value in state.items()}, place / "pytorch_model.bin")


class DistributedFolder(Folder):
    """The same as torch.distributed.checkpoint writes it."""

    def save(self, state: State, place: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save({n: torch.from_numpy(v.copy()) for n, v in state.items()}, checkpoint_id=place)


class LocalContract(CheckpointSourceContract):
    tells_change = True
    layout: ClassVar[type[Folder]]

    @pytest.fixture
    def published(self, tmp_path: Path) -> Published:
        (tmp_path / "run").mkdir()
        return self.layout(tmp_path / "run")


class TestSafetensors(LocalContract):
    layout = Folder


class TestTorch(LocalContract):
    layout = TorchFolder


class TestDistributed(LocalContract):
    layout = DistributedFolder
