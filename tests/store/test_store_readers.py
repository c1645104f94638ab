"""Readers beside a committing writer see whole generations, each newer than the last or the same, and no mixture."""

from __future__ import annotations

import threading
import time

import crash_child
import numpy as np
import pytest
from stored_runs import same
from test_store_crash import check, drain, start

from storage_schema.errors import StoreChanged
from storage_schema.format import arrays
from storage_schema.runs.store import RunStore

pytestmark = [pytest.mark.timing, pytest.mark.dear]

SECONDS = 4.0


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "THETA_CHUNK", 20)
    monkeypatch.setattr(arrays, "GRAM_SHARD_BYTES", 72)


@pytest.mark.slow
@pytest.mark.parametrize("small", [2**20, 64])
def test_readers_beside_another_process_never_see_a_mixture(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    """Two threads open and read everything while a process commits as fast as it can; with files in memory, and held open."""
    monkeypatch.setattr("storage_schema.runs.snapshot.SMALL", small)
    child, pipe = start(crash_child.commit_for_ever, str(store.root))
    assert pipe.poll(30)
    until = time.monotonic() + SECONDS
    seen: list[list[int]] = [[], []]
    gone: list[StoreChanged] = []
    failures: list[BaseException] = []

    def read(mine: list[int]) -> None:
        try:
            while time.monotonic() < until:
                run = store.open("run")
                assert same(run.contents(), crash_child.contents_of(run.generation))
                mine.append(run.generation)
                try:
                    read_theta(run.generation)
                except StoreChanged as changed:
                    gone.append(changed)
        except BaseException as error:
            failures.append(error)

    def read_theta(_: int) -> None:
        run = store.open("run")
        if run.has_theta:
            row = np.empty(crash_child.COLUMNS, np.float32)
            run.read_theta(1, 0, crash_child.COLUMNS, memoryview(row).cast("B"))
            assert np.array_equal(row, crash_child.theta_of(run.generation)[1])

    threads = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child.kill()
    child.join()
    committed = drain(pipe)
    pipe.close()
    assert failures == []
    for mine in seen:
        assert mine == sorted(mine)
        assert len(mine) > 10
    assert len({*seen[0], *seen[1]}) > 5, "the writer must commit while they read"
    assert check(store.open("run")) in (committed, committed + 1)
    print(f"{len(seen[0]) + len(seen[1])} readings over {committed} generations, {len(gone)} thetas replaced meanwhile")
