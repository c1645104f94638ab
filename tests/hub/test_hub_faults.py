"""Analyses of a Hub on which things go wrong: the bits of an undisturbed one, or a named failure that leaves the store as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_runs import grams, steps_repo
from hub_server import Fault, HubServer
from quick_clock import quick_clock
from slow_params import slow_but

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.errors import NotFound, Refused, TrajsvcError, TryAgain
from trajsvc.sources.hub.address import parse_address
from trajsvc.sources.hub.source import HubOptions, HubSource

pytestmark = pytest.mark.slow

Hubs = Callable[..., HubServer]
STEPS = [0, 10, 20, 30, 40, 50]
CANARY = "hf_canaryCanaryCanary0123"

PASSING: dict[str, Callable[[Any], None]] = {
    "a third of all answers are 500 or 503": lambda f: setattr(f, "fail_rate", 0.3),
    "bodies cut at 1 %": lambda f: setattr(f, "cut_at", Fault(0.01, limit=8, path="/_cdn")),
    "bodies cut at 50 %": lambda f: setattr(f, "cut_at", Fault(0.5, rate=0.4, path="/_cdn")),
    "bodies cut at 99 %": lambda f: setattr(f, "cut_at", Fault(0.99, rate=0.4, path="/_cdn")),
    "listings cut": lambda f: setattr(f, "cut_json", Fault(0.5, limit=3)),
    "429 with seconds": lambda f: (setattr(f, "rate_limited", Fault(True, limit=5)), setattr(f, "retry_after", "seconds")),
    "429 with a date": lambda f: (setattr(f, "rate_limited", Fault(True, limit=5)), setattr(f, "retry_after", "date")),
    "429 with RateLimit": lambda f: (setattr(f, "rate_limited", Fault(True, limit=5)), setattr(f, "retry_after", "ratelimit")),
    "429 that says nothing": lambda f: (setattr(f, "rate_limited", Fault(True, limit=5)), setattr(f, "retry_after", "none")),
    "bodies that stand still": lambda f: setattr(f, "stall_s", Fault(30.0, limit=2, path="/_cdn")),
    "bodies that trickle": lambda f: setattr(f, "trickle", Fault(150.0, limit=2, path="/_cdn")),
    "addresses that expire": lambda f: setattr(f, "expire_signed", 2),
    "less than was asked for": lambda f: setattr(f, "short_range", Fault(True, limit=20, path="/_cdn")),
    "other bytes than were asked for": lambda f: setattr(f, "wrong_range", Fault(True, limit=5, path="/_cdn")),
    "slow answers": lambda f: setattr(f, "latency_ms", 40),
}  # fmt: skip


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the run, read without disturbance."""
    store = tmp_path_factory.mktemp("calm")
    with HubServer([steps_repo("local/run", STEPS)]) as hub:
        trajsvc.analyze(source(hub), store=store, copy=False)
    return store


def source(hub: HubServer, **more: Any) -> HubSource:
    """The run on the Hub; pauses between requests pass at once."""
    options = HubOptions(endpoint=hub.endpoint, timeout=1.5, connections=4, clock=quick_clock(), **more)
    return HubSource(parse_address("hf://local/run"), options)


@pytest.mark.parametrize("copy", [True, False], ids=["copied", "streamed"])
@pytest.mark.parametrize("fault", slow_but(PASSING, [fault for fault in PASSING if fault != "bodies that trickle"]))
def test_what_passes(fault: str, copy: bool, hubs: Hubs, calm: Path, tmp_path: Path) -> None:
    hub = hubs(steps_repo("local/run", STEPS))
    PASSING[fault](hub.faults)
    if copy and hub.faults.expire_signed:
        hub.faults.expire_signed = 1  # a copy asks for a small file once
    run = trajsvc.analyze(source(hub), store=tmp_path, copy=copy)
    assert np.array_equal(grams(calm, "run"), grams(tmp_path, "run"))
    assert run.stored.checkpoints.fingerprint == RunStore(calm).open("run").checkpoints.fingerprint
    assert run.stored.verify() == ()
    struck = [f.times for f in hub.faults.active.values()]
    assert struck, "no fault was set"
    assert all(struck), "the fault never struck"


LASTING: dict[str, tuple[Callable[[Any], None], str, type[TrajsvcError]]] = {
    "the Range header is ignored": (
        lambda f: setattr(f, "ignore_range", Fault(True, path="/_cdn")),
        "range-ignored",
        Refused,
    ),
    "another size than listed": (
        lambda f: setattr(f, "wrong_range", Fault("total", path="/_cdn")),
        "hub-file-changed",
        TryAgain,
    ),
    "redirects in a ring": (lambda f: setattr(f, "redirect_loop", True), "hub-unreachable", TryAgain),
    "only errors": (lambda f: setattr(f, "fail_rate", 1.0), "hub-unavailable", TryAgain),
    "bodies of nothing": (lambda f: setattr(f, "cut_at", Fault(0.0001, path="/_cdn")), "hub-unreachable", TryAgain),
}


