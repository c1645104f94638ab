"""What all tests share: folders in memory, how tests are given to workers, and what is said of those that were left out."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import worker_groups
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, not of the program.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
pytest.register_assert_rewrite("contracts")  # its classes are no test modules of their own

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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, metavar="N", help="run every test N times")


@pytest.fixture
def repetition(request: pytest.FixtureRequest) -> int:
    """Which of the ``--repeat`` runs of a test this is, from 0."""
    return int(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    count = metafunc.config.getoption("--repeat")
    if count > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(count), indirect=True, scope="function")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=worker_groups.order)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return worker_groups.scheduler(config, log) if config.option.dist == "loadfile" else None


LEFT_OUT = pytest.StashKey[int]()
"""how many slow tests ``-m`` left out"""


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        config = items[0].config
        slow = sum(item.get_closest_marker("slow") is not None for item in items)
        config.stash[LEFT_OUT] = config.stash.get(LEFT_OUT, 0) + slow


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # of a worker: told to the process that sums up
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"{left_out} slow tests were left out; make test-all runs them too")
