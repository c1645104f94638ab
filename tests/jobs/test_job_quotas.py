"""Quotas of the queue, on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from job_making import add_token, alter, claim, expire, make_spec, put
from sqlalchemy import Engine

from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Quota, QuotaExceeded
from trajsvc.jobs.states import State

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
        barrier.wait(600)
        try:
            return submit(JobQueue(engine), f"run{number}", mine, quota)
        except QuotaExceeded:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 3
    assert queue.counts()["accepted"] == 3