@pytest.mark.parametrize("fault", LASTING)
def test_what_does_not_pass_is_named_and_leaves_the_store_as_it_was(
    fault: str, hubs: Hubs, calm: Path, tmp_path: Path
) -> None:
    strike, kind, of = LASTING[fault]
    hub = hubs(steps_repo("local/run", STEPS))
    first = trajsvc.analyze(source(hub), store=tmp_path, copy=False, steps="first:4")
    kept = first.stored.block_grams()
    hub.repos["local/run"].gated = False
    strike(hub.faults)
    with pytest.raises(of) as caught:
        trajsvc.analyze(source(hub, attempts=3), store=tmp_path, copy=False)
    assert caught.value.kind == kind
    assert caught.value.hint
    assert "Signature" not in "".join(traceback.format_exception(caught.value))
    assert np.array_equal(RunStore(tmp_path).open("run").block_grams(), kept), "an earlier result is harmed"
    hub.faults.clear()
    assert len(trajsvc.analyze(source(hub), store=tmp_path, copy=False).steps) == len(STEPS)


def refusal(expected: type[TrajsvcError], kind: str, opened: HubSource, store: Path) -> TrajsvcError:
    with pytest.raises(expected) as caught:
        trajsvc.analyze(opened, store=store)
    assert caught.value.kind == kind
    said = "".join(traceback.format_exception(caught.value))
    assert CANARY not in said
    return caught.value


def test_who_may_not_read_is_told_why(hubs: Hubs, tmp_path: Path) -> None:
    gated = hubs(steps_repo("local/run", STEPS, gated=True, readers=["granted"]))
    error = refusal(Refused, "hub-gated", source(gated), tmp_path)
    assert "Ask for access" in error.hint
    refusal(Refused, "hub-gated", source(gated, token=CANARY), tmp_path)
    private = hubs(steps_repo("local/run", STEPS, private=True, readers=["granted"]))
    assert "HF_TOKEN" in refusal(NotFound, "hub-no-repository", source(private), tmp_path).hint
    assert (
        "the token's account" in refusal(NotFound, "hub-no-repository", source(private, token=CANARY), tmp_path).message
    )
    picky = hubs(steps_repo("local/run", STEPS), tokens=["good"])
    refusal(Refused, "hub-unauthorized", source(picky, token=CANARY), tmp_path)
    missing = hubs(steps_repo("local/other", STEPS))
    refusal(NotFound, "hub-no-repository", source(missing), tmp_path)
    assert (
        len(
            trajsvc.analyze(
                source(hubs(steps_repo("local/run", STEPS, gated=True, readers=["in"])), token="in"), store=tmp_path
            ).steps
        )
        == 6
    )


def test_a_revision_that_is_not_there(hubs: Hubs, tmp_path: Path) -> None:
    hubs(steps_repo("local/run", STEPS))
    with pytest.raises(NotFound) as caught:
        trajsvc.analyze("hf://local/run@step11", store=tmp_path)
    assert caught.value.kind == "hub-no-revision"
    assert "step10" in caught.value.hint


def test_offline_nothing_is_asked(hubs: Hubs, tmp_path: Path) -> None:
    hub = hubs(steps_repo("local/run", STEPS))
    command = [sys.executable, "-m", "trajsvc", "analyze", "hf://local/run", "--store", str(tmp_path)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}  # which the Hub's client reads when it is imported
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 4
    assert "HF_HUB_OFFLINE" in done.stderr
    assert hub.seen == []


CLOSED = "http://127.0.0.1:9"


@pytest.mark.timing
@pytest.mark.parametrize("endpoint", [CLOSED, "https://no-such-host.invalid"])
def test_without_a_network_one_is_told_soon_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    begun = time.monotonic()
    with pytest.raises(TryAgain) as caught:
        trajsvc.analyze("hf://local/run", store=tmp_path)
    assert time.monotonic() - begun < 30  # 1 s on a quiet machine; it was 54
    assert caught.value.kind == "hub-unreachable"
    assert all(word in str(caught.value) for word in ("HTTPS_PROXY", "HF_ENDPOINT", "HF_HUB_OFFLINE"))


@pytest.mark.slow
@pytest.mark.timing
def test_a_name_that_is_looked_up_for_ever_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://slow.invalid")
    over = threading.Event()
    monkeypatch.setattr("trajsvc.sources.hub.api_client.getproxies", dict)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: over.wait(120))
    begun = time.monotonic()
    try:
        with pytest.raises(TryAgain, match="no connection to it"):
            trajsvc.analyze("hf://local/run", store=tmp_path)
    finally:
        over.set()
    assert time.monotonic() - begun < 60


@pytest.mark.timing
def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    opened = HubSource(parse_address("hf://local/run"), HubOptions(attempts=2))
    with pytest.raises(TryAgain) as caught:
        trajsvc.analyze(opened, store=tmp_path)
    assert caught.value.kind == "hub-unreachable"
