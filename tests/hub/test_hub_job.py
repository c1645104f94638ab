"""A job of the service on a repository: estimated before its files are copied, then exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_runs import example
from hub_server import HubServer

import trajsvc
from api.open_runs import RunCache
from storage_schema.runs.store import RunStore
from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.database import connect
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.sources import pins_of
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import Kind, State
from trajsvc.results.run import Run
from workers import job_observer
from workers.cluster import Cluster
from workers.job_observer import JobObserver, RunnerSettings
from workers.runner import Runner

Hubs = Callable[..., HubServer]


@pytest.mark.slow
@pytest.mark.parametrize("cheap", [True, False])
def test_a_large_repository_is_sampled_before_it_is_copied_where_that_is_little(
    hubs: Hubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap: bool
) -> None:
    hubs(example())
    monkeypatch.setattr(job_observer, "LARGE", 1)
    if cheap:
        monkeypatch.setattr(job_observer, "REQUEST", 0)
        monkeypatch.setattr(job_observer, "DEAR", 1)
    early: list[Run] = []
    real = JobObserver.copied

    def copied(self: JobObserver, done: int, total: int) -> None:
        real(self, done, total)
        if RunStore(tmp_path / "store").live.names():
            early.append(RunCache(tmp_path / "store").open("pythia-nano"))

    monkeypatch.setattr(JobObserver, "copied", copied)
    engine = connect(f"sqlite:///{tmp_path / 'jobs.db'}")
    queue, cluster = JobQueue(engine), Cluster(workers=1)
    try:
        spec = JobSpec(kind=Kind.TRAJECTORY, run="pythia-nano", source="hf://local/pythia-nano", memory=2**28)
        spec = spec.model_copy(update={"pins": pins_of(spec, Roots({}), tmp_path / "store")})
        job, _ = queue.submit(spec, spec.digest())
        assert Runner(queue, cluster, RunnerSettings(tmp_path / "store", Roots({})), "a").run_one()
        found = queue.get(job.id)
        assert found.state == State.SUCCEEDED, found.cause
    finally:
        cluster.close()
        engine.dispose()
    stored = RunStore(tmp_path / "store").open("pythia-nano")
    assert stored.has_theta
    assert RunStore(tmp_path / "store").live.names() == ()
    local = trajsvc.analyze("hf://local/pythia-nano", store=tmp_path / "local", memory=2**28)
    assert np.array_equal(stored.block_grams(), local.stored.block_grams())
    if not cheap:
        assert not early
        return
    assert early[0].estimate is not None
    error = early[0].standard_error("mds")
    assert error is not None
    assert abs(float(early[0].mds()) - float(local.mds())) < 6 * float(error) + 1e-3
