"""Listings of the Hub when it does not answer well: faults, limits of its rate, answers that make no sense."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub
import pytest
from hub_faults import Fault
from listing_asking import CANARY, COMMIT, ID, Hubs, asked, failure, run, said
from quick_clock import quick_clock

from trajsvc.errors import DamagedCheckpoint, NotFound, TryAgain
from trajsvc.sources.hub import api_client
from trajsvc.sources.hub.api import HubApi
from trajsvc.sources.hub.limits import HubLimits
from trajsvc.sources.transport.cancel import Interrupted
from trajsvc.sources.transport.rate_limit import RateLimiter

# ---------------------------------------------------------------- when the Hub does not answer well


@pytest.mark.timing
@pytest.mark.parametrize("fault", ["fail_rate", "cut_json", "rate_limited"])
@pytest.mark.parametrize("what", ["refs", "tree", "commits", "repositories"])
def test_what_passes_is_tried_again(hub: Hubs, fault: str, what: str) -> None:
    repo = run()
    server = hub([repo], page_size=1)
    server.faults.retry_after = "none"
    calls: dict[str, Callable[[HubApi], object]] = {
        "refs": lambda api: api.refs(ID), "tree": lambda api: api.tree(ID, repo.heads["main"].id),
        "commits": lambda api: api.commits(ID, "main"), "repositories": lambda api: api.repositories("org/*"),
    }  # fmt: skip
    whole = calls[what](asked(server))
    plain = server.stats()["requests"]
    server.reset_stats()
    server.faults.put(fault, Fault({"fail_rate": 1.0, "cut_json": 0.5, "rate_limited": True}[fault], limit=3))
    assert calls[what](asked(server)) == whole
    assert server.stats()["requests"] == plain + 3


@pytest.mark.timing
def test_a_listing_that_fails_half_way_is_made_again_as_a_whole(hub: Hubs) -> None:
    repo = run()
    server = hub([repo], page_size=1)
    api = asked(server)
    whole = api.commits(ID, "main")
    server.reset_stats()
    second = threading.Event()

    def watch() -> None:
        while not second.is_set():
            if server.stats()["kinds"]["commits"] >= 1:
                server.faults.cut_json = Fault(0.5, limit=1)
                return
            time.sleep(0.0005)

    server.faults.latency_ms = 30
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert api.commits(ID, "main") == whole
    finally:
        second.set()
        watcher.join()
    assert "cursor" not in server.seen[0].path
    assert [("cursor" in s.path) for s in server.seen].count(False) == 2, "from its first page on"
    assert len(server.seen) > len(whole)


@pytest.mark.parametrize(
    ("fault", "value", "kind", "words"),
    [
        ("fail_rate", 1.0, "hub-unavailable", "again and again"),
        ("cut_json", 0.5, "hub-unreachable", "breaks off"),
        ("cut_json", 0.001, "hub-unreachable", "breaks off"),
    ],
)
def test_what_does_not_pass_is_an_error_after_all_attempts(
    hub: Hubs, fault: str, value: float, kind: str, words: str
) -> None:
    server = hub([run()])
    server.faults.put(fault, value)
    for attempts in (1, 4):
        server.reset_stats()
        assert words in failure(lambda n=attempts: asked(server, CANARY, attempts=n).refs(ID), kind, TryAgain).message  # type: ignore[misc]
        assert server.stats()["requests"] == attempts


@pytest.mark.timing
def test_nobody_is_there() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as gone:
        endpoint = f"http://127.0.0.1:{gone.server_address[1]}"
    for attempt in (
        lambda: asked(endpoint, CANARY, attempts=2).refs(ID),
        lambda: asked(endpoint, attempts=2).tree(ID, COMMIT),
    ):
        assert "no connection" in failure(attempt, "hub-unreachable", TryAgain).message


@pytest.mark.timing
@pytest.mark.parametrize("what", ["refs", "tree", "commits", "repositories"])
def test_a_hub_that_hangs_is_not_waited_for(scripted: Any, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(api_client, "TIMEOUT", 0.2)
    endpoint = scripted(lambda path: None)
    api = asked(endpoint, attempts=2)
    arguments = {"refs": (ID,), "tree": (ID, COMMIT), "commits": (ID, "main"), "repositories": ("org/*",)}[what]
    started = time.monotonic()
    assert "in time" in failure(lambda: getattr(api, what)(*arguments), "hub-unreachable", TryAgain).message
    assert time.monotonic() - started < 60
    assert len(scripted.servers[0].seen) == 2
    assert huggingface_hub.get_session().timeout.read is None, "the user's own session is left as it was"


NO_JSON = [b"", b"<html>sign in to the network</html>", b"[1", b"{]", b"\xff\xfe", b"[NaN]", b"[" + b"9" * 5000 + b"]"]


@pytest.mark.timing
@pytest.mark.parametrize("body", NO_JSON)
def test_an_answer_that_is_no_json_is_asked_for_again(scripted: Any, body: bytes) -> None:
    api = asked(scripted(lambda path: (200, {}, body)), CANARY, attempts=2)
    failure(lambda: api.tree(ID, COMMIT), "hub-unreachable", TryAgain)
    failure(lambda: api.refs(ID), "hub-unreachable", TryAgain)
    assert len(scripted.servers[0].seen) == 4


@pytest.mark.timing
@pytest.mark.parametrize("body", [b"null", b"7", b"{}", b"[1]", b'[{"type": "file"}]', b'{"branches": 1, "tags": []}'])
def test_an_answer_that_makes_no_sense_is_asked_for_once(scripted: Any, body: bytes) -> None:
    api = asked(scripted(lambda path: (200, {}, body)), CANARY, attempts=2)
    failure(lambda: api.tree(ID, COMMIT), "hub-bad-answer", DamagedCheckpoint)
    failure(lambda: api.refs(ID), "hub-bad-answer", DamagedCheckpoint)
    assert len(scripted.servers[0].seen) == 2


@pytest.mark.timing
def test_the_token_stays_with_the_endpoint(scripted: Any) -> None:
    stranger = scripted(lambda path: said([]))
    stranger = stranger.replace("127.0.0.1", "localhost")
    link = scripted(
        lambda path: said([], **({} if "cursor" in path else {"Link": f'<{stranger}/api/x?cursor=2>; rel="next"'}))
    )
    with pytest.raises(DamagedCheckpoint, match="another host"):
        asked(link, CANARY).commits(ID, "main")
    moved = scripted(lambda path: (307, {"Location": f"{stranger}{path}"}, b""))
    assert asked(moved, CANARY).commits(ID, "main") == []
    elsewhere, of_link, of_moved = (s.seen for s in scripted.servers)
    assert [a for _, a in of_link] == [f"Bearer {CANARY}"], "the next page was asked of nobody"
    assert [a for _, a in of_moved] == [f"Bearer {CANARY}"]
    assert [a for _, a in elsewhere] == [None], "a renamed repository is followed without it"


@pytest.mark.timing
@pytest.mark.parametrize("style", ["seconds", "date", "ratelimit", "both"])
def test_a_refusal_for_asking_too_often_is_obeyed(hub: Hubs, style: str) -> None:
    server = hub([run()])
    server.faults.retry_after, server.faults.retry_s = style, 2 if style == "date" else 1
    server.faults.rate_limited = Fault(True, limit=1)
    slept: list[float] = []
    now = [100.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    api = asked(server, limiter=RateLimiter(clock=lambda: now[0], sleep=sleep), attempts=1)
    assert api.refs(ID), "it does not count as a failed attempt"
    assert 0.5 < sum(slept) < 2.5
    assert server.stats()["by_status"] == {"429": 1, "200": 1}


@pytest.mark.timing
def test_the_last_requests_of_a_window_are_spread(scripted: Any) -> None:
    left = iter([90, 80, 70, 5, 4, 3])
    endpoint = scripted(
        lambda path: said(
            {"branches": [], "tags": []},
            **{"RateLimit": f'"api";r={next(left)};t=60', "RateLimit-Policy": '"fixed window";"api";q=100;w=300'},
        )
    )
    slept: list[float] = []
    now = [100.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    api = asked(endpoint, limiter=RateLimiter(clock=lambda: now[0], sleep=sleep))
    for _ in range(3):
        api.refs(ID)
    assert slept == [], "there are plenty"
    for _ in range(3):
        api.refs(ID)
    assert 5 < sum(slept) < 60, "learnt from answers that were a success"


@pytest.mark.timing
def test_refusals_for_ever_are_an_error_in_the_end(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "_PATIENT", 3)
    endpoint = scripted(lambda path: (429, {"Retry-After": "0"}, b""))
    failure(lambda: asked(endpoint, CANARY).refs(ID), "hub-rate-limited", TryAgain)
    assert len(scripted.servers[0].seen) == 4


@pytest.mark.timing
@pytest.mark.parametrize(
    ("seconds", "asked_for", "told"),
    [(60.0, "7200", ["7,200 s", "300 s"]), (1000.0, "7200", ["7,200 s", "1,000 s"]), (60.0, "301", ["30", "300 s"])],
)
def test_a_wait_of_hours_is_an_error_at_once_that_says_so(
    scripted: Any, seconds: float, asked_for: str, told: list[str]
) -> None:
    """A quarter of an hour was waited a hundred times."""
    endpoint = scripted(lambda path: (429, {"Retry-After": asked_for}, b""))
    slow = asked(endpoint, limits=HubLimits(seconds=seconds))
    error = failure(lambda: slow.refs(ID), "hub-rate-limited", TryAgain)
    assert all(words in str(error) for words in told)
    assert "TRAJSVC_HUB_SECONDS" in str(error)
    assert len(scripted.servers[0].seen) == 1


@pytest.mark.timing
def test_waits_that_follow_each_other_end_too(scripted: Any) -> None:
    endpoint, clock = scripted(lambda path: (429, {"Retry-After": "100"}, b"")), quick_clock()
    limiter = RateLimiter(clock=clock.monotonic, sleep=clock.sleep, wall=clock.wall)
    patient = asked(endpoint, limiter=limiter, clock=clock)
    failure(lambda: patient.refs(ID), "hub-rate-limited", TryAgain)
    assert 2 <= len(scripted.servers[0].seen) <= 4


@pytest.mark.timing
@pytest.mark.parametrize("style", ["failing", "refusing"])
def test_stop_is_heard_while_waiting(hub: Hubs, style: str) -> None:
    server = hub([run()])
    server.faults.retry_s = 250
    server.faults.put(*(("fail_rate", 1.0) if style == "failing" else ("rate_limited", True)))
    stop = threading.Event()
    api = asked(server, backoff=300.0, stop=stop.is_set)
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        api.tree(ID, COMMIT)
    assert time.monotonic() - started < 100
    server.reset_stats()
    with pytest.raises(Interrupted):
        api.refs(ID)
    assert server.stats()["requests"] == 0


@pytest.mark.timing
def test_the_first_tree_that_fails_ends_the_others(scripted: Any) -> None:
    bad = f"{100:040x}"
    endpoint = scripted(
        lambda path: (404, {"X-Error-Code": "RevisionNotFound"}, b"") if bad in path else (503, {}, b"")
    )
    api = asked(endpoint, CANARY, backoff=300.0, attempts=50)
    wanted = [(ID, f"{i:040x}") for i in (1, 2, 100, *range(3, 60))]
    started = time.monotonic()
    failure(lambda: api.trees_of(wanted, None), "hub-no-revision", NotFound)
    assert time.monotonic() - started < 100
    assert len(scripted.servers[0].seen) < 20, "those that had not begun were left"


@pytest.mark.timing
def test_a_session_that_another_user_closed_is_opened_again(hub: Hubs) -> None:
    api = asked(hub([run()]), backoff=0.1, attempts=20)
    huggingface_hub.get_session().close()
    renewed = threading.Timer(0.2, huggingface_hub.close_session)
    renewed.start()
    assert len(api.refs(ID)) == 3
    renewed.join()
    huggingface_hub.get_session().close()
    assert "closed" in failure(lambda: asked(api.endpoint, attempts=2).refs(ID), "hub-unreachable", TryAgain).message
