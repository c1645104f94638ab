"""The brake that all threads share: how long which answers make everybody wait. The clock is the test's own."""

from __future__ import annotations

import threading
from email.utils import formatdate

import pytest

from trajsvc.sources.transport.cancel import Interrupted
from trajsvc.sources.transport.rate_limit import RateLimiter, shared_limiter


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.longest = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.longest = max(self.longest, seconds)


DAY = 1_700_000_000.0


def made(base: float = 1.0, cap: float = 60.0) -> tuple[RateLimiter, Clock]:
    clock = Clock()
    wall = lambda: DAY + clock.now - 1000.0  # noqa: E731
    return RateLimiter(base=base, cap=cap, clock=clock, sleep=clock.sleep, wall=wall, jitter=lambda: 0.5), clock


def waited(limiter: RateLimiter, clock: Clock, resource: str = "api") -> float:
    begun = clock.now
    limiter.wait(resource)
    return clock.now - begun


def rate(left: int, seconds: int, resource: str = "api", policy: tuple[int, int] | None = None) -> dict[str, str]:
    head = {"RateLimit": f'"{resource}";r={left};t={seconds}'}
    if policy is not None:
        head["RateLimit-Policy"] = f'"fixed window";"{resource}";q={policy[0]};w={policy[1]}'
    return head


def test_nobody_waits_for_nothing() -> None:
    limiter, clock = made()
    limiter.note("api", 200, {})
    limiter.note("api", 200, rate(400, 200, policy=(500, 300)))
    assert [waited(limiter, clock) for _ in range(5)] == [0.0] * 5
    assert limiter.paused_for("api") == 0.0


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_retry_after_in_seconds(name: str) -> None:
    limiter, clock = made()
    limiter.note("api", 429, {name: "7"})
    assert limiter.paused_for("api") == pytest.approx(7)
    assert waited(limiter, clock) == pytest.approx(7)
    assert waited(limiter, clock) == 0.0


def test_retry_after_as_a_date() -> None:
    limiter, clock = made()
    limiter.note("api", 429, {"Retry-After": formatdate(DAY + 12, usegmt=True)})
    assert waited(limiter, clock) == pytest.approx(12)


def test_a_date_is_read_by_the_servers_own_clock() -> None:
    limiter, clock = made()
    head = {"Retry-After": formatdate(DAY + 3612, usegmt=True), "Date": formatdate(DAY + 3600, usegmt=True)}
    limiter.note("api", 429, head)
    assert waited(limiter, clock) == pytest.approx(12)


def test_a_window_that_is_used_up() -> None:
    limiter, clock = made()
    limiter.note("api", 429, rate(0, 55))
    assert waited(limiter, clock) == pytest.approx(55)
    limiter.note("api", 200, rate(0, 33))  # the last request of a window was answered, and there is no other
    assert waited(limiter, clock) == pytest.approx(33)


def test_the_longer_of_two_times_holds() -> None:
    limiter, clock = made()
    limiter.note("api", 429, {"Retry-After": "3", **rate(0, 9)})
    limiter.note("api", 429, {"Retry-After": "5"})
    assert waited(limiter, clock) == pytest.approx(9)


def test_a_busy_server_that_says_when_to_come_back() -> None:
    limiter, clock = made()
    limiter.note("storage", 503, {"Retry-After": "4"})
    assert waited(limiter, clock, "storage") == pytest.approx(4)
    limiter.note("storage", 503, {})
    assert waited(limiter, clock, "storage") == 0.0


def test_no_answer_makes_anybody_wait_for_a_day() -> None:
    limiter, clock = made()
    limiter.note("api", 429, {"Retry-After": "86400"})
    assert waited(limiter, clock) <= 900.1


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "1e9", "٣", "Wed, 99 Nov 2023 99:99:99 GMT", "Wed, 01 Nov " + "9" * 30 + " 00:00:00 GMT"],
)
def test_times_that_are_none_count_as_none(value: str) -> None:
    limiter, clock = made()
    limiter.note("api", 429, {"Retry-After": value})
    assert 0.5 <= waited(limiter, clock) <= 1.0


def test_refusals_without_a_time_double_up_to_a_bound_and_are_forgotten() -> None:
    limiter, clock = made(cap=10)
    waits = []
    for _ in range(6):
        limiter.note("api", 429, {})
        waits.append(waited(limiter, clock))
    assert waits == pytest.approx([0.75, 1.5, 3, 6, 7.5, 7.5])
    limiter.note("api", 200, {})
    limiter.note("api", 429, {})
    assert waited(limiter, clock) == pytest.approx(0.75)
    clock.now += 3600
    limiter.note("api", 429, {})
    assert waited(limiter, clock) == pytest.approx(0.75)


def test_refusals_of_one_moment_count_once() -> None:
    limiter, clock = made()
    for _ in range(16):  # as many threads as were asking
        limiter.note("api", 429, {})
    assert waited(limiter, clock) == pytest.approx(0.75)


def test_the_last_requests_of_a_window_are_spread_over_its_rest() -> None:
    limiter, clock = made()
    limiter.note("api", 200, rate(5, 100, policy=(500, 300)))
    limiter.wait("api")
    begun = clock.now
    for _ in range(4):
        limiter.wait("api")
    assert clock.now - begun == pytest.approx(80, abs=1)
    clock.now = begun + 100
    assert [waited(limiter, clock) for _ in range(5)] == [0.0] * 5  # the next window


def test_plenty_ends_the_spreading() -> None:
    limiter, clock = made()
    limiter.note("api", 200, rate(5, 100, policy=(500, 300)))
    limiter.note("api", 200, rate(499, 300, policy=(500, 300)))
    assert [waited(limiter, clock) for _ in range(5)] == [0.0] * 5


def test_after_a_refusal_those_who_waited_do_not_come_all_at_once() -> None:
    limiter, clock = made()
    limiter.note("api", 429, rate(0, 10, policy=(20, 10)))
    assert waited(limiter, clock) == pytest.approx(10)
    assert [waited(limiter, clock) for _ in range(3)] == pytest.approx([0.5] * 3)


def test_resources_are_apart_unless_the_answer_names_another() -> None:
    limiter, clock = made()
    limiter.note("api", 429, {"Retry-After": "9"})
    assert limiter.paused_for("resolvers") == 0.0
    assert waited(limiter, clock, "resolvers") == 0.0
    limiter.note("storage", 429, rate(0, 30, resource="resolvers"))
    assert limiter.paused_for("resolvers") == pytest.approx(30)
    assert limiter.paused_for("storage") == pytest.approx(30)


@pytest.mark.timing
def test_stop_is_asked_at_least_ten_times_a_second() -> None:
    limiter, clock = made()
    limiter.note("api", 429, {"Retry-After": "100"})
    with pytest.raises(Interrupted):
        limiter.wait("api", lambda: clock.now >= 1003.0)
    assert clock.now == pytest.approx(1003.0, abs=0.11)
    assert clock.longest <= 0.1
    with pytest.raises(Interrupted):
        limiter.wait("other", lambda: True)


@pytest.mark.timing
def test_all_threads_are_held() -> None:
    limiter = RateLimiter()
    limiter.note("api", 429, {"Retry-After": "1"})
    gone: list[bool] = []
    threads = [threading.Thread(target=lambda: (limiter.wait("api"), gone.append(True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    threads[0].join(0.3)
    assert not gone
    for thread in threads:
        thread.join()
    assert gone == [True] * 8


def test_one_limiter_an_endpoint() -> None:
    assert shared_limiter("http://a.example") is shared_limiter("http://a.example/")
    assert shared_limiter("http://a.example") is not shared_limiter("http://b.example")
