"""kill -9 and full disks: whatever the instant, the store is one whole generation, and the next writer goes on from it."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import crash_child
import numpy as np
import pytest
import xarray as xr
from crash_points import crash_points
from stored_runs import same

from storage_schema.errors import RunMissing
from storage_schema.format import arrays
from storage_schema.runs.store import RunStore, StoredRun

pytestmark = [pytest.mark.slow, pytest.mark.timing, pytest.mark.dear]

KILLS = 40


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "THETA_CHUNK", 20)
    monkeypatch.setattr(arrays, "GRAM_SHARD_BYTES", 72)


def start(target: Callable[..., None], *args: object) -> tuple[Any, Connection]:
    """A child forked from a server that has the libraries loaded, so that forty of them take seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zarr", "storage_schema.runs.writer", "crash_child"])
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=target, args=(*args, there), daemon=True)
    child.start()
    there.close()
    return child, here


def check(run: StoredRun) -> int:
    """The run is the generation it says it is, in every array and table, theta included; its number."""
    mark = run.generation
    assert same(run.contents(), crash_child.contents_of(mark))
    assert run.has_theta == (mark % 3 != 0)
    if run.has_theta:
        out = np.empty((crash_child.ROWS, crash_child.COLUMNS), np.float32)
        for row in range(crash_child.ROWS):
            run.read_theta(row, 0, crash_child.COLUMNS, memoryview(out[row]).cast("B"))
        assert np.array_equal(out, crash_child.theta_of(mark))
    assert run.verify() == ()
    return mark


def check_settled(path: Path, mark: int) -> None:
    """After a writer came by, readers that know no manifest see the same generation and nothing is left over."""
    run = StoredRun(path)
    on_disk = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert on_disk == {"manifest.json", *run.entries}
    with xr.open_zarr(path) as plain:
        assert plain.attrs["mark"] == mark
        assert np.array_equal(plain.gram.values, crash_child.contents_of(mark).gram)
        assert ("theta" in plain) == (mark % 3 != 0)


def drain(pipe: Connection) -> int:
    """The last generation that was acknowledged."""
    last = 0
    try:
        while pipe.poll():
            last = pipe.recv()
    except EOFError:
        pass
    return last


@pytest.mark.slow
def test_kill_9_at_40_random_instants_leaves_a_whole_generation(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The generation found is the last one acknowledged or the one being committed, with exactly its content."""
    store = RunStore(tmp_path / "store")  # on a disk, whose delays spread the instants over all of a commit
    dice = random.Random(20)
    seen, late = 0, 0
    for _ in range(KILLS):
        child, pipe = start(crash_child.commit_for_ever, str(store.root))
        assert pipe.poll(300)
        time.sleep(dice.uniform(0.0, 0.25))
        child.kill()
        child.join()
        acknowledged = drain(pipe)
        pipe.close()
        found = check(store.open("run"))
        assert acknowledged <= found <= acknowledged + 1
        assert found > seen
        seen, late = found, late + (found > acknowledged)
        with store.writer("run"):
            pass
        check_settled(store.path("run"), found)
    record_property("kills", KILLS)
    record_property("generations", seen)
    record_property("committed_but_not_acknowledged", late)
    print(f"{KILLS} kills over {seen} generations, {late} of them after the commit and before its acknowledgement")


@pytest.mark.parametrize(
    "generation", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_death_before_every_change_of_a_file(store: RunStore, generation: int) -> None:
    """Commit ``generation`` over the one before; whatever a death before its 1st, 2nd … change leaves is one of the two, whole.

    The next writer recovers it, and commits the generation that follows. Recovery gives a few different sets of files, however many
    deaths led there: what follows is looked at once for each.
    """
    with store.writer("run") as writer:
        for _ in range(generation - 1):
            crash_child.commit_next(writer)
    store.root.mkdir(exist_ok=True)
    left = RunStore(store.root.with_name("left"))
    outcomes = []
    recovered: set[tuple[tuple[str, bytes], ...]] = set()
    for _ in crash_points(store.root, left.root):
        try:
            found = check(left.open("run"))
        except RunMissing:
            found = 0
        assert found in (generation - 1, generation)
        outcomes.append(found)
        with left.writer("run") as writer:
            state = files_below(left.root)
            if state in recovered:
                continue
            recovered.add(state)
            if found:
                check_settled(left.path("run"), found)
            crash_child.commit_next(writer)
        check_settled(left.path("run"), check(left.open("run")))
    assert outcomes == sorted(outcomes), "once committed, always committed"
    assert len(outcomes) > 50
    assert {generation - 1, generation} == set(outcomes)
    print(
        f"generation {generation}: {len(outcomes) - 1} deaths, {outcomes.count(generation) - 1} of them after the commit, "
        f"{len(recovered)} states to go on from"
    )


def files_below(root: Path) -> tuple[tuple[str, bytes], ...]:
    """Every file and folder below ``root``, with what is in it."""
    return tuple(
        (path.relative_to(root).as_posix(), b"" if path.is_dir() else path.read_bytes())
        for path in sorted(root.rglob("*"))
    )


@pytest.mark.parametrize("limit", [0, 1, 60, 72, 200, 700, 2_000, 5_000, 9_000, 1_000_000])
def test_a_full_disk_is_said_and_the_earlier_generation_stays(store: RunStore, limit: int) -> None:
    """RLIMIT_FSIZE at several sizes: no file, only small files, all but the metadata and the manifest, all."""
    with store.writer("run") as writer:
        crash_child.commit_next(writer)
    child, pipe = start(crash_child.commit_within, str(store.root), limit)
    assert pipe.poll(300)
    answer = pipe.recv()
    child.join()
    pipe.close()
    assert child.exitcode == 0
    assert answer.startswith("committed 2" if limit == 1_000_000 else "DiskFull: Nothing that was committed is lost.")
    found = check(store.open("run"))
    assert found == (2 if answer == "committed 2" else 1)
    with store.writer("run") as writer:
        check_settled(store.path("run"), found)
        assert crash_child.commit_next(writer) == found + 1
    check_settled(store.path("run"), check(store.open("run")))
