"""The queue's contract, on both databases: one job for the same work, leases, fences, attempts, quotas, events."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from job_making import add_token, alter, claim, claim_all, due, expire, make_spec, put, submit_many, together
from sqlalchemy import Engine

from trajsvc.errors import NotFound, UsageError
from trajsvc.jobs.failures import cause_of
from trajsvc.jobs.queue import ATTEMPTS, BACKOFF, JobQueue
from trajsvc.jobs.records import Lease, LeaseLost, Quota, QuotaExceeded
from trajsvc.jobs.states import FINAL, State

CAUSE = cause_of(UsageError("bad-thing", "it is bad", hint="Do better."))


def states(queue: JobQueue, job: str) -> list[str]:
    """The states that a job's events tell."""
    return [str(e.data["state"]) for e in queue.events(job) if e.kind == "state"]


# -- the same work is one job -------------------------------------------------------------------------------------------


def test_what_is_submitted_waits_in_the_queue(queue: JobQueue) -> None:
    spec = make_spec("nano", heads=4, pins={"main": "abc"})
    job, new = queue.submit(spec, spec.digest(), priority=3)
    assert new
    assert (job.state, job.run, job.spec, job.digest) == (State.ACCEPTED, "nano", spec, spec.digest())
    assert (job.priority, job.memory, job.attempts, job.fence, job.cancel) == (3, spec.memory, 0, 0, False)
    assert abs(job.created - time.time()) < 60
    assert queue.get(job.id) == job
    assert states(queue, job.id) == ["accepted"]


def test_the_same_work_is_the_same_job_while_it_waits_runs_and_when_it_has_succeeded(queue: JobQueue) -> None:
    spec = make_spec()
    job = put(queue)
    assert queue.submit(spec, spec.digest())[1] is False
    lease = claim(queue)
    found, new = queue.submit(spec, spec.digest())
    assert (found.id, found.state, new) == (job.id, State.RUNNING, False)
    queue.succeed(lease, {"run": "run"})
    found, new = queue.submit(spec, spec.digest())
    assert (found.id, found.state, found.result, new) == (job.id, State.SUCCEEDED, {"run": "run"}, False)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_the_same_work_is_a_new_job_once_the_old_one_has_failed_or_was_cancelled(queue: JobQueue, how: str) -> None:
    old = put(queue)
    if how == "failed":
        queue.fail(claim(queue), CAUSE, again=False)
    else:
        queue.cancel(old.id)
    new = put(queue)
    assert new.id != old.id
    assert queue.get(old.id).state == State(how)
    assert claim(queue).job.id == new.id


def test_an_idempotency_key_gives_the_job_that_it_gave_whatever_has_become_of_it(queue: JobQueue) -> None:
    job = put(queue, key="k", request="body 1")
    spec = make_spec()
    queue.fail(claim(queue), CAUSE, again=False)
    found, new = queue.submit(spec, spec.digest(), key="k", request="body 1")
    assert (found.id, found.state, new) == (job.id, State.FAILED, False)


def test_an_idempotency_key_used_for_another_request_is_a_conflict(queue: JobQueue) -> None:
    put(queue, key="k", request="body 1")
    other = make_spec("other")
    with pytest.raises(UsageError) as caught:
        queue.submit(other, other.digest(), key="k", request="body 2")
    assert caught.value.kind == "idempotency-conflict"
    assert len(queue.jobs()) == 1


def test_idempotency_keys_of_two_tokens_are_two_keys(queue: JobQueue, engine: Engine) -> None:
    one, two = add_token(engine, "t1"), add_token(engine, "t2")
    first = put(queue, "a", key="k", request="1", token=one)
    second = put(queue, "b", key="k", request="2", token=two)
    third = put(queue, "c", key="k", request="3")
    assert len({first.id, second.id, third.id}) == 3


def test_a_key_for_work_that_another_has_submitted_leads_to_that_job(queue: JobQueue) -> None:
    job, spec = put(queue), make_spec()
    assert [queue.submit(spec, spec.digest(), key="k", request="1") for _ in range(2)] == [(job, False)] * 2


# -- who is next --------------------------------------------------------------------------------------------------------


@pytest.mark.timing
def test_the_highest_priority_comes_first_then_the_first_submitted(queue: JobQueue) -> None:
    for name, priority in (("low", -1), ("old", 0), ("young", 0), ("urgent", 5)):
        put(queue, name, priority=priority)
    assert [claim(queue).job.run for _ in range(4)] == ["urgent", "old", "young", "low"]
    assert queue.claim("a") is None


def test_a_job_that_needs_more_memory_is_left_to_others(queue: JobQueue) -> None:
    put(queue, "large", choices={"memory": 2**40}, priority=9)
    put(queue, "small", choices={"memory": 2**28})
    assert claim(queue, memory=2**28).job.run == "small"
    assert queue.claim("a", memory=2**28) is None
    assert claim(queue, memory=2**40).job.run == "large"


