"""Jobs of gradients, with a real queue and dask workers: how they end, and what of them stays, whatever happens to them."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_probe
from dask_making import wait_for
from job_making import expire, make_spec

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.gradients.compute import compute_gradients
from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.database import connect
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Job
from trajsvc.jobs.registered import Registered
from trajsvc.jobs.spec import GradientWork
from trajsvc.jobs.states import Kind, State
from trajsvc.settings import RegisteredProbe
from workers import gradient_job
from workers.cluster import Cluster
from workers.job_observer import Limits, RunnerSettings
from workers.runner import Runner

STEPS = [0, 10, 20, 30, 40, 50]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(workers=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``tiny`` in the data root and in the store, and its gradients as they are computed without a service."""
    folder = tmp_path_factory.mktemp("gradients")
    tiny_probe.make_tiny_run(folder / "data" / "tiny")
    trajsvc.analyze(folder / "data" / "tiny", store=folder / "store", threads=1)
    tiny_probe.make_examples(folder / "quick.npz")
    tiny_probe.make_examples(folder / "slow.npz", seconds=0.05)
    shutil.copytree(folder / "store", folder / "local")
    return folder


class Place:
    """A store with the analysed run, and the queue of one test."""

    def __init__(self, analysed: Path, folder: Path) -> None:
        self.folder, self.analysed, self.store = folder, analysed, folder / "store"
        shutil.copytree(analysed / "store", self.store)
        shutil.copy(analysed / "quick.npz", folder / "changing.npz")
        self.engine = connect(f"sqlite:///{folder / 'jobs.db'}")
        self.queue = JobQueue(self.engine)
        probes = {"tiny": RegisteredProbe(probe="tiny_probe:Tiny")}
        data = {name: analysed / f"{name}.npz" for name in ("quick", "slow")}
        self.registered = Registered(probes, {**data, "changing": folder / "changing.npz"})

    def submit(self, data: str = "quick", **choices: Any) -> str:
        work = GradientWork(**{"probe": "tiny", "data": data, "examples": 8, "batch": 2, **choices})
        uses = {**self.registered.digests(work), "run": RunStore(self.store).open("tiny").digest}
        spec = make_spec("tiny", kind=Kind.GRADIENTS, gradients=work, uses=uses)
        job, new = self.queue.submit(spec, spec.digest())
        assert new
        return job.id

    def runner(self, cluster: Cluster, name: str = "a", **choices: Any) -> Runner:
        settings = RunnerSettings(
            self.store, Roots({"runs": self.analysed / "data"}), registered=self.registered,
            **{"heartbeat": 0.2, "patience": 30.0, **choices},
        )  # fmt: skip
        return Runner(self.queue, cluster, settings, name)

    def done(self, job: str) -> Job:
        found = self.queue.get(job)
        assert found.state == State.SUCCEEDED, found.cause
        return found

    def stored(self, name: str = "example") -> list[int]:
        """Steps of a set that are stored."""
        sets = RunStore(self.store).open("tiny").gradients
        return sets.open(name).steps if name in sets.names() else []

    def bits(self, name: str) -> dict[int, bytes]:
        return bits(self.store, name)

    def left(self) -> list[Path]:
        """Files of unfinished work."""
        return list((self.store / "work").rglob("*.slab"))


def bits(store: Path, name: str) -> dict[int, bytes]:
    found = RunStore(store).open("tiny").gradients.open(name)
    return {step: np.asarray(found.record(step).gram).tobytes() for step in found.steps}


@pytest.fixture
def place(analysed: Path, tmp_path: Path) -> Iterator[Place]:
    made = Place(analysed, tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def wanted(analysed: Path) -> dict[str, dict[int, bytes]]:
    """The bits of the sets as one process computes them."""
    options = Registered({"tiny": RegisteredProbe(probe="tiny_probe:Tiny")}, {"quick": analysed / "quick.npz"}).options(
        GradientWork(probe="tiny", data="quick", examples=8, batch=2), 2**28
    )
    compute_gradients(analysed / "local", "tiny", options, by_path=True)
    return {name: bits(analysed / "local", name) for name in ("example", "batch")}


class Beside:
    """A runner that works on one job in a thread."""

    def __init__(self, runner: Runner) -> None:
        self.thread = threading.Thread(target=runner.run_one)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.thread.join(600)
        assert not self.thread.is_alive(), "the runner goes on"


@pytest.mark.slow
def test_a_job_ends_with_the_bits_of_one_process_and_tells_checkpoint_by_checkpoint(
    place: Place, cluster: Cluster, wanted: dict[str, dict[int, bytes]]
) -> None:
    job = place.submit()
    assert place.runner(cluster).run_one()
    found = place.done(job)
    assert found.result == {"run": "tiny", "sets": ["example", "batch"], "new_steps": STEPS, "there": []}
    assert {name: place.bits(name) for name in wanted} == wanted
    assert found.slabs == len(STEPS)
    last = [e.data for e in place.queue.events(job) if e.kind == "progress"][-1]
    assert (last["phase"], last["slabs"], last["slabs_total"], last["step"]) == ("computing", 6, 6, 50)
    assert place.left() == []
    run = trajsvc.open(place.store, "tiny")
    assert run.gradients("example").coherence().sizes == {"step": 6}


def test_steps_that_are_stored_are_not_computed_again(place: Place, cluster: Cluster) -> None:
    first = place.submit(steps="first:2")
    assert place.runner(cluster).run_one()
    assert (place.done(first).result or {})["new_steps"] == [0, 10]
    again = place.submit()
    assert place.runner(cluster).run_one()
    result = place.done(again).result or {}
    assert (result["new_steps"], result["there"]) == ([20, 30, 40, 50], [0, 10])


@pytest.mark.timing
def test_a_runner_that_dies_is_followed_by_another_which_goes_on_at_the_next_checkpoint(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, dict[int, bytes]]
) -> None:
    job = place.submit()
    real = gradient_job._Watch.stored

    def stored(self: Any, step: int, done: int, total: int) -> None:
        real(self, step, done, total)
        if done == 3 and self.lease.owner == "a":
            raise SystemExit  # nothing of the runner's own is done any more

    monkeypatch.setattr(gradient_job._Watch, "stored", stored)
    with pytest.raises(SystemExit):
        place.runner(cluster).run_one()
    assert place.stored() == STEPS[:3]
    expire(place.engine, job)
    assert place.runner(cluster, "b").run_one()
    result = place.done(job).result or {}
    assert (result["new_steps"], result["there"]) == (STEPS[3:], STEPS[:3])
    assert {name: place.bits(name) for name in wanted} == wanted
    assert place.left() == []


