"""Databases for the tests of jobs: SQLite in a file, and PostgreSQL where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from job_making import KINDS, clear, empty_database
from sqlalchemy import Engine

from trajsvc.jobs.database import connect
from trajsvc.jobs.queue import JobQueue


@pytest.fixture(scope="module", params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database of the test file's own."""
    with empty_database(request.param, tmp_path_factory.mktemp("database")) as url:
        yield url


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """An engine whose database has the tables, and no rows."""
    made = connect(database)
    clear(made)
    yield made
    made.dispose()


@pytest.fixture
def queue(engine: Engine) -> JobQueue:
    return JobQueue(engine)


@pytest.fixture(params=KINDS)
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes databases in which there is nothing at all."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(empty_database(request.param, tmp_path))
