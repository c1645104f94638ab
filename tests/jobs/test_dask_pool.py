"""Slabs on dask workers: the same bits as here, whatever dies, and nothing that is done is done again."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask_making import (
    NANO,
    OPTIONS,
    SMALL,
    Farm,
    Watch,
    analyse,
    bits,
    busy_threads,
    free_port,
    make_run,
    slow_down,
    slowly,
    wait_for,
)

from storage_schema.errors import DiskFull
from storage_schema.files.slab_results import SlabFiles
from trajsvc.analysis.options import Options
from trajsvc.analysis.selected import plan_of
from trajsvc.errors import Cancelled, DamagedCheckpoint, TrajsvcError, TryAgain, UnsafeFile
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.sources.resolve import open_source
from trajsvc.trajectory.opening import open_trajectory
from workers import unit_session
from workers.cluster import Cluster
from workers.dask_pool import DaskPool

pytestmark = [pytest.mark.timing, pytest.mark.dear]

GUARD = 300.0
"""seconds after which a job that would go on for ever is stopped, and its test fails"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dask")


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    return make_run(place / "data" / "run")


@pytest.fixture(scope="module")
def slabs(run: Path) -> int:
    with_all = open_trajectory(open_source(str(run)))
    return len(plan_of(with_all, OPTIONS).slabs)


@pytest.fixture(scope="module")
def wanted(place: Path, run: Path) -> dict[str, bytes]:
    """The bits as the threads of this process compute them."""
    analyse(run, place / "threads", ThreadPool(2))
    return bits(place / "threads")


@pytest.fixture(scope="module")
def embedded() -> Iterator[list[Cluster]]:
    made = [Cluster(workers=2)]
    yield made
    made[0].close()


