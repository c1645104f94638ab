"""Leases of the queue, on both databases: heartbeats, fences, attempts, and cancels beside other changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from job_making import alter, claim, due, expire, put
from queue_facts import CAUSE, states
from sqlalchemy import Engine

from trajsvc.errors import NotFound
from trajsvc.jobs.queue import ATTEMPTS, BACKOFF, JobQueue
from trajsvc.jobs.records import Lease, LeaseLost
from trajsvc.jobs.states import FINAL, State

# -- leases and fences --------------------------------------------------------------------------------------------------


def test_a_claim_raises_the_fence_and_says_who_has_the_job(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    begun: set[float | None] = set()
    for number, owner in enumerate("abc", 1):
        lease = claim(queue, owner, lease=7.0)
        found = queue.get(job.id)
        assert (lease.fence, lease.owner, lease.job.id) == (number, owner, job.id)
        assert (found.state, found.owner, found.fence, found.attempts) == (State.RUNNING, owner, number, number)
        assert found.lease_until is not None
        assert found.lease_until - found.updated == pytest.approx(7.0, abs=0.1)
        begun.add(found.started)
        expire(engine, job.id)
    assert len(begun) == 1, "started with the first attempt, and only then"


@pytest.mark.timing
def test_a_heartbeat_renews_the_lease_and_tells_the_progress(queue: JobQueue, engine: Engine) -> None:
    put(queue)
    lease = claim(queue)
    alter(engine, lease.job.id, lease_until=0.0)
    assert queue.heartbeat(lease, progress={"bytes": 5}, slabs=2, length=20.0) is False
    found = queue.get(lease.job.id)
    assert (found.progress, found.slabs) == ({"bytes": 5}, 2)
    assert found.lease_until is not None
    assert found.lease_until - found.updated == pytest.approx(20.0, abs=0.1)
    assert queue.heartbeat(lease) is False
    assert queue.get(lease.job.id).progress == {"bytes": 5}
    assert queue.claim("b") is None


def test_a_heartbeat_says_why_nothing_goes_on_once(queue: JobQueue) -> None:
    put(queue)
    lease = claim(queue)
    for _ in range(3):
        queue.heartbeat(lease, waiting="no worker")
    assert queue.get(lease.job.id).waiting == "no worker"
    queue.heartbeat(lease)
    assert queue.get(lease.job.id).waiting is None
    told = [e.data for e in queue.events(lease.job.id) if e.kind == "waiting"]
    assert told == [{"reason": "no worker"}]


def test_a_heartbeat_brings_back_that_the_job_is_to_be_cancelled(queue: JobQueue) -> None:
    put(queue)
    lease = claim(queue)
    assert queue.cancel(lease.job.id).state == State.CANCELLING
    assert queue.heartbeat(lease) is True
    queue.check(lease)
    queue.cancelled(lease)
    assert queue.get(lease.job.id).state == State.CANCELLED


WRITES: dict[str, Callable[[JobQueue, Lease], object]] = {
    "heartbeat": lambda q, lease: q.heartbeat(lease, progress={"bytes": 1}, slabs=9),
    "check": lambda q, lease: q.check(lease),
    "reserve": lambda q, lease: q.reserve(lease, 5),
    "succeed": lambda q, lease: q.succeed(lease, {"run": "mine"}),
    "fail": lambda q, lease: q.fail(lease, CAUSE, again=True),
    "give_back": lambda q, lease: q.give_back(lease),
    "cancelled": lambda q, lease: q.cancelled(lease),
}


@pytest.mark.timing
@pytest.mark.parametrize("how", WRITES)
def test_nothing_of_a_runner_whose_lease_was_taken_over_is_written(queue: JobQueue, engine: Engine, how: str) -> None:
    job = put(queue)
    old = claim(queue, "same name")
    expire(engine, job.id)
    new = claim(queue, "same name")
    before, events = queue.get(job.id), queue.events(job.id)
    with pytest.raises(LeaseLost):
        WRITES[how](queue, old)
    assert (queue.get(job.id), queue.events(job.id)) == (before, events)
    queue.check(new)


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("final", sorted(FINAL))
def test_a_final_state_never_changes(queue: JobQueue, engine: Engine, final: State, how: str) -> None:
    job = put(queue)
    lease = claim(queue)
    if final == State.SUCCEEDED:
        queue.succeed(lease, {"run": "run"})
    elif final == State.FAILED:
        queue.fail(lease, CAUSE, again=False)
    else:
        queue.cancelled(lease)
    before, events = queue.get(job.id), queue.events(job.id)
    assert before.state == final
    assert before.finished is not None
    with pytest.raises(LeaseLost):
        WRITES[how](queue, lease)
    assert queue.cancel(job.id) == before
    assert queue.claim("b") is None
    assert (queue.get(job.id), queue.events(job.id)) == (before, events)


@pytest.mark.timing
def test_a_runner_that_held_on_past_its_lease_may_go_on_while_nobody_has_taken_over(
    queue: JobQueue, engine: Engine
) -> None:
    put(queue)
    lease = claim(queue)
    expire(engine, lease.job.id)
    queue.heartbeat(lease)
    assert queue.claim("b") is None
    queue.succeed(lease, {})


def test_a_job_that_was_to_be_cancelled_when_its_runner_died_is_cancelled_by_the_next_claim(
    queue: JobQueue, engine: Engine
) -> None:
    lease = (put(queue), claim(queue))[1]
    queue.cancel(lease.job.id)
    assert queue.claim("b") is None
    assert queue.get(lease.job.id).state == State.CANCELLING
    expire(engine, lease.job.id)
    assert queue.claim("b") is None
    assert queue.get(lease.job.id).state == State.CANCELLED


class Interrupted(JobQueue):
    """A cancel between whose look and whose change something else happens, as far as the database lets it."""

    def __init__(self, engine: Engine, meanwhile: Callable[[], object]) -> None:
        super().__init__(engine)
        self.meanwhile: list[Callable[[], object]] = [meanwhile]
        self.pool = ThreadPoolExecutor(1)
        self.done: Any = None

    def _get(self, connection: Any, job: str, *more: Any, **other: Any) -> Any:
        found = super()._get(connection, job, *more, **other)
        if self.meanwhile:
            self.done = self.pool.submit(self.meanwhile.pop())
            threading.Event().wait(0.4)
        return found


@pytest.mark.timing
def test_a_cancel_beside_a_success_leaves_the_job_succeeded_for_good(queue: JobQueue, engine: Engine) -> None:
    put(queue)
    lease = claim(queue)
    late = Interrupted(engine, lambda: queue.succeed(lease, {"run": "run"}))
    with late.pool:
        late.cancel(lease.job.id)
        late.done.result(600)
    assert queue.get(lease.job.id).state == State.SUCCEEDED
    told = states(queue, lease.job.id)
    assert told[-1] == "succeeded", told


@pytest.mark.timing
def test_a_cancel_beside_a_claim_ends_cancelled_or_cancelling(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    late = Interrupted(engine, lambda: queue.claim("b"))
    with late.pool:
        late.cancel(job.id)
        lease = late.done.result(600)
    if lease is None:
        assert queue.get(job.id).state == State.CANCELLED
    else:
        assert queue.get(job.id).state == State.CANCELLING
        assert queue.heartbeat(lease) is True
    told = states(queue, job.id)
    assert not any(State(s) in FINAL for s in told[:-1]), told


# -- attempts -----------------------------------------------------------------------------------------------------------


def lose(queue: JobQueue, engine: Engine, *slabs: int) -> Lease:
    """A runner takes the job, tells of these slabs, and dies."""
    lease = claim(queue)
    for count in slabs:
        queue.heartbeat(lease, slabs=count)
    expire(engine, lease.job.id)
    return lease


def test_a_job_fails_when_three_runners_in_a_row_died_of_it_without_a_slab(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    for number in range(ATTEMPTS):
        assert lose(queue, engine, 0).job.attempts == number + 1
    assert queue.claim("b") is None
    found = queue.get(job.id)
    assert found.state == State.FAILED
    assert found.cause is not None
    assert found.cause["kind"] == "runner-lost"
    assert put(queue).id != job.id


def fruitless(queue: JobQueue, engine: Engine, *slabs: int) -> int:
    """How many runners that tell of these slabs die before the job fails; ten, where it does not."""
    for count in range(10):
        lease = queue.claim("a")
        if lease is None:
            return count
        for number in slabs:
            queue.heartbeat(lease, slabs=number)
        expire(engine, lease.job.id)
    return 10


def test_a_slab_that_is_done_starts_the_count_of_attempts_again(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    for slabs in range(1, 8):
        lose(queue, engine, slabs)
    assert queue.get(job.id).state == State.RUNNING
    assert fruitless(queue, engine) in (ATTEMPTS - 1, ATTEMPTS)
    assert queue.get(job.id).state == State.FAILED


def test_slabs_that_an_earlier_attempt_had_done_are_no_progress(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    lose(queue, engine, 0, 4)
    # resumed at slab 4 each time, and dead in slab 5: a runner tells 0 when it has planned, then what its journal holds
    assert fruitless(queue, engine, 0, 4) in (ATTEMPTS - 1, ATTEMPTS)
    assert queue.get(job.id).state == State.FAILED


@pytest.mark.timing
def test_a_failed_attempt_is_made_again_later_and_later_and_then_no_more(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    for attempt in range(1, ATTEMPTS):
        assert queue.fail(claim(queue), CAUSE, again=True) == State.ACCEPTED
        found = queue.get(job.id)
        assert found.not_before - found.updated == pytest.approx(BACKOFF**attempt, abs=0.1)
        assert (found.owner, found.lease_until, found.cause) == (None, None, CAUSE)
        assert queue.claim("b") is None, "not before it is due"
        due(engine, job.id)
    assert queue.fail(claim(queue), CAUSE, again=True) == State.FAILED
    assert queue.get(job.id).cause == CAUSE
    assert queue.claim("b") is None


def test_a_failure_that_another_attempt_would_not_mend_is_final_at_once(queue: JobQueue) -> None:
    job = put(queue)
    assert queue.fail(claim(queue), CAUSE, again=False) == State.FAILED
    assert queue.get(job.id).cause == CAUSE


def test_a_job_given_back_has_lost_no_attempt_and_is_free_at_once(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    for number in range(1, 3 * ATTEMPTS):
        lease = claim(queue, str(number))
        assert (lease.job.attempts, lease.fence) == (1, number)
        queue.give_back(lease)
    found = queue.get(job.id)
    assert (found.state, found.attempts, found.owner, found.lease_until) == (State.ACCEPTED, 0, None, None)


@pytest.mark.timing
def test_a_job_given_back_may_be_left_alone_for_a_while_with_a_reason(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    queue.give_back(claim(queue), waiting="the store is busy", pause=60.0, counts=True)
    found = queue.get(job.id)
    assert (found.waiting, found.attempts) == ("the store is busy", 1)
    assert queue.claim("b") is None
    due(engine, job.id)
    assert claim(queue).job.waiting is None


@pytest.mark.parametrize("how", ["fail", "give_back"])
def test_an_attempt_that_ends_while_it_is_to_be_cancelled_is_cancelled(queue: JobQueue, how: str) -> None:
    job = put(queue)
    lease = claim(queue)
    queue.cancel(job.id)
    WRITES[how](queue, lease)
    assert queue.get(job.id).state == State.CANCELLED


def test_a_job_that_waits_is_cancelled_at_once_and_not_run(queue: JobQueue) -> None:
    job = put(queue)
    assert queue.cancel(job.id).state == State.CANCELLED
    assert queue.cancel(job.id).state == State.CANCELLED
    assert queue.claim("a") is None
    assert states(queue, job.id) == ["accepted", "cancelled"]


def test_a_job_that_is_not_there_is_not_found(queue: JobQueue) -> None:
    for ask in (queue.get, queue.cancel):
        with pytest.raises(NotFound) as caught:
            ask("nosuch")
        assert caught.value.kind == "job-not-found"
    assert queue.events("nosuch") == []


def test_what_is_reserved_is_the_sum_of_what_the_others_need(queue: JobQueue, engine: Engine) -> None:
    for run in "abc":
        put(queue, run)
    a, b, c = (claim(queue) for _ in range(3))
    assert [queue.reserve(a, 10), queue.reserve(b, 2**41), queue.reserve(c, 1)] == [0, 10, 10 + 2**41]
    assert queue.reserve(a, 20) == 2**41 + 1
    queue.succeed(b, {})
    expire(engine, c.job.id)
    assert queue.reserve(a, 20) == 0
