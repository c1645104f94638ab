"""Every test that waits is marked ``timing``, so that ``make test-timing`` and ``make test-timing-dear`` repeat it; and few others are."""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import Suite, Test

WHOLE = {
    "jobs/test_dask_pool.py": "workers and schedulers that come, stay away and are lost",
    "jobs/test_job_order.py": "what was submitted first, by numbers and by clocks that are set back",
    "doors/test_interrupts.py": "signals at any instant, sent by a child to itself",
}
"""Files that are marked as a whole, and what they say of time that cannot be read in their sources."""

HELPERS = """
import threading, time
from dataclasses import dataclass

@dataclass
class Door:
    def close(self): time.sleep(1)
    def open(self): pass

class HubServer:
    def start(self): threading.Thread(target=print).start()

def apart():
    threading.Thread(target=print).start()
"""
CONFTEST = """
import pytest, subprocess
@pytest.fixture
def child(): yield subprocess.Popen(["true"])
@pytest.fixture(scope="session")
def shared(): yield subprocess.Popen(["true"])
"""
WAITING = {
    "direct(): time.sleep(1)": "sleeps",
    "helper(): apart()": "starts a thread",
    "method(): Door().close()": "sleeps",
    "fixture(child): pass": "starts a process",
    "kill(shared): os.kill(shared.pid, 9)": "sends a signal",
    "late(hub): hub.faults.latency_ms = 50": "waits for a slow answer",
    "page(open_page): open_page('x')": "steers a browser",
    "inner(): [lambda: apart()][0]()": "starts a thread",
}
STILL = (
    "other_method(): Door().open()", "asks(shared): shared.poll()", "serves(): HubServer().start()", "clock(clock): clock.sleep(1)",
    "run(): subprocess.run(['true'])", "typed(door: Door): door",
)  # fmt: skip


@pytest.fixture(scope="module")
def tests() -> list[Test]:
    return list(Suite().all())


def test_every_test_that_waits_is_marked(tests: list[Test]) -> None:
    unmarked = {t.name: sorted(t.deeds) for t in tests if t.deeds and not t.marked}
    assert unmarked == {}, "mark them timing, and dear too where they take more than a second"


def test_a_file_is_marked_as_a_whole_only_where_all_of_it_waits(tests: list[Test]) -> None:
    still = [t.name for t in tests if t.whole and not t.deeds and t.name.partition("::")[0] not in WHOLE]
    assert still == [], "mark the tests that wait, one by one"


def test_what_is_dear_waits(tests: list[Test]) -> None:
    assert [t.name for t in tests if t.dear and not t.marked] == []


def test_waiting_is_found_through_helpers_fixtures_and_methods(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "inner" / "helping.py").write_text(HELPERS)
    lines = ["import os, subprocess, time", "from helping import Door, HubServer, apart"]
    lines += [f"def test_{line}" for line in (*WAITING, *STILL)]
    (tmp_path / "inner" / "test_them.py").write_text("\n".join(lines))
    found = {t.name.rpartition("::test_")[2]: set(t.deeds) for t in Suite(tmp_path).all()}
    assert found == {
        **{line.partition("(")[0]: {deed} for line, deed in WAITING.items()},
        **{line.partition("(")[0]: set() for line in STILL},
    }


def test_marks_are_read_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "@mark.timing\ndef test_a(): pass\ndef test_b(): pass\n@mark.timing\n@mark.dear\nclass TestC:\n    def test_d(self): pass\n"
    )
    (tmp_path / "test_two.py").write_text("pytestmark = [mark.slow, mark.timing]\ndef test_e(): pass\n")
    found = {t.name.rpartition("::")[2]: (t.marked, t.dear, t.whole) for t in Suite(tmp_path).all()}
    assert found == {
        "test_a": (True, False, False), "test_b": (False, False, False), "test_d": (True, True, False), "test_e": (True, False, True),
    }  # fmt: skip