@pytest.fixture
def cluster(embedded: list[Cluster]) -> Cluster:
    """The cluster with both workers there; another one where a test before has left it with fewer."""
    until = time.monotonic() + 60
    while embedded[0].count() != 2:
        if time.monotonic() > until:
            embedded[0].close()
            embedded[0] = Cluster(workers=2)
            until = time.monotonic() + 180
        time.sleep(0.05)
    return embedded[0]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slabs that were given to workers."""
    out: list[int] = []
    real = unit_session.UnitSession._batch

    def batch(self: unit_session.UnitSession) -> tuple[int, ...]:
        found = real(self)
        out.extend(found)
        return found

    monkeypatch.setattr(unit_session.UnitSession, "_batch", batch)
    return out


def test_a_run_has_the_same_bits_on_workers_as_on_threads(
    cluster: Cluster, tmp_path: Path, run: Path, wanted: dict[str, bytes], slabs: int, asked: list[int]
) -> None:
    assert slabs >= 6
    watch = Watch()
    done = analyse(run, tmp_path, DaskPool(cluster, threads=2), watch=watch)
    assert done.action == "computed"
    assert bits(tmp_path) == wanted
    assert watch.cursors == list(range(slabs + 1)), "in the plan's order, one by one"
    assert sorted(asked) == list(range(slabs)), "each slab once"
    assert not list((tmp_path / "work").rglob("*.slab")), "nothing is left behind"


@pytest.mark.slow
def test_what_is_computed_again_in_another_basis_has_the_same_bits_on_workers(cluster: Cluster, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", corrupted=5)
    analyse(run, tmp_path / "threads", ThreadPool(2))
    analyse(run, tmp_path / "workers", DaskPool(cluster, threads=2))
    found = bits(tmp_path / "workers")
    assert "trees gram" in found
    assert found == bits(tmp_path / "threads")
    assert not list((tmp_path / "workers" / "work").rglob("*.slab")), "nothing is left behind"


@pytest.mark.parametrize("memory", [SMALL, 2**26])
def test_the_example_has_the_same_bits_on_workers_as_on_threads(cluster: Cluster, tmp_path: Path, memory: int) -> None:
    options = Options(memory=memory, threads=2)
    analyse(NANO, tmp_path / "threads", ThreadPool(2), options)
    analyse(NANO, tmp_path / "dask", DaskPool(cluster, threads=2), options)
    assert bits(tmp_path / "dask") == bits(tmp_path / "threads")


@pytest.mark.slow
@pytest.mark.parametrize("source", ["run", "example"])
def test_a_run_with_its_copy_has_the_same_bits_on_workers_as_on_threads(
    cluster: Cluster, tmp_path: Path, run: Path, source: str
) -> None:
    options, folder = OPTIONS.with_(copy_parameters=True), run if source == "run" else NANO
    analyse(folder, tmp_path / "threads", ThreadPool(2), options)
    analyse(folder, tmp_path / "dask", DaskPool(cluster, threads=2), options)
    found = bits(tmp_path / "dask")
    assert found == bits(tmp_path / "threads")
    assert any(name.startswith("theta") for name in found)


@pytest.mark.slow
def test_a_run_with_its_copy_is_computed_again_from_the_files_of_that_time(
    cluster: Cluster, tmp_path: Path, run: Path
) -> None:
    pool, stop = DaskPool(cluster, threads=2), threading.Event()
    guard = threading.Timer(GUARD, stop.set)
    guard.start()
    try:
        for store in ("one", "two"):
            for recompute in (False, True):
                options = OPTIONS.with_(copy_parameters=True, recompute=recompute)
                assert analyse(run, tmp_path / store, pool, options, stop=stop).action == "computed"
    finally:
        guard.cancel()
        guard.join()
    assert bits(tmp_path / "one") == bits(tmp_path / "two")


def test_the_same_bytes_in_another_place_are_read_there(
    cluster: Cluster, tmp_path: Path, run: Path, wanted: dict[str, bytes]
) -> None:
    """A worker holds what it was told of a job; the same work in another folder is another description."""
    pool, stop = DaskPool(cluster, threads=2), threading.Event()
    guard = threading.Timer(GUARD, stop.set)
    guard.start()
    try:
        for number in range(2):
            folder = tmp_path / f"data{number}" / "run"
            shutil.copytree(run, folder)
            analyse(folder, tmp_path / f"store{number}", pool, stop=stop)
            assert bits(tmp_path / f"store{number}") == wanted
            shutil.rmtree(folder)
    finally:
        guard.cancel()
        guard.join()


@pytest.mark.slow
def test_a_run_that_is_appended_to_has_the_same_bits_on_workers(cluster: Cluster, tmp_path: Path, run: Path) -> None:
    for name, pool in (("threads", ThreadPool(2)), ("dask", DaskPool(cluster, threads=2))):
        folder = tmp_path / f"{name}-data"
        make_run(folder, steps=7)
        assert analyse(folder, tmp_path / name, pool).action == "computed"
        make_run(folder, first=7)
        assert analyse(folder, tmp_path / name, pool).action == "appended"
    assert bits(tmp_path / "dask") == bits(tmp_path / "threads")


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_no_bit(
    cluster: Cluster, tmp_path: Path, run: Path, wanted: dict[str, bytes]
) -> None:
    before = set(cluster.client().run(os.getpid).values())
    with slowly(cluster, 0.1):
        watch = Watch(3, lambda: os.kill(next(iter(before)), signal.SIGKILL))
        analyse(run, tmp_path, DaskPool(cluster, threads=2), watch=watch)
    assert bits(tmp_path) == wanted
    assert watch.acted
    wait_for(lambda: cluster.count() == 2, what="the worker's return")
    assert set(cluster.client().run(os.getpid).values()) != before


@pytest.mark.slow
def test_every_worker_killed_at_once_changes_no_bit(
    cluster: Cluster, tmp_path: Path, run: Path, wanted: dict[str, bytes]
) -> None:
    pids = cluster.client().run(os.getpid).values()
    with slowly(cluster, 0.1):
        watch = Watch(3, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids])
        analyse(run, tmp_path, DaskPool(cluster, threads=2), watch=watch)
    assert bits(tmp_path) == wanted


def test_a_job_that_is_stopped_ends_at_once_and_so_do_its_tasks(cluster: Cluster, tmp_path: Path, run: Path) -> None:
    """Each slab would take an hour."""
    client, stop = cluster.client(), threading.Event()

    def stop_in_the_middle() -> None:
        wait_for(lambda: sum(client.run(busy_threads).values()) == 2, what="running tasks")
        stop.set()

    with slowly(cluster, 3600.0):
        other = threading.Thread(target=stop_in_the_middle)
        other.start()
        with pytest.raises(Cancelled):
            analyse(run, tmp_path, DaskPool(cluster, threads=2), stop=stop)
        other.join()
        wait_for(lambda: not any(client.processing().values()), GUARD, "the end of tasks at the scheduler")
        wait_for(lambda: not any(client.run(busy_threads).values()), GUARD, "the end of tasks on workers")


def test_a_second_run_goes_on_where_the_first_was_stopped(
    cluster: Cluster, tmp_path: Path, run: Path, wanted: dict[str, bytes], slabs: int, asked: list[int]
) -> None:
    stop = threading.Event()
    with slowly(cluster, 0.1):
        first = Watch(5, stop.set)
        with pytest.raises(Cancelled):
            analyse(run, tmp_path, DaskPool(cluster, threads=2), watch=first, stop=stop)
        wait_for(lambda: not any(cluster.client().run(busy_threads).values()), what="the end of tasks")
    kept = {int(p.stem) for p in (tmp_path / "work").rglob("*.slab")}
    assert first.cursors[-1] >= 5
    asked.clear()
    second = Watch()
    analyse(run, tmp_path, DaskPool(cluster, threads=2), watch=second)
    together = next(i for i in range(slabs + 1) if i not in kept)
    assert second.cursors[0] == together >= first.cursors[-1]
    assert sorted(asked) == sorted(set(range(slabs)) - kept), "what is in a file is not asked for"
    assert bits(tmp_path) == wanted
    assert not list((tmp_path / "work").rglob("*.slab")), "nothing is left of it"


def test_files_of_slabs_whose_sum_is_in_the_journal_are_dropped(
    cluster: Cluster, tmp_path: Path, run: Path, wanted: dict[str, bytes], slabs: int, asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("trajsvc.gram.engine.PENDING", 1)
    monkeypatch.setattr("trajsvc.gram.engine.PENDING_GRAMS", 0)
    stop, left = threading.Event(), []

    def look() -> None:
        left.extend(int(p.stem) for p in (tmp_path / "work").rglob("*.slab"))
        stop.set()

    with slowly(cluster, 0.1):
        first = Watch(5, look)
        with pytest.raises(Cancelled):
            analyse(run, tmp_path, DaskPool(cluster, threads=2), watch=first, stop=stop)
        wait_for(lambda: not any(cluster.client().run(busy_threads).values()), what="the end of tasks")
    assert not {0, 1, 2, 3, 4} & set(left)
    asked.clear()
    second = Watch()
    analyse(run, tmp_path, DaskPool(cluster, threads=2), watch=second)
    assert second.cursors[0] >= first.cursors[-1]
    assert not set(range(first.cursors[-1])) & set(asked)
    assert bits(tmp_path) == wanted


def test_a_slab_file_that_is_damaged_is_computed_again(
    cluster: Cluster, tmp_path: Path, run: Path, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, torn = SlabFiles.get, []

    def get(self: SlabFiles, slab: int) -> object:
        if slab in (4, 9) and slab not in torn and self.has(slab):
            torn.append(slab)
            path = self._path(slab)
            path.write_bytes(path.read_bytes()[:-5])
        return real(self, slab)

    monkeypatch.setattr(SlabFiles, "get", get)
    analyse(run, tmp_path, DaskPool(cluster, threads=2))
    assert sorted(torn) == [4, 9]
    assert bits(tmp_path) == wanted


def refuse_to_write(number: int) -> None:
    """Run on a worker: slabs cannot be written, as the system says with ``number``; 0: they can."""
    import storage_schema.files.slab_results as module

    real = getattr(module, "real_replace_file", module.replace_file)
    module.real_replace_file = real  # type: ignore[attr-defined]

    def replace_file(path: Path, *data: bytes, writers: bool = False) -> int:
        raise OSError(number, os.strerror(number), str(path))

    module.replace_file = replace_file if number else real


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_what_a_worker_cannot_write_fails_the_attempt_and_is_not_taken_for_a_lost_scheduler(
    cluster: Cluster, tmp_path: Path, run: Path, number: int
) -> None:
    told, stop = list[str | None](), threading.Event()
    guard = threading.Timer(GUARD, stop.set)
    guard.start()
    cluster.client().run(refuse_to_write, number)
    try:
        with pytest.raises((OSError, TrajsvcError)) as caught:
            analyse(run, tmp_path, DaskPool(cluster, threads=2, waiting=told.append), stop=stop)
    finally:
        guard.cancel()
        guard.join()
        cluster.client().run(refuse_to_write, 0)
    assert not stop.is_set(), f"it went on for {GUARD} s, and told {set(told)}"
    assert os.strerror(number).lower() in str(caught.value).lower()
    assert told == []


ERRORS = [
    DamagedCheckpoint("checksum-mismatch", "it is damaged", hint="Fetch it.", file="/data/x", tensor="w", step=3),
    TryAgain("file-changed", "it changed", hint="Wait.", file="/data/x", step=3),
    UnsafeFile("unsafe-pickle", "it would run code", hint="Do not."),
    DiskFull("/data/x", "the disk is full", "Free some space."),
]


def raise_on_worker(number: int) -> None:
    raise ERRORS[number]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_an_error_of_ours_comes_back_from_a_worker_as_it_was_raised(cluster: Cluster, error: Exception) -> None:
    future = cluster.client().submit(raise_on_worker, ERRORS.index(error), pure=False)
    found = future.exception(timeout=600)
    assert type(found) is type(error)
    assert vars(found) == vars(error)
    assert str(found) == str(error)


def test_without_workers_the_job_says_so_and_ends_to_be_tried_again(tmp_path: Path, run: Path) -> None:
    cluster, told = Cluster(workers=0), list[str | None]()
    try:
        with pytest.raises(TryAgain) as caught:
            analyse(run, tmp_path, DaskPool(cluster, threads=2, patience=1.0, waiting=told.append))
    finally:
        cluster.close()
    assert caught.value.kind == "no-workers"
    assert set(told) == {"no dask worker is connected"}


@pytest.mark.slow
def test_a_job_that_waited_for_workers_goes_on_when_they_come(
    tmp_path: Path, run: Path, wanted: dict[str, bytes]
) -> None:
    cluster, told = Cluster(workers=0), list[str | None]()

    def waiting(reason: str | None) -> None:
        if not told:
            cluster.client().cluster.scale(1)
        told.append(reason)

    try:
        analyse(run, tmp_path, DaskPool(cluster, threads=2, patience=600.0, waiting=waiting))
    finally:
        cluster.close()
    assert told[0] == "no dask worker is connected"
    assert told[-1] is None
    assert bits(tmp_path) == wanted


@pytest.mark.slow
def test_without_a_scheduler_the_job_says_so_and_ends_to_be_tried_again(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.cluster.CONNECT_SECONDS", 0.5)
    cluster, told = Cluster(f"tcp://127.0.0.1:{free_port()}"), list[str | None]()
    try:
        with pytest.raises(TryAgain) as caught:
            analyse(run, tmp_path, DaskPool(cluster, threads=2, patience=1.0, waiting=told.append))
    finally:
        cluster.close()
    assert caught.value.kind == "no-scheduler"
    assert told
    assert "no dask scheduler answers" in str(told[0])


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path, free_port())
    made.start_scheduler()
    made.start_workers()
    yield made
    made.close()


@pytest.mark.slow
def test_a_scheduler_killed_in_the_middle_and_started_again_changes_no_bit(
    farm: Farm,
    tmp_path: Path,
    run: Path,
    wanted: dict[str, bytes],
    asked: list[int],
    slabs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.cluster.CONNECT_SECONDS", 1.0)  # the outage is longer than that
    cluster, told = Cluster(farm.address), list[str | None]()
    pool = DaskPool(cluster, threads=2, patience=600.0, waiting=told.append)

    over = threading.Event()

    def outage() -> None:
        farm.kill_scheduler()
        time.sleep(1.5)
        farm.start_scheduler()
        farm.tend(over)

    other = threading.Thread(target=outage)
    try:
        wait_for(lambda: _count(cluster) == 2, 600, "the workers' coming")
        cluster.client().run(slow_down, 0.1)
        watch = Watch(4, other.start)
        analyse(run, tmp_path / "store", pool, watch=watch)
    finally:
        over.set()
        if other.ident is not None:
            other.join()
        cluster.close()
    assert bits(tmp_path / "store") == wanted, farm.log()
    assert any(told), "that the scheduler went away was told"
    assert told[-1] is None
    assert len(asked) < 2 * slabs, "what was done was not asked for again"


def _count(cluster: Cluster) -> int:
    try:
        return cluster.count()
    except TryAgain:
        return 0


@pytest.mark.slow
def test_an_embedded_cluster_whose_workers_stay_away_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from workers import cluster as module

    monkeypatch.setattr(module, "REVIVE", 0.2)
    made = module.Cluster(workers=1)
    try:
        until = time.monotonic() + 600
        while not made.count():
            assert time.monotonic() < until
            time.sleep(0.1)
        first = made.client().scheduler_info()["id"]
        made._local.scale(0)  # type: ignore[union-attr]
        while made.count():
            assert time.monotonic() < until
            time.sleep(0.1)
        while not made.count():
            assert time.monotonic() < until + 600
            time.sleep(0.1)
        assert made.client().scheduler_info()["id"] != first
    finally:
        made.close()
