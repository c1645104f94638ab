"""Many requests at once: they stop together, at the first error or when they are asked to."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hub_faults import Fault
from hub_fetching import DATA, NAME, SIZE, Make, fetched, fetching, pieces
from hub_server import HubServer

from trajsvc.errors import NotFound
from trajsvc.sources.hub.remote_file import HubFile
from trajsvc.sources.transport.cancel import Interrupted
from trajsvc.sources.transport.scatter import Scatter

pytestmark = pytest.mark.timing


@pytest.fixture
def made(hub: Callable[..., HubServer]) -> Iterator[Make]:
    with fetching(hub) as make:
        yield make


def test_the_first_error_stops_the_others(made: Make) -> None:
    server, fetcher, file = made(connections=4)
    missing = HubFile(NAME, file.commit, "missing.bin", SIZE, None)
    server.faults.latency_ms = 20
    out = memoryview(bytearray(SIZE))
    wanted = [(file, i * 1000, i * 1000 + 1000, Scatter([(1000, out[:1000])])) for i in range(400)]
    wanted.insert(8, (missing, 0, 10, Scatter([(10, out[:10])])))
    with pytest.raises(NotFound):
        fetcher.fetch_all(wanted)
    assert server.stats()["requests"] < 100


def test_threads_share_a_fetcher(made: Make) -> None:
    server, fetcher, file = made(connections=4)
    server.faults.cut_at = Fault(0.5, rate=0.2)
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(pieces(fetcher, file, 6) == DATA)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 6
    assert fetcher.counters.bytes == 6 * SIZE


@pytest.mark.parametrize(
    ("fault", "value"),
    [("latency_ms", 120_000.0), ("stall_s", 120.0), ("trickle", 2000.0), ("rate_limited", True), ("fail_rate", 1.0)],
)
def test_stop_is_heard_while_waiting(made: Make, fault: str, value: Any) -> None:
    server, fetcher, file = made(stall_seconds=120.0, backoff=120.0)
    server.faults.retry_s = 120
    server.faults.put(fault, value)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        fetched(fetcher, file, 0, SIZE, stop=stop.is_set)
    assert time.monotonic() - begun < 60


def test_stop_is_heard_while_others_use_the_connections(made: Make) -> None:
    server, fetcher, file = made(stall_seconds=120.0, connections=1)
    fetched(fetcher, file, 0, 10)
    server.faults.stall_s = 120.0
    stop_first, stop_second = threading.Event(), threading.Event()
    interrupted: list[bool] = []

    def occupy() -> None:
        with pytest.raises(Interrupted):
            fetched(fetcher, file, stop=stop_first.is_set)
        interrupted.append(True)

    first = threading.Thread(target=occupy)
    first.start()
    time.sleep(0.3)
    threading.Timer(0.3, stop_second.set).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        fetched(fetcher, file, 0, SIZE, stop=stop_second.is_set)
    assert time.monotonic() - begun < 60
    stop_first.set()
    first.join()
    assert interrupted


def test_all_requests_stop_together(made: Make) -> None:
    server, fetcher, file = made(stall_seconds=120.0)
    server.faults.stall_s = 120.0
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    out = memoryview(bytearray(SIZE))
    begun = time.monotonic()
    fetcher.fetch_all([(file, 0, SIZE, Scatter([(SIZE, out)])) for _ in range(40)], stop.is_set)
    assert time.monotonic() - begun < 60


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """What ^C does: the signal itself, which wakes a thread that waits; handled as Python does where the tests run with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_no_sink_is_touched_after_an_interrupt_from_the_keyboard(made: Make, interrupt: Callable[[], None]) -> None:
    server, fetcher, file = made(stall_seconds=120.0, connections=4)
    server.faults.trickle = 100_000.0

    class Counting:
        def __init__(self) -> None:
            self.view, self.count = memoryview(bytearray(10_000)), 0

        def room(self) -> memoryview:
            return self.view

        def take(self, count: int) -> None:
            self.count += count

    sinks = [Counting() for _ in range(40)]
    gc.collect()
    gc.disable()  # in the finalizer of what other tests left, an interrupt would be told to stderr only
    threading.Timer(0.5, interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fetcher.fetch_all([(file, 0, SIZE, sink) for sink in sinks])
    finally:
        gc.enable()
    taken = [sink.count for sink in sinks]
    assert 0 < sum(taken) < 40 * SIZE
    time.sleep(0.3)
    assert [sink.count for sink in sinks] == taken
