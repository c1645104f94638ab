"""While a job runs its run can be read as an estimate that sharpens; then there is the run itself, and nothing of the estimate."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from takeover import Place

from api.open_runs import RunCache
from storage_schema.runs.store import RunStore
from trajsvc.analysis import live_estimate
from trajsvc.errors import NotFound
from trajsvc.gram.engine import Progress
from trajsvc.jobs.states import Kind, State
from trajsvc.results.run import Run
from workers import job_observer
from workers.cluster import Cluster
from workers.job_observer import JobObserver


@pytest.fixture(scope="module")
def cluster() -> Any:
    made = Cluster(workers=2)
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = Place.make(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture(autouse=True)
def at_every_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates are shown after every slab, however little is left."""
    monkeypatch.setattr(job_observer, "ESTIMATE_SECONDS", 0.0)
    monkeypatch.setattr(job_observer, "LEAST_LEFT", -1.0)
    monkeypatch.setattr(job_observer, "BETWEEN", 0.0)


def watching(monkeypatch: pytest.MonkeyPatch, look: Any) -> None:
    """Calls ``look(cursor)`` after every slab of a job."""
    real = JobObserver._show

    def show(self: JobObserver, progress: Progress) -> None:
        real(self, progress)
        look(progress.state.cursor)

    monkeypatch.setattr(JobObserver, "_show", show)


@pytest.mark.timing
@pytest.mark.slow
def test_a_running_job_is_read_as_an_estimate_that_sharpens(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = RunCache(place.store)
    seen: list[tuple[float, str, np.ndarray, float]] = []

    def look(cursor: int) -> None:
        try:
            run = book.open("small")
        except NotFound:
            return
        assert book.names() == ["small"]
        assert run.estimate is not None
        error = run.standard_error("mds")
        assert error is not None
        seen.append((run.estimate["fraction"], run.stored.digest, run.gram().gram, float(error)))

    watching(monkeypatch, look)
    job = place.submit()
    assert place.runner(cluster).run_one()
    assert place.queue.get(job).state == State.SUCCEEDED
    fractions = [s[0] for s in seen]
    assert len(set(fractions)) > 3
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 0.2
    assert len({s[1] for s in seen}) == len(set(fractions)), "another estimate, another digest"
    exact = book.open("small")
    assert exact.estimate is None
    assert RunStore(place.store).open("small").generation == 1
    assert RunStore(place.store).live.names() == ()
    far = [np.linalg.norm(s[2] - exact.gram().gram) / np.linalg.norm(exact.gram().gram) for s in seen]
    assert far[-1] < far[0] / 2
    assert far[0] < 0.05
    assert seen[-1][3] < seen[0][3], "the error shrinks"
    told = [e.data["estimate"] for e in place.queue.events(job) if e.kind == "progress" and "estimate" in e.data]
    assert told
    assert told == sorted(told)


@pytest.mark.slow
def test_an_exact_run_is_not_hidden_by_the_estimate_of_its_recomputation(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.submit()
    assert place.runner(cluster).run_one()
    book = RunCache(place.store)
    kinds = []
    watching(monkeypatch, lambda cursor: kinds.append(book.open("small").estimate))
    place.submit(recompute=True)
    assert place.runner(cluster).run_one()
    assert kinds
    assert set(kinds) == {None}
    assert RunStore(place.store).live.names() == ()


def test_of_a_cancelled_job_no_estimate_stays(place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    job = place.submit()
    book = RunCache(place.store)
    there = []

    def look(cursor: int) -> None:
        there.append("small" in book.names())
        if cursor == 8:
            place.queue.cancel(job)

    watching(monkeypatch, look)
    assert place.runner(cluster, heartbeat=0.01).run_one()
    assert any(there)
    if place.queue.get(job).state == State.CANCELLED:
        with pytest.raises(NotFound, match="no run 'small'"):
            book.open("small")
    else:  # it was done before it heard of it
        assert book.open("small").estimate is None


def test_an_estimate_that_cannot_be_written_is_no_fault_of_the_job(place: Place, cluster: Cluster) -> None:
    place.store.mkdir()
    (place.store / "live").write_text("in the way")
    job = place.submit()
    assert place.runner(cluster).run_one()
    assert place.queue.get(job).state == State.SUCCEEDED
    assert RunCache(place.store).open("small").estimate is None


@pytest.mark.slow
def test_a_large_run_that_is_copied_first_is_sampled_before(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_observer, "LARGE", 1)
    book = RunCache(place.store)
    early: list[Run] = []
    real = JobObserver.copied

    def copied(self: JobObserver, done: int, total: int) -> None:
        real(self, done, total)
        early.append(book.open("small"))

    monkeypatch.setattr(JobObserver, "copied", copied)
    place.submit(kind=Kind.INGEST)
    assert place.runner(cluster).run_one()
    assert early
    assert early[0].estimate is not None
    assert 0 < early[0].estimate["fraction"] < 0.2
    exact = book.open("small")
    assert exact.estimate is None
    want = float(exact.mds())
    error = early[0].standard_error("mds")
    assert error is not None
    assert abs(float(early[0].mds()) - want) < 6 * float(error) + 1e-3
    assert RunStore(place.store).open("small").has_theta


def test_a_preview_may_be_sharpened_and_gives_way_to_the_run(place: Place, cluster: Cluster) -> None:
    place.submit(preview=0.01)
    assert place.runner(cluster).run_one()
    book = RunCache(place.store)
    first = book.open("small")
    assert first.estimate is not None
    assert live_estimate.may_show(place.store, "small")
    place.submit()
    assert place.runner(cluster).run_one()
    assert book.open("small").estimate is None


@pytest.mark.slow
@pytest.mark.timing
def test_readers_never_see_half_an_estimate(place: Place, cluster: Cluster) -> None:
    """An estimate is replaced, taken away and committed while others read: there is none, or a whole one."""
    place.submit(preview=0.01)
    assert place.runner(cluster).run_one()
    store = RunStore(place.store)
    contents, book, over = store.open("small").contents(), RunCache(place.store), threading.Event()
    store.remove("small")
    found: list[str] = []

    def read() -> None:
        while not over.wait(0.005):
            try:
                run = book.open("small")
                assert np.isfinite(run.gram().gram).all()
                assert run.left_out() is not None
                found.append(run.stored.digest)
            except NotFound:
                found.append("none")

    with ThreadPoolExecutor(3) as readers:
        reading = [readers.submit(read) for _ in range(3)]
        for _ in range(5):
            for _ in range(3):
                with store.live.writer("small") as writer:
                    writer.commit(contents, theta="drop")
            live_estimate.clear(place.store, "small")
        over.set()
        for each in reading:
            each.result()
    assert {"none"} < set(found)
