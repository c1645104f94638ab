"""What the crash tests run in a process of its own: a writer that commits generation after generation."""

from __future__ import annotations

import resource
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from gradient_sets import SPEC, made
from stored_runs import make_contents

from storage_schema.errors import DiskFull
from storage_schema.format import arrays
from storage_schema.runs.gradient_writer import GradientWriter
from storage_schema.runs.store import RunStore
from storage_schema.runs.writer import RunWriter

COLUMNS = 50
ROWS = 3


def theta_of(mark: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS) + mark


def contents_of(mark: int) -> Any:
    """Generation ``mark``: more blocks each time, so that files come, change and stay."""
    sizes = (COLUMNS - 1 - mark % 3,) + (1,) * (1 + mark % 3)
    return make_contents(ROWS, sizes=sizes, mark=mark, seed=mark)


def commit_next(writer: RunWriter) -> int:
    """One more generation; every third is without theta."""
    mark = 1 + (writer.current.generation if writer.current else 0)
    if mark % 3 == 0:
        return writer.commit(contents_of(mark), theta="drop").generation
    theta = theta_of(mark)
    writer.theta_begin(COLUMNS, "float32", range(ROWS), key=str(mark))
    for row in range(ROWS):
        writer.write_theta(row, 0, theta[row].data)
    return writer.commit(contents_of(mark)).generation


def commit_once(store: RunStore) -> None:
    with store.writer("run") as writer:
        commit_next(writer)


def put_gradients(store: RunStore) -> None:
    """A step that is stale and one that is new."""
    with GradientWriter(store.root, store.open("run")) as writer:
        writer.begin("example", SPEC)
        for step in (1000, 2000):
            writer.put("example", step, made(step))


def prepare() -> None:
    arrays.THETA_CHUNK = 20  # type: ignore[misc]  # three files a row
    arrays.GRAM_SHARD_BYTES = 72  # type: ignore[misc]  # a file a block


def commit_for_ever(root: str, acknowledged: Connection) -> None:
    """Sends each generation's number once it is committed."""
    prepare()
    store = RunStore(root)
    while True:
        with store.writer("run") as writer:
            for _ in range(3):
                acknowledged.send(commit_next(writer))


def commit_within(root: str, limit: int, answer: Connection) -> None:
    """Commits once with files limited to ``limit`` bytes; answers what came of it."""
    prepare()
    with RunStore(root).writer("run") as writer:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            said = f"committed {commit_next(writer)}"
        except DiskFull as full:
            said = f"DiskFull: {full.hint}"
        answer.send(said)
