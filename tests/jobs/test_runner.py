"""The runner, with a real queue and dask workers: how a job ends, whatever happens to it."""

from __future__ import annotations

import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from dask_making import bits, generation, make_run, slowly, wait_for
from job_making import due, expire
from takeover import Place, take_over

from storage_schema.runs.store import RunStore
from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.errors import TryAgain
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.jobs.options import options_of
from trajsvc.jobs.records import Job
from trajsvc.jobs.states import Kind, State
from trajsvc.sources.resolve import open_source
from workers import runner as runner_module
from workers.cluster import Cluster
from workers.job_observer import JobObserver
from workers.runner import Runner


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(workers=2)
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place.make(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture
def wanted(place: Place, tmp_path: Path) -> dict[str, bytes]:
    """The bits of the run as threads compute them with a job's options."""
    options = options_of(place.spec())
    source = open_source(str(place.data / "small"))
    run_analysis(AnalysisJob(source, tmp_path / "threads", "small", options, ThreadPool(2)))
    return bits(tmp_path / "threads", "small")


def stored(place: Place, name: str = "small") -> bool:
    return name in RunStore(place.store).names()


class Beside:
    """A runner that works on one job in a thread."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.thread = threading.Thread(target=runner.run_one)

    def __enter__(self) -> Runner:
        self.thread.start()
        return self.runner

    def __exit__(self, *_: object) -> None:
        self.thread.join(600)
        assert not self.thread.is_alive(), "the runner goes on"


def computing(place: Place, job: str) -> bool:
    found = place.queue.get(job)
    return found.state == State.RUNNING and bool(found.progress) and (found.progress or {}).get("slabs", 0) > 0


@pytest.mark.timing
def test_a_job_runs_to_success_and_tells_its_progress(place: Place, cluster: Cluster, wanted: dict[str, bytes]) -> None:
    job = place.submit()
    with slowly(cluster, 0.15):
        assert place.runner(cluster).run_one()
    found = place.queue.get(job)
    assert found.state == State.SUCCEEDED, found.cause
    assert found.result == {"run": "small", "action": "computed", "new_steps": [0, 10, 20, 30, 40, 50], "left_out": []}
    assert (found.attempts, found.waiting, found.owner) == (1, None, None)
    assert bits(place.store, "small") == wanted
    told = [e.data for e in place.queue.events(job) if e.kind == "progress"]
    assert len(told) >= 2, "about once a second"
    last = told[-1]
    assert last["phase"] == "computing"
    assert last["slabs"] == last["slabs_total"] == found.slabs > 6
    assert last["bytes"] == last["bytes_total"] > 0
    assert (last["checkpoints"], last["parameters"]) == (6, 2**20)
    assert last["mds"] >= 0
    assert [t["slabs"] for t in told if "slabs" in t] == sorted(t["slabs"] for t in told if "slabs" in t)
    assert place.runner(cluster).run_one() is False, "nothing else to do"


def test_an_ingest_keeps_the_parameters(place: Place, cluster: Cluster) -> None:
    job = place.submit(kind=Kind.INGEST)
    assert place.runner(cluster).run_one()
    assert place.queue.get(job).state == State.SUCCEEDED
    assert RunStore(place.store).open("small").has_theta


def test_a_run_that_has_grown_is_appended_to(place: Place, cluster: Cluster) -> None:
    place.submit()
    assert place.runner(cluster).run_one()
    make_run(place.data / "small", steps=8, first=6)
    job = place.submit(pins={"files": "another listing"})
    assert place.runner(cluster).run_one()
    result = place.queue.get(job).result
    assert result is not None
    assert (result["action"], result["new_steps"]) == ("appended", [60, 70])
    assert generation(place.store, "small") == 2


def failed(place: Place, cluster: Cluster, job: str, **choices: Any) -> tuple[Job, dict[str, Any]]:
    """The job, failed at its first attempt and for good, and its cause."""
    assert place.runner(cluster, **choices).run_one()
    found = place.queue.get(job)
    assert found.state == State.FAILED, found.state
    assert found.attempts == 1
    assert place.runner(cluster).run_one() is False
    return found, dict(found.cause or {})


def test_a_damaged_checkpoint_fails_the_job_at_once_and_names_file_and_tensor(place: Place, cluster: Cluster) -> None:
    values = {f"layers.{i}.weight": torch.ones(64, 64) * i for i in range(1, 4)}
    for step in (0, 10):
        path = place.data / "torch" / f"step{step}" / "pytorch_model.bin"
        path.parent.mkdir(parents=True)
        torch.save(values, path)
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data/1"))
        start = archive.getinfo(name).header_offset
    raw = bytearray(path.read_bytes())
    at = raw.index(values["layers.2.weight"].numpy().tobytes()[:64], start)
    raw[at + 1000] ^= 1
    path.write_bytes(raw)
    job = place.submit("torch", source="runs:torch")
    _, cause = failed(place, cluster, job)
    assert cause["kind"] == "checksum-mismatch"
    assert cause["type"] == "urn:trajsvc:problem:checksum-mismatch"
    assert cause["file"].endswith("torch/step10/pytorch_model.bin")
    assert (cause["tensor"], cause["step"]) == ("layers.2.weight", 10)
    assert cause["hint"]
    assert not stored(place, "torch")


def test_a_checkpoint_without_a_header_fails_the_job_at_once_and_names_its_file(place: Place, cluster: Cluster) -> None:
    (place.data / "small" / "step20" / "model.safetensors").write_bytes(b"no header at all")
    _, cause = failed(place, cluster, place.submit())
    assert cause["file"].endswith("small/step20/model.safetensors")
    assert not stored(place)


def test_a_source_that_is_not_there_fails_the_job_at_once(place: Place, cluster: Cluster) -> None:
    _, cause = failed(place, cluster, place.submit("x", source="runs:nowhere"))
    assert cause["kind"] == "source-not-found"


@pytest.mark.timing
def test_a_run_that_another_process_writes_is_waited_for(
    place: Place, cluster: Cluster, wanted: dict[str, bytes]
) -> None:
    job = place.submit()
    with RunStore(place.store).writer("small"):
        for _ in range(5):  # more often than there are attempts
            assert place.runner(cluster).run_one()
            found = place.queue.get(job)
            assert (found.state, found.attempts) == (State.ACCEPTED, 0)
            assert found.waiting is not None
            assert "is being written" in found.waiting
            assert found.not_before > found.updated
            due(place.engine, job)
    assert place.runner(cluster).run_one()
    found = place.queue.get(job)
    assert (found.state, found.waiting) == (State.SUCCEEDED, None)
    assert bits(place.store, "small") == wanted


@pytest.mark.timing
def test_a_job_that_is_cancelled_while_it_runs_ends_and_leaves_no_run(place: Place, cluster: Cluster) -> None:
    job = place.submit()
    with slowly(cluster, 0.3), Beside(place.runner(cluster)):
        wait_for(lambda: computing(place, job), what="a slab")
        assert place.queue.cancel(job).state == State.CANCELLING
        wait_for(lambda: place.queue.get(job).state == State.CANCELLED, 600, "the job's end")
    assert not stored(place)


@pytest.mark.timing
def test_a_runner_that_stops_gives_its_job_back_and_another_goes_on_with_the_same_bits(
    place: Place, cluster: Cluster, wanted: dict[str, bytes]
) -> None:
    job = place.submit()
    with slowly(cluster, 0.3):
        first = place.runner(cluster)
        thread = threading.Thread(target=first.run)
        thread.start()
        wait_for(lambda: computing(place, job), what="a slab")
        first.stop.set()
        thread.join(600)
        assert not thread.is_alive(), "it stops"
    found = place.queue.get(job)
    assert (found.state, found.attempts, found.owner) == (State.ACCEPTED, 0, None)
    assert found.slabs > 0
    assert not stored(place)
    assert place.runner(cluster, "b").run_one()
    found = place.queue.get(job)
    assert found.state == State.SUCCEEDED
    assert bits(place.store, "small") == wanted


@pytest.mark.timing
def test_a_runner_that_dies_is_followed_by_another_which_goes_on(
    place: Place, cluster: Cluster, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = place.submit()
    real = JobObserver._show

    def show(self: Any, progress: Any) -> None:
        real(self, progress)
        if progress.state.cursor == 5 and self.lease.owner == "a":
            raise SystemExit  # nothing of the runner's own is done any more

    monkeypatch.setattr(JobObserver, "_show", show)
    with pytest.raises(SystemExit):
        place.runner(cluster).run_one()
    assert place.queue.get(job).state == State.RUNNING
    assert place.runner(cluster, "b").run_one() is False, "not before the lease has run out"
    expire(place.engine, job)
    assert place.runner(cluster, "b").run_one()
    assert place.queue.get(job).state == State.SUCCEEDED
    assert bits(place.store, "small") == wanted


@pytest.mark.timing
def test_a_runner_whose_job_was_taken_over_commits_nothing(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(place, cluster, monkeypatch).check()


@pytest.mark.timing
def test_a_runner_that_learns_of_the_loss_by_its_heartbeat_stops(place: Place, cluster: Cluster) -> None:
    job = place.submit()
    with slowly(cluster, 0.3), Beside(place.runner(cluster)):
        wait_for(lambda: computing(place, job), what="a slab")
        lease = None
        while lease is None:  # unless its heartbeat comes between
            expire(place.engine, job)
            lease = place.queue.claim("b")
    assert not stored(place)
    place.queue.check(lease)
    assert place.queue.get(job).owner == "b"


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_job_that_the_disk_has_no_room_for_is_refused(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 65 * 2**20))
    _, cause = failed(place, cluster, place.submit(copy_parameters=True))
    assert cause["kind"] == "disk-space"
    assert "65 MiB are free" in cause["message"]
    assert "copy: false" in cause["hint"]
    assert not stored(place)
    assert not list((place.store / "runs").glob("*")), "nothing was written"


def test_disk_that_another_job_has_reserved_is_not_free(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.submit("other")
    lease = place.queue.claim("b")
    assert lease is not None
    job = place.submit(copy_parameters=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 200 * 2**20))
    place.queue.reserve(lease, 150 * 2**20)
    _, cause = failed(place, cluster, job)
    assert cause["kind"] == "disk-space"
    assert "150 MiB are reserved" in cause["message"]
    place.queue.succeed(lease, {})
    again = place.submit(copy_parameters=True)
    assert place.runner(cluster).run_one()
    assert place.queue.get(again).state == State.SUCCEEDED


@pytest.mark.timing
@pytest.mark.parametrize(
    ("error", "state", "kind"),
    [
        (RuntimeError("secret detail"), State.ACCEPTED, "internal"),
        (MemoryError(), State.FAILED, "out-of-memory"),
        (TryAgain("disk-full", "the disk is full", hint="Free some."), State.ACCEPTED, "disk-full"),
        (TryAgain("no-workers", "no dask worker", hint="Start some."), State.FAILED, "no-workers"),
    ],
)
def test_what_may_pass_is_tried_again_and_what_may_not_is_not(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, error: Exception, state: State, kind: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(runner_module, "run_analysis", fail)
    job = place.submit()
    assert place.runner(cluster).run_one()
    found = place.queue.get(job)
    assert (found.state, (found.cause or {}).get("kind")) == (state, kind)
    assert "secret detail" not in str(found.cause)
    if state == State.ACCEPTED:
        assert found.not_before > found.updated


def test_a_job_for_more_memory_than_the_runner_may_use_is_left_alone(place: Place, cluster: Cluster) -> None:
    job = place.submit(memory=2**33)
    assert place.runner(cluster).run_one() is False
    assert place.queue.get(job).state == State.ACCEPTED


def test_a_memory_budget_that_is_too_small_fails_the_job_and_says_what_would_do(place: Place, cluster: Cluster) -> None:
    _, cause = failed(place, cluster, place.submit(memory=2**20))
    assert cause["kind"] == "memory-budget"
    assert "MiB" in cause["hint"]


def test_options_of_a_job_do_not_depend_on_the_machine(place: Place) -> None:
    spec = place.spec()
    assert options_of(spec) == options_of(spec).with_(threads=2, memory=spec.memory)
