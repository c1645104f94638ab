"""Files of the tests' Hub over a socket: the right bytes without faults, and each fault as its name says."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from hub_asking import BODY, CONFIG, RESOLVE, ask, span
from hub_server import Fault, HubServer, Revision
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
)

StartHub = Callable[..., HubServer]


@pytest.mark.parametrize(("asked", "lo", "hi"), [
    ("0-0", 0, 1), ("10-19", 10, 20), ("1000-", 1000, len(BODY)), ("-7", len(BODY) - 7, len(BODY)), ("5-99999999", 5, len(BODY)),
])  # fmt: skip
@pytest.mark.parametrize("on_disk", [False, True])
def test_ranges_are_the_bytes_asked_for(
    hub: StartHub, tmp_path: Path, asked: str, lo: int, hi: int, on_disk: bool
) -> None:
    (tmp_path / "model.safetensors").write_bytes(BODY)
    data = tmp_path / "model.safetensors" if on_disk else BODY
    served = hub({"org/run": Revision({"model.safetensors": data})}, cdn="off")
    answer = ask(served.endpoint + RESOLVE, headers={"Range": f"bytes={asked}"})
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {lo}-{hi - 1}/{len(BODY)}"
    assert answer.body == BODY[lo:hi]
    path = served.stats()["paths"][RESOLVE]
    assert (path["requests"], path["ranged"], path["bytes"], path["statuses"]) == (1, 1, hi - lo, {"206": 1})


def test_a_range_past_the_end_and_a_file_that_is_known(run: HubServer) -> None:
    past = ask(run.endpoint + RESOLVE, headers=span(len(BODY), len(BODY) + 5))
    assert (past.status, past.headers["Content-Range"]) == (416, f"bytes */{len(BODY)}")
    etag = ask(run.endpoint + RESOLVE, method="HEAD").headers["ETag"]
    assert etag == f'"{hashlib.sha256(BODY).hexdigest()}"'
    assert ask(run.endpoint + RESOLVE, headers={"If-None-Match": etag}).status == 304


def test_the_record_has_every_request_and_is_forgotten_on_demand(run: HubServer) -> None:
    ask(run.endpoint + CONFIG, headers={"Authorization": "Bearer hf_x", **span(0, 2)})
    (seen,) = run.seen
    assert seen == ("GET", CONFIG, f"127.0.0.1:{run.port}", "Bearer hf_x", "bytes=0-1")
    run.reset_stats()
    assert run.seen == []
    assert run.stats()["requests"] == run.stats()["bytes"] == 0


@pytest.mark.timing
def test_connections_are_kept_until_they_are_dropped(run: HubServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", run.port, timeout=600)
    for _ in range(3):
        connection.request("GET", CONFIG)
        kept = connection.sock
        assert connection.getresponse().read().startswith(b"{")
        assert connection.sock is kept is not None
    run.drop_connections()
    assert connection.sock.recv(1) == b""
    connection.close()


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_bodies_are_cut(run: HubServer, fraction: float) -> None:
    run.faults.cut_at = Fault(fraction, limit=2)
    sent = int(1000 * fraction)
    for _ in range(2):
        answer = ask(run.endpoint + RESOLVE, headers=span(500, 1500))
        assert (answer.status, answer.headers["Content-Length"], answer.whole) == (206, "1000", False)
        assert answer.body == BODY[500 : 500 + sent]
    assert ask(run.endpoint + RESOLVE, headers=span(500, 1500)).body == BODY[500:1500]
    assert run.stats()["bytes"] == 2 * sent + 1000


def test_a_fault_keeps_to_its_path_and_its_rate(run: HubServer) -> None:
    run.faults.cut_at = Fault(0.5, path="config")
    assert ask(run.endpoint + RESOLVE).whole
    assert not ask(run.endpoint + CONFIG).whole
    run.faults.cut_at = Fault(0.5, rate=0.5)
    whole = [ask(run.endpoint + CONFIG).whole for _ in range(60)]
    assert 10 < sum(whole) < 50
    assert run.faults.cut_at is not None
    assert run.faults.cut_at.times == 60 - sum(whole)
    run.faults.cut_at = None
    assert all(ask(run.endpoint + CONFIG).whole for _ in range(10))


def test_json_is_cut_on_its_own(run: HubServer) -> None:
    run.faults.cut_json = Fault(0.5, limit=1)
    url = f"{run.endpoint}/api/models/org/run/refs"
    assert not ask(url).whole
    assert json.loads(ask(url).body)["branches"][0]["name"] == "main"


def test_requests_fail(run: HubServer) -> None:
    run.faults.fail_rate = Fault(1.0, limit=4)
    assert [ask(run.endpoint + CONFIG).status for _ in range(5)] == [500, 503, 500, 503, 200]
    run.faults.fail_rate = 0.5
    assert {ask(run.endpoint + CONFIG).status for _ in range(60)} == {200, 500, 503}
    run.faults.fail_rate = Fault(1.0)
    with pytest.raises(HfHubHTTPError, match=r"50[03]"):
        HfApi(endpoint=run.endpoint).whoami(token="hf_x")


@pytest.mark.timing
def test_answers_are_late(run: HubServer) -> None:
    run.faults.latency_ms = 200
    begun = time.monotonic()
    assert ask(run.endpoint + CONFIG).whole
    assert time.monotonic() - begun >= 0.2


@pytest.mark.timing
def test_more_requests_than_a_window_allows_are_refused(run: HubServer) -> None:
    run.faults.rate_limit, run.faults.rate_window = 3, 3600
    answers = [ask(run.endpoint + CONFIG) for _ in range(5)]
    assert [a.status for a in answers] == [200, 200, 200, 429, 429]
    assert [a.headers["RateLimit"].split(";")[1] for a in answers] == ["r=2", "r=1", "r=0", "r=0", "r=0"]
    refused = answers[-1].headers
    seconds = int(refused["Retry-After"])
    assert 1 <= seconds <= 3600
    assert refused["RateLimit"] == f'"resolvers";r=0;t={seconds}'
    assert refused["RateLimit-Policy"] == '"fixed window";"resolvers";q=3;w=3600'
    assert ask(f"{run.endpoint}/api/models/org/run/refs").status == 200, "listings are counted apart"


@pytest.mark.parametrize(("style", "headers"), [
    ("both", {"Retry-After", "RateLimit", "RateLimit-Policy"}), ("seconds", {"Retry-After"}), ("date", {"Retry-After"}),
    ("ratelimit", {"RateLimit", "RateLimit-Policy"}), ("none", set()),
])  # fmt: skip
def test_how_a_429_says_when(run: HubServer, style: str, headers: set[str]) -> None:
    run.faults.rate_limited, run.faults.retry_after, run.faults.retry_s = Fault(True, limit=1), style, 30
    answer = ask(run.endpoint + CONFIG)
    assert answer.status == 429
    assert {n for n in ("Retry-After", "RateLimit", "RateLimit-Policy") if n in answer.headers} == headers
    if style == "date":
        assert abs(parsedate_to_datetime(answer.headers["Retry-After"]).timestamp() - time.time() - 30) < 25
    elif "Retry-After" in headers:
        assert answer.headers["Retry-After"] == "30"
    if "RateLimit" in headers:
        assert answer.headers["RateLimit"].endswith(";r=0;t=30")
    assert ask(run.endpoint + CONFIG).status == 200


@pytest.mark.timing
def test_a_body_stalls_half_way_and_goes_on(run: HubServer) -> None:
    run.faults.stall_s = Fault(0.6, limit=1)
    connection = http.client.HTTPConnection("127.0.0.1", run.port, timeout=600)
    connection.request("GET", RESOLVE, headers=span(0, 1000))
    response = connection.getresponse()
    assert response.read(500) == BODY[:500]
    begun = time.monotonic()
    assert response.read() == BODY[500:1000]
    assert time.monotonic() - begun >= 0.3
    connection.close()


@pytest.mark.timing
def test_a_body_trickles(run: HubServer) -> None:
    run.faults.trickle = 1000
    begun = time.monotonic()
    assert ask(run.endpoint + RESOLVE, headers=span(100, 500)).body == BODY[100:500]
    assert time.monotonic() - begun >= 0.35


@pytest.mark.parametrize(("value", "at"), [(True, len(BODY) // 2), (77, 77)])
def test_one_byte_is_wrong(run: HubServer, value: int, at: int) -> None:
    run.faults.corrupt = Fault(value, path="model")
    body = ask(run.endpoint + RESOLVE).body
    assert [i for i, (a, b) in enumerate(zip(body, BODY, strict=True)) if a != b] == [at]
    assert ask(run.endpoint + RESOLVE, headers=span(at, at + 1)).body != BODY[at : at + 1]
    assert ask(run.endpoint + RESOLVE, headers=span(at + 1, at + 9)).body == BODY[at + 1 : at + 9]


def test_a_range_is_ignored(run: HubServer) -> None:
    run.faults.ignore_range = Fault(True, limit=1)
    answer = ask(run.endpoint + RESOLVE, headers=span(5, 10))
    assert (answer.status, "Content-Range" in answer.headers, answer.body == BODY) == (200, False, True)
    assert ask(run.endpoint + RESOLVE, headers=span(5, 10)).status == 206


def test_another_range_than_asked(run: HubServer) -> None:
    run.faults.wrong_range = True
    for asked, got in (
        ((5, 10), (6, 11)),
        ((len(BODY) - 5, len(BODY)), (len(BODY) - 6, len(BODY) - 1)),
        ((0, len(BODY)), (1, len(BODY))),
    ):
        answer = ask(run.endpoint + RESOLVE, headers=span(*asked))
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {got[0]}-{got[1] - 1}/{len(BODY)}"
        assert answer.body == BODY[slice(*got)]
    run.faults.wrong_range = "total"
    assert ask(run.endpoint + RESOLVE, headers=span(5, 10)).headers["Content-Range"] == f"bytes 5-9/{len(BODY) + 1}"


def test_a_shorter_range_than_asked(run: HubServer) -> None:
    run.faults.short_range = True
    answer = ask(run.endpoint + RESOLVE, headers=span(100, 200))
    assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes 100-149/{len(BODY)}")
    assert answer.whole
    assert answer.body == BODY[100:150]


def test_a_signed_address_opens_its_file_alone(apart: HubServer) -> None:
    first, again = (ask(apart.endpoint + RESOLVE) for _ in range(2))
    assert first.status == 302
    assert first.headers["X-Linked-Size"] == str(len(BODY))
    assert first.headers["X-Linked-ETag"] == f'"{hashlib.sha256(BODY).hexdigest()}"'
    location = first.headers["Location"]
    assert location.startswith(f"http://localhost:{apart.port}/_cdn/")
    assert location != again.headers["Location"], "each is signed anew"
    assert ask(location, headers=span(3, 9)).body == BODY[3:9]
    assert ask(location.replace("model", "other")).status == 403
    assert ask(location.split("?")[0]).status == 403
    assert apart.stats()["kinds"] | {"resolve": 2, "cdn": 3} == apart.stats()["kinds"]


def test_where_large_files_lie(hub: StartHub) -> None:
    served = hub({"org/run": Revision({"model.safetensors": BODY})}, cdn="same")
    assert ask(served.endpoint + RESOLVE).headers["Location"].startswith(f"{served.endpoint}/_cdn/")


def test_signed_addresses_expire(apart: HubServer) -> None:
    apart.faults.expire_signed = 2
    location = ask(apart.endpoint + RESOLVE).headers["Location"]
    assert [ask(location, headers=span(0, 4)).status for _ in range(4)] == [206, 206, 403, 403]
    fresh = ask(apart.endpoint + RESOLVE).headers["Location"]
    assert ask(fresh, headers=span(0, 4)).body == BODY[:4]


def test_redirects_without_end(apart: HubServer) -> None:
    apart.faults.redirect_loop = Fault(True, limit=2)
    assert [ask(apart.endpoint + RESOLVE).headers["Location"] for _ in range(2)] == [apart.endpoint + RESOLVE] * 2
    assert "/_cdn/" in ask(apart.endpoint + RESOLVE).headers["Location"]


def test_a_token_is_required(apart: HubServer, tmp_path: Path) -> None:
    apart.faults.require_token = "hf_right"
    assert ask(apart.endpoint + RESOLVE).status == 401
    assert ask(apart.endpoint + RESOLVE, headers={"Authorization": "Bearer hf_wrong"}).status == 401
    path = hf_hub_download(
        "org/run", "model.safetensors", endpoint=apart.endpoint, token="hf_right", cache_dir=tmp_path
    )
    assert Path(path).read_bytes() == BODY


def test_faults_are_cleared_and_unknown_ones_refused(run: HubServer) -> None:
    run.faults.update({"cut_at": {"value": 0.5, "limit": 3}, "retry_after": "date"})
    assert run.faults.cut_at == Fault(0.5, limit=3)
    for wrong in ({"cut_at": 0.1, "cut": 1}, {"retry_after": "later"}):
        with pytest.raises(KeyError):
            run.faults.update(wrong)
    assert run.faults.cut_at == Fault(0.5, limit=3)
    run.faults.clear()
    assert run.faults.cut_at is None
    assert run.faults.retry_after == "both"
