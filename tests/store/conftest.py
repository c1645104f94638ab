"""An empty store for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage_schema.runs.store import RunStore


@pytest.fixture
def store(in_memory: Path) -> RunStore:
    return RunStore(in_memory / "store")
