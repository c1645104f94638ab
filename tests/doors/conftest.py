"""Fixtures of the doors: a store of runs made from explicit trajectories, and the command line over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_runs import STEPS, Cli, Made, commit, make, nano, transformer_blocks


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with ``nano`` (two layers of a transformer), ``other`` (another seed) and ``mlp`` (no attention)."""
    root = tmp_path_factory.mktemp("store")
    finding = {"kind": "identical", "severity": "warning", "message": "steps 8, 16 hold [the same]", "steps": [8, 16],
               "tensors": [], "details": {}}  # fmt: skip
    commit(root, nano(), findings=[finding], excluded=[{"step": 48, "label": "step48", "reason": "a missing shard"}])
    commit(root, make("other", transformer_blocks(2), STEPS, seed=100))
    blocks = [((f"fc{k}.weight", f"fc{k}.weight", "", f"fc{k}", ""), 12) for k in range(2)]
    commit(root, make("mlp", blocks, [0, 10, 20, 30]), architecture="generic")
    return root


@pytest.fixture(scope="session")
def made() -> Made:
    return nano()


@pytest.fixture
def cli(store: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    for name in ("TRAJSVC_STORE", "TRAJSVC_DEBUG", "TRAJSVC_CONFIG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Cli(store)
