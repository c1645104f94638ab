"""Listings of the Hub, over real sockets: what they say, and what happens when the Hub does not."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from hub_faults import Fault
from hub_repos import Repo, Revision
from hub_server import HubServer
from huggingface_hub import constants
from quick_clock import quick_clock

from trajsvc.errors import DamagedCheckpoint, NotFound, Refused, TrajsvcError, TryAgain, UsageError
from trajsvc.sources.hub import api_client
from trajsvc.sources.hub.api import HubApi
from trajsvc.sources.hub.limits import HubLimits
from trajsvc.sources.hub.selection import RefInfo, select_commits
from trajsvc.sources.transport.cancel import Interrupted
from trajsvc.sources.transport.rate_limit import RateLimiter

CANARY = "hf_canaryTOKENcanary"
COMMIT = "0" * 40
ID = "org/run"

Hubs = Callable[..., HubServer]
Answer = tuple[int, dict[str, str], bytes]


def files(seed: int) -> dict[str, bytes]:
    return {"model.safetensors": bytes([seed]) * 50, "config.json": b"{}", "deep/er/notes.txt": b"x" * seed}


def run(**options: Any) -> Repo:
    newest = Revision(
        files(3), commits=[("initial commit", {"README.md": b""}), ("step 500", files(2))], title="step 1000"
    )
    return Repo(ID, {"main": newest, "step1": Revision(files(1))}, {"v1": newest}, **options)


def asked(hub: HubServer | str, token: str | bool | None = False, **options: Any) -> HubApi:
    """Asks with short pauses and a limiter of its own, so that one test's refusals are not the next one's."""
    endpoint = hub if isinstance(hub, str) else hub.endpoint
    return HubApi(endpoint, token, **{"limiter": RateLimiter(base=0.05), "backoff": 0.01, **options})


def failure(attempt: Callable[[], object], kind: str, expected: type[TrajsvcError] = TrajsvcError) -> TrajsvcError:
    """The error, from whose text, chain and traceback nobody learns a token or an address."""
    with pytest.raises(expected) as caught:
        attempt()
    error = caught.value
    assert error.kind == kind, str(error)
    assert error.hint
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    for secret in (CANARY, "127.0.0.1", "localhost", "Bearer", "request-id", "http://"):
        assert secret not in told
    return error


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[str], Answer | None]], str]]:
    """Starts a server whose answers a function of the path gives (None: it hangs); gives its endpoint."""
    servers: list[ThreadingHTTPServer] = []
    over = threading.Event()

    def start(answer: Callable[[str], Answer | None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.path, self.headers.get("Authorization")))
                told = answer(self.path)
                if told is None:
                    over.wait(120)
                    return
                status, headers, body = told
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return None

        seen: list[tuple[str, str | None]] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.seen = seen  # type: ignore[attr-defined]
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    start.servers = servers  # type: ignore[attr-defined]
    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def said(value: object, **headers: str) -> Answer:
    return 200, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()


# ---------------------------------------------------------------- what is listed
def test_branches_and_tags_with_their_commits(hub: Hubs) -> None:
    repo = run()
    assert asked(hub([repo])).refs(ID) == [
        RefInfo("main", "branch", repo.heads["main"].id), RefInfo("step1", "branch", repo.heads["step1"].id),
        RefInfo("v1", "tag", repo.heads["main"].id),
    ]  # fmt: skip


@pytest.mark.parametrize("page", [0, 1, 2])
def test_files_of_a_commit_with_sizes_and_digests(hub: Hubs, page: int) -> None:
    repo = run()
    commit = repo.heads["step1"].id
    tree = asked(hub([repo], page_size=page)).tree(ID, commit)
    kept = repo.heads["step1"].files
    assert tree.commit == commit
    assert {f.path: (f.size, f.blob_id, f.sha256) for f in tree.files} == {
        p: (c.size, c.blob_id, c.sha256 if c.lfs else None) for p, c in kept.items()
    }
    assert len(tree.files) == 3, "folders are no files"


@pytest.mark.parametrize("page", [0, 2])
def test_commits_of_a_branch_newest_first(hub: Hubs, page: int) -> None:
    repo = run()
    commits = asked(hub([repo], page_size=page)).commits(ID, "main")
    assert [(c.id, c.title) for c in commits] == [(c.id, c.title) for c in repo.heads["main"].history()]
    assert commits[0].date.startswith("20")
    assert [c.step for c in select_commits(commits, "main").chosen] == [500, 1000]


@pytest.mark.parametrize("page", [0, 2])
def test_repositories_that_a_pattern_meets_exactly(hub: Hubs, page: int) -> None:
    names = ["o/run-step_2k", "o/run-step_1k", "o/run-step", "o/Run-step_3k", "other/run-step_4k", "o/a-run-step_5k"]
    server = hub([Repo(n, {"main": Revision(files(1))}) for n in names], page_size=page)
    assert asked(server).repositories("o/run-step_*") == ["o/run-step_1k", "o/run-step_2k"]
    assert asked(server).repositories("o/run-step_[2-9]k") == ["o/run-step_2k"]
    assert asked(server).repositories("o/nothing-*") == []


def test_revisions_whose_names_need_quoting(hub: Hubs) -> None:
    repo = Repo(ID, {"main": Revision(files(1)), "run/a b": Revision(files(2), title="step 7")})
    assert [c.title for c in asked(hub([repo])).commits(ID, "run/a b")] == ["step 7"]


@pytest.mark.timing
def test_files_of_many_commits_several_at_once(hub: Hubs) -> None:
    repo = Repo(ID, {f"step{i}": Revision(files(i)) for i in range(40)})
    server = hub([repo])
    server.faults.latency_ms = 20
    wanted = [(ID, c.id) for c in repo.heads.values()]
    trees = asked(server).trees_of([*wanted, wanted[0]], None)
    assert [t.commit for t in trees] == [c for _, c in [*wanted, wanted[0]]]
    assert [{f.path: f.size for f in t.files}["deep/er/notes.txt"] for t in trees] == [*range(40), 0]
    stats = server.stats()
    assert stats["kinds"]["tree"] == 40, "the same one is asked for once"
    assert 2 <= stats["most_in_flight"] <= 8


def test_what_a_commit_holds_is_kept(hub: Hubs, tmp_path: Path) -> None:
    repo = run()
    server = hub([repo])
    wanted = [(ID, c.id) for c in repo.heads.values()]
    first = asked(server).trees_of(wanted, tmp_path)
    server.reset_stats()
    assert asked(server).trees_of(wanted, tmp_path) == first
    assert server.stats()["requests"] == 0
    for kept in (tmp_path / "trees").rglob("*.json"):
        kept.write_text("[[1")
    assert asked(server).trees_of(wanted, tmp_path) == first, "what cannot be read is asked for again"
    assert server.stats()["kinds"]["tree"] == 2


# ---------------------------------------------------------------- who may see what
def test_what_is_not_there(hub: Hubs) -> None:
    api = asked(hub([run()]))
    assert "HF_TOKEN" in failure(lambda: api.refs("org/none"), "hub-no-repository", NotFound).hint
    assert "org/none" in failure(lambda: api.tree("org/none", COMMIT), "hub-no-repository").message
    failure(lambda: api.commits("org/none", "main"), "hub-no-repository")
    failure(lambda: api.tree(ID, COMMIT), "hub-no-revision", NotFound)
    failure(lambda: api.commits(ID, "none"), "hub-no-revision", NotFound)


def test_a_private_repository_is_for_those_who_may_read_it(hub: Hubs) -> None:
    server = hub([run(private=True, readers=[CANARY])], tokens=[CANARY, "hf_other"])
    assert asked(server, CANARY).refs(ID)
    assert asked(server, f" {CANARY}\n").refs(ID), "as it comes out of a file"
    failure(lambda: asked(server, False).refs(ID), "hub-no-repository", NotFound)
    assert "token" in failure(lambda: asked(server, "hf_other").refs(ID), "hub-no-repository", NotFound).hint
    failure(lambda: asked(server, "hf_expired" + CANARY).refs(ID), "hub-unauthorized", Refused)


@pytest.mark.timing
def test_gated_disabled_and_forbidden(hub: Hubs, scripted: Any) -> None:
    failure(lambda: asked(hub([run(disabled=True)])).refs(ID), "hub-disabled", Refused)
    gate = scripted(lambda path: (403, {"X-Error-Code": "GatedRepo"}, b"{}"))
    assert "granted" in failure(lambda: asked(gate, CANARY).tree(ID, COMMIT), "hub-gated", Refused).message
    assert "account" in failure(lambda: asked(gate).tree(ID, COMMIT), "hub-gated", Refused).message
    failure(lambda: asked(scripted(lambda path: (403, {}, b""))).refs(ID), "hub-forbidden", Refused)
    assert len(scripted.servers[0].seen) == 2, "a refusal is not asked for again"


def test_the_token_is_the_one_given_else_that_of_the_machine(hub: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    server = hub([run()])
    asked(server, None).refs(ID)
    monkeypatch.setenv("HF_TOKEN", CANARY)
    assert asked(server, None).signed_in
    assert not asked(server, False).signed_in
    for token in (None, True, False, "hf_mine"):
        asked(server, token).refs(ID)
    assert [s.authorization for s in server.seen] == [
        None, f"Bearer {CANARY}", f"Bearer {CANARY}", None, "Bearer hf_mine",
    ]  # fmt: skip


@pytest.mark.parametrize("token", [f"{CANARY}\r\nX-Evil: 1", f"{CANARY} two", f"{CANARY}é"])
def test_a_token_that_is_none(hub: Hubs, token: str) -> None:
    server = hub([run()])
    failure(lambda: asked(server, token).refs(ID), "bad-token", UsageError)
    assert server.seen == []


def test_the_endpoint_is_the_environment_s_of_now(hub: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = hub([run()]), hub([run()])
    monkeypatch.setattr(constants, "ENDPOINT", one.endpoint)
    assert HubApi().endpoint == one.endpoint
    monkeypatch.setenv("HF_ENDPOINT", other.endpoint + "/")
    assert HubApi().endpoint == other.endpoint
    assert HubApi(one.endpoint).endpoint == one.endpoint
    HubApi(token=False).refs(ID)
    assert (one.stats()["requests"], other.stats()["requests"]) == (0, 1)


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://host", "http://", f"file:///{CANARY}"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    failure(lambda: HubApi(endpoint), "bad-endpoint", UsageError)


@pytest.mark.parametrize("session", ["the library's", "the user's"])
def test_offline_asks_nothing(hub: Hubs, monkeypatch: pytest.MonkeyPatch, session: str) -> None:
    if session == "the user's":  # which may not look at HF_HUB_OFFLINE
        monkeypatch.setattr("huggingface_hub.utils._http._GLOBAL_CLIENT_FACTORY", httpx2.Client)
        huggingface_hub.close_session()
    server = hub([run()])
    api = asked(server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for attempt in (
        lambda: api.refs(ID), lambda: api.tree(ID, COMMIT), lambda: api.commits(ID, "main"), lambda: api.repositories("org/r*"),
    ):  # fmt: skip
        failure(attempt, "hub-offline", Refused)
    assert server.seen == []


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
