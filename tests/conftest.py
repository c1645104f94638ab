"""What all tests share: a GPU test runs where there is a GPU and says so elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ENOUGH = 2**28
"""bytes that must be free in memory for a test to keep its files there"""


@pytest.fixture(scope="session")
def memory_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Makes empty folders in memory where there is one, else on disk: for tests that write much and say nothing about a disk.

    What a process reads, or leaves behind when it is killed, does not depend on it; waiting for a disk is most of such a test's time.
    """
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ENOUGH:
        yield lambda: tmp_path_factory.mktemp("folder")
        return
    with tempfile.TemporaryDirectory(prefix="trajsvc-test-", dir=MEMORY) as base:
        yield lambda: Path(tempfile.mkdtemp(dir=base))


@pytest.fixture
def in_memory(memory_folders: Callable[[], Path]) -> Iterator[Path]:
    """An empty folder of ``memory_folders`` for one test."""
    folder = memory_folders()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
