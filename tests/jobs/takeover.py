"""The scenario behind the fence: a runner that slept past its lease comes back to a job that another has taken over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dask_making import SMALL, generation, make_run
from job_making import expire, make_spec
from sqlalchemy import Engine

from trajsvc.gram.engine import Progress
from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.database import connect
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Lease
from trajsvc.jobs.spec import JobSpec
from workers.cluster import Cluster
from workers.job_observer import JobObserver, RunnerSettings
from workers.runner import Runner


@dataclass
class Place:
    """A store, a data root with the run ``small``, and the queue of one test."""

    folder: Path
    engine: Engine

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def queue(self) -> JobQueue:
        return JobQueue(self.engine)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @classmethod
    def make(cls, folder: Path, steps: int = 6) -> Place:
        make_run(folder / "data" / "small", steps=steps)
        return cls(folder, connect(f"sqlite:///{folder / 'jobs.db'}"))

    def spec(self, run: str = "small", **choices: Any) -> JobSpec:
        return make_spec(run, **{"source": "runs:small", "memory": SMALL, **choices})

    def submit(self, run: str = "small", **choices: Any) -> str:
        spec = self.spec(run, **choices)
        job, new = self.queue.submit(spec, spec.digest())
        assert new
        return job.id

    def runner(self, cluster: Cluster, name: str = "a", queue: JobQueue | None = None, **choices: Any) -> Runner:
        roots = Roots({"runs": self.data})
        settings = RunnerSettings(self.store, roots, **{"heartbeat": 0.2, "patience": 20.0, **choices})
        return Runner(queue or self.queue, cluster, settings, name)


@dataclass(frozen=True)
class Facts:
    """What a takeover led to."""

    by_the_late_runner: int
    """commits of the runner that had lost its lease"""
    commits: int
    """commits of both"""
    successes: int
    """how often the job was said to have succeeded"""

    def check(self) -> None:
        """What must hold whenever a job is taken over."""
        assert self.by_the_late_runner == 0, "a runner without the lease committed"
        assert self.commits == 1, "one job was committed more than once"
        assert self.successes == 1, "one job succeeded more than once"


class _Given(JobQueue):
    """A queue that gives one lease, and then none."""

    def __init__(self, engine: Engine, lease: Lease) -> None:
        super().__init__(engine)
        self.left = [lease]

    def claim(self, *_: Any, **__: Any) -> Lease | None:
        return self.left.pop() if self.left else None


def take_over(place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Facts:
    """The run is stored; a job computes it again, and loses its lease to another runner right before it would commit."""
    place.submit()
    assert place.runner(cluster).run_one()
    before = generation(place.store, "small")
    job = place.submit(recompute=True)
    leases: list[Lease] = []
    real = JobObserver._show

    def show(self: JobObserver, progress: Progress) -> None:
        real(self, progress)
        if progress.state.exact and not leases:
            expire(place.engine, job)
            lease = place.queue.claim("the other")
            assert lease is not None
            assert lease.job.id == job
            leases.append(lease)

    monkeypatch.setattr(JobObserver, "_show", show)
    # Its heartbeat would notice the loss sooner: here only the fence before the commit is left.
    assert place.runner(cluster, "the late one", heartbeat=1000.0).run_one()
    late = generation(place.store, "small") - before
    assert leases, "the job was not taken over"
    assert place.runner(cluster, "the other", _Given(place.engine, leases[0])).run_one()
    told = [e.data.get("state") for e in place.queue.events(job)]
    return Facts(late, generation(place.store, "small") - before, told.count("succeeded"))
