"""Ranges of files on the Hub: the right bytes, each once, and errors that name their cause and no secret."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_faults import Fault
from hub_fetching import DATA, NAME, PATH, SIZE, SMALL, TOKEN, Make, fetched, fetching, pieces, remote
from hub_repos import Repo, Revision
from hub_server import HubServer

from trajsvc.errors import NotFound, Refused, TrajsvcError, TryAgain
from trajsvc.sources.hub.remote_file import HubFile
from trajsvc.sources.transport.scatter import Scatter


@pytest.fixture
def made(hub: Callable[..., HubServer]) -> Iterator[Make]:
    with fetching(hub) as make:
        yield make


@pytest.mark.timing
@pytest.mark.parametrize("cdn", ["other", "same", "off"])
def test_ranges_come_in_parallel_and_each_byte_once(made: Make, cdn: str) -> None:
    server, fetcher, file = made(cdn=cdn)
    assert pieces(fetcher, file) == DATA
    counts, stats = fetcher.counters, server.stats()
    assert counts.bytes == SIZE
    assert counts.retries == 0
    assert counts.requests == stats["requests"]
    assert counts.resolves == stats["kinds"]["resolve"]
    moved = sum(p["bytes"] for where, p in stats["paths"].items() if cdn == "off" or where.startswith("/_cdn"))
    assert moved == SIZE
    if cdn != "off":
        assert stats["kinds"]["resolve"] == 1  # by one thread; the others wait for what it learns
        assert stats["kinds"]["cdn"] == 12


@pytest.mark.timing
def test_a_file_that_the_hub_serves_itself_is_read_side_by_side(made: Make) -> None:
    server, fetcher, file = made(cdn="off", connections=4)
    server.faults.latency_ms = 100
    fetched(fetcher, file, 0, 10)
    pieces(fetcher, file, 8)
    assert server.stats()["most_in_flight"] >= 3


@pytest.mark.timing
def test_connections_are_limited_and_kept(made: Make) -> None:
    server, fetcher, file = made(connections=3)
    server.faults.latency_ms = 5
    pieces(fetcher, file, 30)
    assert server.stats()["most_in_flight"] <= 3


def test_scatter_fills_buffers_in_order_and_passes_over_gaps(made: Make) -> None:
    _, fetcher, file = made()
    a, b, c = bytearray(5), np.zeros(1000, "<u4"), bytearray(1)
    gap = 600_000
    parts = [(5, memoryview(a)), (0, memoryview(b"")), (gap, None), (4000, memoryview(b)), (1, memoryview(c))]
    fetcher.fetch(file, 11, 11 + 5 + gap + 4000 + 1, Scatter(parts))
    at = 16 + gap
    assert a == DATA[11:16]
    assert b.tobytes() == DATA[at : at + 4000]
    assert c == DATA[at + 4000 : at + 4001]


def test_sinks_of_the_callers_own_take_every_byte_once_in_order(made: Make) -> None:
    server, fetcher, file = made()
    server.faults.cut_at = Fault(0.5, limit=3)

    class Rooms:
        """Gives little room at a time."""

        def __init__(self) -> None:
            self.view, self.all = memoryview(bytearray(70_000)), bytearray()

        def room(self) -> memoryview:
            return self.view

        def take(self, count: int) -> None:
            self.all += self.view[:count]

    rooms = Rooms()
    fetcher.fetch(file, 100, 1_000_100, rooms)
    assert rooms.all == DATA[100:1_000_100]
    assert fetcher.counters.bytes == 1_000_000


def test_an_empty_range_asks_for_nothing(made: Make) -> None:
    server, fetcher, file = made()
    assert fetched(fetcher, file, 5, 5) == b""
    fetcher.fetch_all([])
    assert server.stats()["requests"] == 0


@pytest.mark.parametrize("cdn", ["other", "same", "off"])
def test_a_token_is_seen_by_the_hub_alone(made: Make, cdn: str) -> None:
    server, fetcher, file = made(cdn=cdn)
    server.faults.expire_signed = 3
    pieces(fetcher, file)
    for seen in server.seen:
        at_hub = seen.host == f"127.0.0.1:{server.port}"
        asks_hub = "/resolve/" in seen.path
        assert at_hub or seen.authorization is None
        assert (seen.authorization == f"Bearer {TOKEN}") == asks_hub
    assert (cdn == "other") == any(s.host.startswith("localhost") for s in server.seen)


@pytest.mark.parametrize(
    ("fault", "value"),
    [("fail_rate", 1.0), ("cut_at", 0.0000001), ("expire_signed", Fault(-1)), ("ignore_range", True), ("wrong_range", True),
     ("redirect_loop", True), ("rate_limited", True), ("stall_s", 30.0)],
)  # fmt: skip
def test_no_error_shows_a_token_or_an_address(made: Make, fault: str, value: Any) -> None:
    server, fetcher, file = made(attempts=2, stall_seconds=0.2)
    server.faults.retry_after = "none"
    server.faults.put(fault, value)
    with pytest.raises(TrajsvcError) as caught:
        fetched(fetcher, file, 10, 20)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(caught.value.__dict__)
    error: BaseException | None = caught.value
    while error is not None:  # suppressed ones too
        shown += repr(error) + repr(error.args)
        error = error.__context__ or error.__cause__
    for secret in (TOKEN, "Signature", "Key-Pair-Id", "127.0.0.1", "localhost", str(server.port), "_cdn"):
        assert secret not in shown
    assert file.where in str(caught.value)


def test_the_hub_says_no_in_its_own_words(made: Make, hub: Callable[..., HubServer]) -> None:
    server, fetcher, file = made()
    files = Revision({PATH: DATA})
    for name, more in {
        "gated": {"gated": True},
        "private": {"private": True, "readers": ["x"]},
        "off": {"disabled": True},
    }.items():
        server.add(Repo(f"org/{name}", {"main": files}, **more))
    wanted = {
        HubFile("org/gated", "main", PATH, SIZE, None): ("hub-gated", Refused),
        HubFile("org/private", "main", PATH, SIZE, None): ("hub-no-repository", NotFound),
        HubFile("org/off", "main", PATH, SIZE, None): ("hub-disabled", Refused),
        HubFile("org/none", "main", PATH, SIZE, None): ("hub-no-repository", NotFound),
        HubFile(NAME, "f" * 40, PATH, SIZE, None): ("hub-no-revision", NotFound),
        HubFile(NAME, file.commit, "other.bin", SIZE, None): ("hub-no-file", NotFound),
    }
    for other, (kind, tree) in wanted.items():
        before = server.stats()["requests"]
        with pytest.raises(tree) as caught:
            fetched(fetcher, other, 0, 10)
        assert caught.value.kind == kind
        assert server.stats()["requests"] == before + 1  # asked once: it will not pass
    server.faults.require_token = "another"
    with pytest.raises(Refused) as caught:
        fetched(fetcher, file, 0, 10)
    assert caught.value.kind == "hub-unauthorized"


def test_another_digest_commit_or_size_is_another_file(made: Make) -> None:
    server, fetcher, file = made()
    moved = server.move_branch(NAME, "main", Revision({PATH: DATA[::-1], "config.json": SMALL}))
    for other in (
        HubFile(NAME, file.commit, PATH, SIZE, "0" * 64),
        HubFile(NAME, moved, PATH, SIZE, file.sha256),
        HubFile(NAME, file.commit, PATH, SIZE + 5, file.sha256),
    ):
        with pytest.raises(TryAgain) as caught:
            fetched(fetcher, other, 0, 10)
        assert caught.value.kind == "hub-file-changed"
        assert fetcher.counters.bytes == 0
    assert fetched(fetcher, file) == DATA  # the branch moved on; its old commit is what was listed


def test_a_small_file_comes_from_the_hub_itself(made: Make) -> None:
    server, fetcher, _ = made()
    assert fetched(fetcher, remote(server, "config.json", len(SMALL)), 0, len(SMALL)) == SMALL
    assert server.stats()["kinds"]["cdn"] == 0


def test_offline_means_that_nothing_is_asked(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    server, fetcher, file = made()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Refused) as caught:
        fetched(fetcher, file, 0, 10)
    assert caught.value.kind == "hub-offline"
    assert server.stats()["requests"] == 0


def test_large_ranges_need_little_memory(made: Make, tmp_path: Path) -> None:
    import tracemalloc

    server, fetcher, _ = made()
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(2**26)
    server.add(Repo("org/big", {"main": Revision({"big.bin": big})}))
    wanted = HubFile("org/big", server.repos["org/big"].heads["main"].id, "big.bin", 2**26, None)
    fetched(fetcher, remote(server), 0, 10)
    tracemalloc.start()
    fetcher.fetch_all([(wanted, i * 2**23, (i + 1) * 2**23, Scatter([(2**23, None)])) for i in range(8)])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 * 2**20