def test_two_jobs_on_one_run_are_not_run_at_once(queue: JobQueue, engine: Engine) -> None:
    put(queue, "one", choices={"precision": "float32"})
    put(queue, "one", choices={"precision": "float64"})
    put(queue, "two", priority=-1)
    first, second = claim(queue), claim(queue)
    assert (first.job.run, second.job.run) == ("one", "two")
    assert queue.claim("a") is None
    queue.cancel(first.job.id)
    assert queue.claim("a") is None, "what is being cancelled holds its run still"
    queue.cancelled(first)
    assert claim(queue).job.run == "one"


@pytest.mark.timing
def test_a_lost_job_does_not_hold_its_run(queue: JobQueue, engine: Engine) -> None:
    put(queue, "one", choices={"precision": "float32"})
    first = claim(queue)
    put(queue, "one", choices={"precision": "float64"}, priority=1)
    expire(engine, first.job.id)
    assert claim(queue, "b").job.priority == 1
    assert queue.claim("c") is None, "and is not taken over while the other has the run"


class Slow(JobQueue):
    """A claim that has chosen its job and takes a moment to say so."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.chosen = threading.Event()

    def _next(self, *arguments: Any) -> Any:
        found = super()._next(*arguments)
        self.chosen.set()
        time.sleep(0.5)
        return found


def beside_a_slow_claim(engine: Engine, quota: Quota | None = None) -> tuple[Lease | None, Lease | None]:
    """What two claims get of which the second begins when the first has chosen."""
    slow = Slow(engine)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slow.claim, "slow", quota=quota)
        assert slow.chosen.wait(120)
        return JobQueue(engine).claim("quick", quota=quota), first.result()


@pytest.mark.timing
def test_two_claims_at_once_do_not_get_two_jobs_of_one_run(queue: JobQueue, engine: Engine) -> None:
    for precision in ("float32", "float64"):
        put(queue, "one", choices={"precision": precision})
    assert sum(lease is not None for lease in beside_a_slow_claim(engine)) == 1


@pytest.mark.timing
def test_two_claims_at_once_do_not_exceed_the_running_quota(queue: JobQueue, engine: Engine) -> None:
    token = add_token(engine)
    for run in "ab":
        put(queue, run, token=token)
    assert sum(lease is not None for lease in beside_a_slow_claim(engine, Quota(running=1))) == 1


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
        late.done.result(120)
    assert queue.get(lease.job.id).state == State.SUCCEEDED
    told = states(queue, lease.job.id)
    assert told[-1] == "succeeded", told


@pytest.mark.timing
def test_a_cancel_beside_a_claim_ends_cancelled_or_cancelling(queue: JobQueue, engine: Engine) -> None:
    job = put(queue)
    late = Interrupted(engine, lambda: queue.claim("b"))
    with late.pool:
        late.cancel(job.id)
        lease = late.done.result(120)
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


# -- quotas -------------------------------------------------------------------------------------------------------------


def submit(queue: JobQueue, run: str, token: str | None, quota: Quota) -> bool:
    spec = make_spec(run)
    return queue.submit(spec, spec.digest(), token=token, quota=quota)[1]


def test_a_token_may_have_so_many_jobs_in_the_queue(queue: JobQueue, engine: Engine) -> None:
    mine, other, quota = add_token(engine, "t1"), add_token(engine, "t2"), Quota(queued=2)
    assert all(submit(queue, run, mine, quota) for run in "ab")
    with pytest.raises(QuotaExceeded) as caught:
        submit(queue, "c", mine, quota)
    assert caught.value.kind == "quota-queued"
    assert caught.value.after > 0
    assert submit(queue, "a", mine, quota) is False, "the same work takes no more of the queue"
    assert submit(queue, "c", other, quota)
    claim(queue)
    assert submit(queue, "d", mine, quota)


@pytest.mark.timing
def test_a_token_may_submit_so_many_jobs_in_a_minute(queue: JobQueue, engine: Engine) -> None:
    mine, quota = add_token(engine), Quota(per_minute=3)
    for run in "abc":
        assert submit(queue, run, mine, quota)
    oldest = queue.jobs()[-1]
    alter(engine, oldest.id, created=oldest.created - 40)
    with pytest.raises(QuotaExceeded) as caught:
        submit(queue, "d", mine, quota)
    assert caught.value.kind == "quota-rate"
    assert caught.value.after == pytest.approx(20, abs=5)
    assert "20 s" in caught.value.hint or "19 s" in caught.value.hint
    alter(engine, oldest.id, created=oldest.created - 61)
    assert submit(queue, "d", mine, quota)


def test_a_token_may_have_so_many_jobs_running(queue: JobQueue, engine: Engine) -> None:
    mine, other, quota = add_token(engine, "t1"), add_token(engine, "t2"), Quota(running=1)
    for run, token in (("a", mine), ("b", mine), ("c", other), ("d", None), ("e", None)):
        put(queue, run, token=token)
    first = claim(queue, quota=quota)
    rest = [claim(queue, quota=quota).job.run for _ in range(3)]
    assert {first.job.run, *rest} >= {"c", "d", "e"}
    assert len({first.job.run, *rest} & {"a", "b"}) == 1
    assert queue.claim("a", quota=quota) is None
    running = next(j for j in queue.jobs(states=[State.RUNNING]) if j.token == mine)
    expire(engine, running.id)
    assert claim(queue, quota=quota).job.token == mine, "a lost job counts no more"


@pytest.mark.timing
def test_submissions_at_once_do_not_exceed_the_quota(queue: JobQueue, engine: Engine) -> None:
    mine, quota = add_token(engine), Quota(queued=3)
    barrier = threading.Barrier(8)

    def ask(number: int) -> bool:
        barrier.wait(120)
        try:
            return submit(JobQueue(engine), f"run{number}", mine, quota)
        except QuotaExceeded:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 3
    assert queue.counts()["accepted"] == 3


# -- looking ------------------------------------------------------------------------------------------------------------


def test_events_are_numbered_without_gaps_and_can_be_read_again_from_any_number(
    queue: JobQueue, engine: Engine
) -> None:
    job = put(queue)
    put(queue, "other")
    lease = next(lease for lease in (claim(queue), claim(queue)) if lease.job.id == job.id)
    for k in range(20):
        queue.heartbeat(lease, progress={"bytes": k}, waiting="a worker" if k % 5 == 0 else None)
    queue.succeed(lease, {"run": "run"})
    events = queue.events(job.id)
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert queue.get(job.id).events == len(events)
    assert [e.data["bytes"] for e in events if e.kind == "progress"] == list(range(20))
    assert events[-1].data == {"state": "succeeded", "result": {"run": "run"}}
    for k in (0, 1, 7, len(events)):
        assert queue.events(job.id, after=k) == events[k:]
    assert queue.events(job.id, after=3, limit=4) == events[3:7]


@pytest.mark.timing
def test_pages_of_jobs_lose_none_and_repeat_none_though_new_ones_come(queue: JobQueue, engine: Engine) -> None:
    made = [put(queue, f"run{k}").id for k in range(120)]
    seen: list[str] = []
    before = None
    while page := queue.jobs(before=before, limit=25):
        seen += [job.id for job in page]
        before = page[-1].sequence
        put(queue, f"later{len(seen)}")
    assert seen == made[::-1]
    assert len(queue.jobs(limit=200)) == 125


@pytest.mark.timing
def test_jobs_are_found_by_state_run_and_family(queue: JobQueue) -> None:
    put(queue, "a", choices={"family": "pythia"})
    b = put(queue, "b", choices={"family": "olmo"})
    put(queue, "c")
    queue.cancel(b.id)
    assert [j.run for j in queue.jobs()] == ["c", "b", "a"]
    assert [j.run for j in queue.jobs(states=[State.CANCELLED])] == ["b"]
    assert [j.run for j in queue.jobs(states=[State.ACCEPTED, State.CANCELLED], family="olmo")] == ["b"]
    assert [j.run for j in queue.jobs(family="pythia")] == ["a"]
    assert [j.run for j in queue.jobs(run="c")] == ["c"]
    assert queue.counts() == {**dict.fromkeys(map(str, State), 0), "accepted": 2, "cancelled": 1}
    queue.alive()


# -- many at once -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timing
def test_threads_claim_every_job_exactly_once(queue: JobQueue, engine: Engine) -> None:
    made = {put(queue, f"run{k}").id for k in range(200)}
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        found = [pair for part in pool.map(lambda n: claim_all(engine, n), range(8)) for pair in part]
    assert Counter(job for job, _ in found) == Counter(made)
    assert {fence for _, fence in found} == {1}
    assert time.monotonic() - begun < 300


@pytest.mark.slow
@pytest.mark.timing
def test_two_doors_make_one_job_of_each_work_however_often_it_is_submitted(
    queue: JobQueue, engine: Engine, database: str
) -> None:
    begun = time.monotonic()
    found = [row for (rows,) in together(submit_many, database, 2, 500, 60) for row in rows]
    assert time.monotonic() - begun < 300
    assert len(found) == 1000
    assert len({(digest, job) for digest, job, _ in found}) == len({digest for digest, _, _ in found}) == 60
    assert sum(new for _, _, new in found) == 60
    assert len(queue.jobs(limit=1000)) == 60


@pytest.mark.slow
@pytest.mark.timing
def test_four_processes_claim_every_job_exactly_once(queue: JobQueue, engine: Engine, database: str) -> None:
    made = {put(queue, f"run{k}").id for k in range(100)}
    begun = time.monotonic()
    found = [pair for (pairs,) in together(claim_all, database, 4) for pair in pairs]
    assert time.monotonic() - begun < 300
    assert Counter(job for job, _ in found) == Counter(made)
    assert {fence for _, fence in found} == {1}
    assert queue.counts()["running"] == 100
