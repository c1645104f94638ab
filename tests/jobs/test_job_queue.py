"""The queue's contract, on both databases: one job for the same work, claims, events, lists, and many at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from job_making import add_token, claim, claim_all, expire, make_spec, put, submit_many, together
from queue_facts import CAUSE, states
from sqlalchemy import Engine

from trajsvc.errors import UsageError
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Lease, Quota
from trajsvc.jobs.states import State

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
        assert slow.chosen.wait(600)
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
