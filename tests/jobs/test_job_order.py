"""The order of jobs is the order of their submission, whatever the clock says: in claims, in the list and its pages."""

from __future__ import annotations

import pytest
from job_making import Clock, add_token, alter, claim, claim_in_order, make_spec, put, submit_in_turn, together
from sqlalchemy import Engine, text

from trajsvc.errors import UsageError
from trajsvc.jobs.failures import cause_of
from trajsvc.jobs.queue import BACKOFF, JobQueue
from trajsvc.jobs.records import Quota, QuotaExceeded
from trajsvc.jobs.tokens import TokenStore

pytestmark = pytest.mark.timing

NAMES = [f"run{k}" for k in range(40)]
CAUSE = cause_of(UsageError("bad-thing", "it is bad", hint="Do better."))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(engine: Engine, clock: Clock) -> JobQueue:
    return JobQueue(engine, clock)


@pytest.fixture(params=["stands still", "goes back"])
def submitted(queue: JobQueue, clock: Clock, request: pytest.FixtureRequest) -> list[str]:
    """The runs of jobs that were submitted in this order, while the clock went on as the parameter says."""
    for name in NAMES:
        assert put(queue, name).created == clock.time
        clock.time -= 3600 if request.param == "goes back" else 0
    return NAMES


def test_jobs_are_listed_the_last_submitted_first(queue: JobQueue, submitted: list[str]) -> None:
    assert [job.run for job in queue.jobs()] == submitted[::-1]


def test_pages_go_on_where_the_last_ended(queue: JobQueue, submitted: list[str]) -> None:
    found: list[str] = []
    before = None
    while page := queue.jobs(before=before, limit=7):
        found += [job.run for job in page]
        before = page[-1].sequence
    assert found == submitted[::-1]


def test_jobs_are_claimed_first_in_first_out(queue: JobQueue, submitted: list[str]) -> None:
    assert [claim(queue).job.run for _ in submitted] == submitted
    assert queue.claim("a") is None


def test_a_job_queued_again_keeps_its_place(queue: JobQueue, submitted: list[str]) -> None:
    first = claim(queue)
    queue.give_back(first)
    assert claim(queue).job.id == first.job.id
    assert [claim(queue).job.run for _ in submitted[1:]] == submitted[1:]


def test_several_claimers_leave_no_job_behind_for_a_later_one(
    queue: JobQueue, submitted: list[str], database: str
) -> None:
    found = [rows for (rows,) in together(claim_in_order, database, 4)]
    for rows in found:
        assert rows == sorted(rows)
        assert {waiting for _, waiting in rows} <= {0}
    everything = [sequence for rows in found for sequence, _ in rows]
    assert sorted(everything) == [job.sequence for job in queue.jobs()][::-1]


def test_each_of_several_submitters_finds_its_jobs_in_the_order_of_its_submissions(
    queue: JobQueue, database: str
) -> None:
    made = [ids for (ids,) in together(submit_in_turn, database, 3, 30)]
    place = {job.id: job.sequence for job in queue.jobs(limit=200)}
    assert len(place) == len(set(place.values())) == 90
    for ids in made:
        assert [place[i] for i in ids] == sorted(place[i] for i in ids)


def test_a_number_is_given_once_though_the_job_that_had_it_is_gone(queue: JobQueue, engine: Engine) -> None:
    put(queue, "a")
    last = put(queue, "b")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": last.id})
    assert put(queue, "c").sequence > last.sequence


# -- a clock that is set back ---------------------------------------------------------------------------------------------


def test_a_job_waits_for_no_clock_that_was_set_back_since_it_was_submitted(queue: JobQueue, clock: Clock) -> None:
    job = put(queue)
    clock.time -= 3600
    assert claim(queue).job.id == job.id


def test_a_pause_is_over_when_the_clock_was_set_back_to_before_it(queue: JobQueue, clock: Clock) -> None:
    job = put(queue)
    queue.fail(claim(queue), CAUSE, again=True)
    assert queue.claim("a") is None
    clock.time += BACKOFF / 2
    assert queue.claim("a") is None
    clock.time -= 3600
    assert claim(queue).job.id == job.id


def test_a_pause_is_over_when_the_clock_says_so(queue: JobQueue, clock: Clock) -> None:
    put(queue)
    queue.give_back(claim(queue), pause=5.0)
    clock.time += 4.9
    assert queue.claim("a") is None
    clock.time += 0.2
    assert queue.claim("a") is not None


def test_a_clock_that_was_set_back_does_not_count_old_submissions_as_new(
    queue: JobQueue, clock: Clock, engine: Engine
) -> None:
    mine, quota = add_token(engine), Quota(per_minute=1)
    put(queue, "a", token=mine, quota=quota)
    spec = make_spec("b")
    with pytest.raises(QuotaExceeded):
        queue.submit(spec, spec.digest(), token=mine, quota=quota)
    clock.time -= 3600
    assert queue.submit(spec, spec.digest(), token=mine, quota=quota)[1]


def test_events_keep_their_order_while_the_clock_goes_back(queue: JobQueue, clock: Clock) -> None:
    job = put(queue)
    lease = claim(queue)
    for done in range(10):
        clock.time -= 60
        queue.heartbeat(lease, progress={"bytes": done})
    events = queue.events(job.id)
    assert [e.data["bytes"] for e in events if e.kind == "progress"] == list(range(10))
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert [e.at for e in events] == sorted((e.at for e in events), reverse=True)


def test_tokens_are_listed_in_the_order_in_which_they_were_made(engine: Engine) -> None:
    book = TokenStore(engine)
    for name in NAMES:
        book.create(name, ["read"])
    with engine.begin() as connection:
        connection.execute(text("UPDATE tokens SET created = 7"))
    assert [token.name for token in book.all()] == NAMES


def test_nothing_orders_by_the_time_of_a_submission(queue: JobQueue, submitted: list[str], engine: Engine) -> None:
    for age, job in enumerate(queue.jobs()):
        alter(engine, job.id, created=float(age))
    assert [job.run for job in queue.jobs()] == submitted[::-1]
    assert claim(queue).job.run == submitted[0]