@pytest.mark.timing
def test_a_runner_whose_job_was_taken_over_stores_nothing_more(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = place.submit()
    real = gradient_job._Watch.stored

    def stored(self: Any, step: int, done: int, total: int) -> None:
        real(self, step, done, total)
        if done == 2:
            expire(place.engine, job)
            assert place.queue.claim("the other") is not None

    monkeypatch.setattr(gradient_job._Watch, "stored", stored)
    # Its heartbeat would notice the loss sooner: here only the fence before each checkpoint is left.
    assert place.runner(cluster, "the late one", heartbeat=1000.0).run_one()
    assert place.stored() == STEPS[:2]
    found = place.queue.get(job)
    assert (found.state, found.owner) == (State.RUNNING, "the other")


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_job_whose_workers_are_killed_goes_on(
    place: Place, cluster: Cluster, wanted: dict[str, dict[int, bytes]]
) -> None:
    job = place.submit("slow")
    with Beside(place.runner(cluster)):
        wait_for(place.stored, what="a checkpoint")
        for pid in cluster.client().run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)
    found = place.done(job)
    assert found.attempts == 1
    assert place.bits("example").keys() == wanted["example"].keys()
    assert place.left() == []


@pytest.mark.slow
@pytest.mark.timing
def test_a_cancelled_job_stops_between_examples_and_keeps_what_is_stored(
    place: Place, cluster: Cluster, tmp_path: Path
) -> None:
    endless = tiny_probe.make_examples(tmp_path / "endless.npz", count=2000, seconds=0.05)
    place.registered.data["endless"] = endless
    place.submit("slow", steps="first:1")
    assert place.runner(cluster).run_one()
    job = place.submit("endless", examples=512, name="endless")
    with Beside(place.runner(cluster)):
        wait_for(lambda: (place.queue.get(job).progress or {}).get("slabs_total"), what="the plan")
        wait_for(lambda: any(cluster.client().processing().values()), what="a task")
        place.queue.cancel(job)
        wait_for(lambda: place.queue.get(job).state == State.CANCELLED, 600, "the job's end")
    wait_for(lambda: not any(cluster.client().processing().values()), 600, "the end of its tasks")
    assert place.stored() == [0]
    assert place.stored("endless-example") == []


def test_data_that_changed_since_the_submission_fail_the_job_at_once(place: Place, cluster: Cluster) -> None:
    job = place.submit("changing")
    tiny_probe.make_examples(place.folder / "changing.npz", count=9)
    assert place.runner(cluster).run_one()
    found = place.queue.get(job)
    assert (found.state, (found.cause or {})["kind"]) == (State.FAILED, "data-changed")
    assert "changing" in (found.cause or {})["message"]
    assert place.stored() == []


@pytest.mark.parametrize(
    ("choices", "kind"),
    [
        ({"examples": 100}, "too-few-examples"),
        ({"steps": "7"}, "step-not-found"),
        ({"sets": ("batch",), "batch": 9}, "too-few-examples"),
    ],
)
def test_what_cannot_be_computed_fails_with_its_cause(
    place: Place, cluster: Cluster, choices: dict[str, Any], kind: str
) -> None:
    job = place.submit(**choices)
    assert place.runner(cluster).run_one()
    found = place.queue.get(job)
    assert (found.state, (found.cause or {})["kind"], found.attempts) == (State.FAILED, kind, 1)


def test_a_job_of_more_checkpoints_than_the_server_allows_is_refused(place: Place, cluster: Cluster) -> None:
    job = place.submit()
    assert place.runner(cluster, limits=Limits(checkpoints=5)).run_one()
    assert (place.queue.get(job).cause or {})["kind"] == "job-checkpoints"
    assert place.stored() == []
