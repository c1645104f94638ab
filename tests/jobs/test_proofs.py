"""The tests of the fence can fail: without it, what they look for happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from takeover import Place, take_over

from trajsvc.jobs import queue as queue_module
from workers.cluster import Cluster
from workers.job_observer import JobObserver


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place.make(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(workers=1)
    yield made
    made.close()


@pytest.mark.slow
def test_without_the_fence_a_job_that_was_taken_over_is_committed_twice(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_holds", lambda row, lease: True)
    facts = take_over(place, cluster, monkeypatch)
    assert (facts.by_the_late_runner, facts.commits, facts.successes) == (1, 2, 2)
    with pytest.raises(AssertionError, match="without the lease"):
        facts.check()


@pytest.mark.slow
def test_without_the_question_before_the_commit_the_late_runner_commits(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JobObserver, "committing", lambda self: None)
    facts = take_over(place, cluster, monkeypatch)
    assert (facts.by_the_late_runner, facts.commits, facts.successes) == (1, 2, 1)
    with pytest.raises(AssertionError, match="without the lease"):
        facts.check()
