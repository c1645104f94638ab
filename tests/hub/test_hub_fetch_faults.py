"""Ranges of files on the Hub under what networks and servers do: the right bytes, or an error with a name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from hub_faults import Fault
from hub_fetching import DATA, SIZE, TOKEN, Make, fetched, fetching, pieces
from hub_server import HubServer

from trajsvc.errors import Refused, TrajsvcError, TryAgain
from trajsvc.sources.hub.remote_file import HubFetcher
from trajsvc.sources.transport.rate_limit import RateLimiter


@pytest.fixture
def made(hub: Callable[..., HubServer]) -> Iterator[Make]:
    with fetching(hub) as make:
        yield make


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_cut_bodies_are_taken_up_where_they_ended(made: Make, fraction: float) -> None:
    server, fetcher, file = made()
    server.faults.cut_at = Fault(fraction, limit=3)
    assert fetched(fetcher, file) == DATA
    stats = server.stats()
    assert fetcher.counters.retries == 3
    assert fetcher.counters.bytes == SIZE
    sent = sum(p["bytes"] for where, p in stats["paths"].items() if where.startswith("/_cdn"))
    assert sent == SIZE  # nothing was asked for twice


@pytest.mark.timing
def test_many_cuts_in_parallel(made: Make) -> None:
    server, fetcher, file = made()
    server.faults.cut_at = Fault(0.5, rate=0.5)
    assert pieces(fetcher, file) == DATA
    assert fetcher.counters.bytes == SIZE


def test_bodies_that_are_always_cut_before_the_first_byte_end_in_an_error(made: Make) -> None:
    server, fetcher, file = made(attempts=4)
    server.faults.cut_at = 0.0000001
    with pytest.raises(TryAgain) as caught:
        fetched(fetcher, file)
    assert caught.value.kind == "hub-unreachable"
    assert server.stats()["kinds"]["cdn"] == 4


def test_errors_of_the_server_pass_or_are_named(made: Make) -> None:
    server, fetcher, file = made(attempts=5)
    server.faults.fail_rate = Fault(1.0, limit=4)
    assert fetched(fetcher, file, 0, 1000) == DATA[:1000]
    server.faults.fail_rate = 1.0
    with pytest.raises(TryAgain) as caught:
        fetched(fetcher, file, 0, 1000)
    assert caught.value.kind == "hub-unavailable"
    assert file.where in str(caught.value)
    assert server.faults.active["fail_rate"].times == 5


@pytest.mark.timing
@pytest.mark.parametrize("style", ["seconds", "date", "ratelimit", "both", "none"])
def test_too_many_requests_makes_everybody_wait(made: Make, style: str) -> None:
    server, fetcher, file = made()
    server.faults.retry_after = style
    server.faults.rate_limited = Fault(True, limit=1, path="/resolve/")
    begun = time.monotonic()
    assert pieces(fetcher, file) == DATA
    assert server.stats()["by_status"]["429"] == 1
    assert style == "none" or time.monotonic() - begun > 0.9


@pytest.mark.slow
@pytest.mark.timing
def test_windows_of_the_rate_limit_are_kept_to(made: Make) -> None:
    server, fetcher, file = made(cdn="off", limiter=RateLimiter())
    server.faults.rate_limit = 4
    assert pieces(fetcher, file, 9) == DATA
    assert server.stats()["by_status"].get("429", 0) <= 20


@pytest.mark.timing
def test_too_many_requests_for_ever_is_an_error(made: Make) -> None:
    server, fetcher, file = made(attempts=3, limiter=RateLimiter(base=0.001))
    server.faults.retry_after = "none"
    server.faults.rate_limited = Fault(True, path="/resolve/")
    with pytest.raises(TryAgain) as caught:
        fetched(fetcher, file, 0, 10)
    assert caught.value.kind == "hub-rate-limited"


@pytest.mark.timing
def test_a_body_that_stands_still_is_dropped_and_taken_up(made: Make) -> None:
    server, fetcher, file = made(stall_seconds=0.4)
    server.faults.stall_s = Fault(120.0, limit=2)
    begun = time.monotonic()
    assert fetched(fetcher, file) == DATA
    assert time.monotonic() - begun < 100
    assert fetcher.counters.retries >= 2
    assert fetcher.counters.bytes == SIZE


@pytest.mark.timing
def test_a_server_that_does_not_answer_is_dropped(made: Make) -> None:
    server, fetcher, file = made(stall_seconds=0.4)
    server.faults.latency_ms = Fault(120_000.0, limit=2)
    begun = time.monotonic()
    assert fetched(fetcher, file, 0, 10) == DATA[:10]
    assert time.monotonic() - begun < 100


@pytest.mark.timing
def test_a_hub_that_is_silent_is_not_waited_for_by_each_in_turn(made: Make) -> None:
    server, fetcher, file = made(stall_seconds=0.4, attempts=3, connections=8)
    server.faults.latency_ms = 120_000.0
    with pytest.raises(TryAgain) as caught:
        pieces(fetcher, file, 8)
    assert caught.value.kind == "hub-unreachable"
    assert server.stats()["in_flight"] <= 6, "each in turn would be 24 requests, none of which is answered"


@pytest.mark.timing
def test_a_trickle_is_dropped_and_taken_up(made: Make) -> None:
    server, fetcher, file = made(stall_seconds=0.5)
    server.faults.trickle = Fault(400.0, limit=2)
    begun = time.monotonic()
    assert fetched(fetcher, file) == DATA
    assert time.monotonic() - begun < 100
    assert fetcher.counters.retries >= 2


def test_a_range_that_is_ignored_is_noticed_before_its_body(made: Make) -> None:
    server, fetcher, file = made()
    server.faults.ignore_range = Fault(True, limit=1)
    assert fetched(fetcher, file, 10, 20) == DATA[10:20]
    server.faults.ignore_range = True
    with pytest.raises(Refused) as caught:
        fetched(fetcher, file, 10, 20)
    assert caught.value.kind == "range-ignored"
    assert fetcher.counters.bytes == 10


def test_the_whole_may_be_answered_with_the_whole(made: Make) -> None:
    server, fetcher, file = made()
    server.faults.ignore_range = True
    assert fetched(fetcher, file) == DATA


def test_another_range_is_never_taken_for_the_one_asked_for(made: Make) -> None:
    server, fetcher, file = made(attempts=3)
    server.faults.wrong_range = Fault(True, limit=1)
    assert fetched(fetcher, file, 10, 2000) == DATA[10:2000]
    server.faults.wrong_range = True
    with pytest.raises(TryAgain) as caught:
        fetched(fetcher, file, 10, 2000)
    assert caught.value.kind == "hub-file-changed"


def test_a_file_of_another_size_is_another_file(made: Make) -> None:
    server, fetcher, file = made(cdn="off")
    server.faults.wrong_range = "total"
    with pytest.raises(TryAgain) as caught:
        fetched(fetcher, file, 10, 2000)
    assert caught.value.kind == "hub-file-changed"
    assert server.stats()["requests"] == 1


def test_a_shorter_part_is_taken_and_the_rest_asked_for(made: Make) -> None:
    server, fetcher, file = made()
    server.faults.short_range = True
    assert fetched(fetcher, file, 5, 500_005) == DATA[5:500_005]
    assert fetcher.counters.bytes == 500_000


def test_an_expired_address_is_asked_for_again(made: Make) -> None:
    server, fetcher, file = made()
    server.faults.expire_signed = 4
    assert pieces(fetcher, file) == DATA
    assert 3 <= server.stats()["kinds"]["resolve"] <= 6
    assert fetcher.counters.resolves == server.stats()["kinds"]["resolve"]


def test_an_address_that_is_never_good_is_an_error(made: Make) -> None:
    server, fetcher, file = made(attempts=4)
    server.faults.expire_signed = Fault(-1)
    with pytest.raises(TrajsvcError) as caught:
        fetched(fetcher, file, 0, 100)
    assert caught.value.kind in ("hub-unreachable", "hub-forbidden")
    assert server.stats()["kinds"]["resolve"] <= 8


def test_redirects_that_go_round_end(made: Make) -> None:
    server, fetcher, file = made()
    server.faults.redirect_loop = True
    with pytest.raises(TryAgain) as caught:
        fetched(fetcher, file, 0, 10)
    assert caught.value.kind == "hub-unreachable"
    assert server.stats()["requests"] <= 12


def test_nobody_listens(made: Make) -> None:
    server, _, file = made()
    server.stop()
    fetcher = HubFetcher(server.endpoint, TOKEN, attempts=2, backoff=0.01)
    with pytest.raises(TryAgain) as caught:
        fetched(fetcher, file, 0, 10)
    fetcher.close()
    assert caught.value.kind == "hub-unreachable"
    assert "refused" in str(caught.value)


@pytest.mark.timing
def test_a_kept_connection_that_was_closed_is_no_failure(made: Make) -> None:
    server, fetcher, file = made()
    for i in range(4):
        assert fetched(fetcher, file, i, i + 1000) == DATA[i : i + 1000]
        server.drop_connections()
    assert fetcher.counters.retries == 0
