"""Fixtures of the sources' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trajsvc.sources.files import Files, Region


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Callable[[str | Path], Region]]:
    """Opens a file in the test's folder as readers get it."""
    files = Files(tmp_path)
    yield lambda path: files.region(str(path))
    files.close()
