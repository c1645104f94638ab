"""A job on the Hub stays on the commits that it was submitted for, wherever its branches are by the time it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from hub_repos import Revision
from hub_runs import safetensors, state, steps_repo
from hub_server import HubServer

from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.options import options_of
from trajsvc.jobs.sources import open_job_source, pins_of
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import Kind
from trajsvc.results.run import open as open_run

SOURCE = "hf://local/run"
Hubs = Callable[..., HubServer]


def spec(store: Path) -> JobSpec:
    made = JobSpec(kind=Kind.TRAJECTORY, run="run", source=SOURCE, memory=2**28)
    return made.model_copy(update={"pins": pins_of(made, Roots({}), store)})


def analysed(job: JobSpec, store: Path) -> np.ndarray:
    source = open_job_source(job, Roots({}), store)
    try:
        run_analysis(AnalysisJob(source, store, "run", options_of(job), ThreadPool(2)))
    finally:
        source.close()
    return open_run(store, "run").stored.block_grams()


def test_a_branch_that_moves_does_not_move_the_job(hubs: Hubs, tmp_path: Path) -> None:
    repo = steps_repo("local/run", [0, 10, 20])
    hubs(repo)
    job = spec(tmp_path / "a")
    assert job.pins["step10"] == repo.heads["step10"].id
    before = analysed(job, tmp_path / "a")
    repo.move("step10", Revision({"model.safetensors": safetensors(state(99))}))
    repo.move("step30", Revision({"model.safetensors": safetensors(state(30))}))
    assert np.array_equal(analysed(job, tmp_path / "b"), before)
    now = spec(tmp_path / "c")
    assert now.digest() != job.digest(), "the repository is another: that is other work"
    assert analysed(now, tmp_path / "c").shape[1] == 4
