"""^C at any instant of a command: exit code 130, no traceback, a whole result or none, and nothing unfinished left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from interrupted_child import NOT_YET
from slow_params import slow_but

pytestmark = [pytest.mark.timing, pytest.mark.dear]

CHILD = Path(__file__).with_name("interrupted_child.py")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pythia-nano"
GOLDEN = (5**0.5 - 1) / 2
"""multiples of it, without their whole parts, leave no large gap"""
LATE = 10
"""events between the program's last own line and the end of counting"""

FAMILY = f"""name = "nanos"
[[runs]]
source = "{EXAMPLE}"
name = "first"
[[runs]]
source = "{EXAMPLE}"
name = "second"
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``events`` is None where it was left at once."""

    code: int
    out: str
    errors: str
    events: int | None


def run(
    words: list[str], store: Path, folder: Path, *instants: int, before: Callable[[], object] | None = None
) -> Ended:
    """Run a command, with SIGINT at these events; ``before`` is called in the process before anything else."""
    reader, writer = os.pipe()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRAJSVC", "FORCE_COLOR", "COLUMNS"))}
    environment = {**kept, "TRAJSVC_STORE": str(store), "PYTHONPATH": os.pathsep.join(sys.path), "TRAJSVC_THREADS": "2"}
    command = [sys.executable, str(CHILD), str(writer), ",".join(map(str, instants)), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, pass_fds=[writer], cwd=folder, env=environment,
            preexec_fn=before,
        )  # fmt: skip
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as told:
        events = told.read()
    return Ended(done.returncode, done.stdout, done.stderr, int(events) if events else None)


def spread(total: int, count: int, turn: int = 0) -> list[int]:
    """``count`` instants from the first event to the last, the last few among them; other ones in every ``turn``."""
    inner = [round(total * (k + (0.37 + turn * GOLDEN) % 1) / count) for k in range(count)]
    return sorted({*inner, total - LATE - 2})


def check(ended: Ended, at: int, total: int, whole: Callable[[str], bool]) -> None:
    """What holds wherever the signal came."""
    told = f"at event {at} of {total}: exit code {ended.code}\n{ended.errors}"
    assert "Traceback" not in ended.errors, told
    assert "Exception ignored" not in ended.errors, told
    assert ended.out == "" or whole(ended.out), f"{told}\npart of a result: {ended.out!r}"
    if ended.code == NOT_YET:
        assert at < 200, told
    elif ended.code == 0:
        assert at > total - 5 * LATE, told
        assert whole(ended.out), f"{told}\nno result: {ended.out!r}"
    else:
        assert ended.code == 130, told


def is_json(text: str) -> bool:
    return text.endswith("\n") and isinstance(json.loads(text), dict)


def is_nothing(text: str) -> bool:
    return text == ""


COMMANDS: dict[str, tuple[list[str], Callable[[str], bool]]] = {
    "measures": (["measures", "nano", "--format", "json"], is_json),
    "analyze": (["analyze", str(EXAMPLE), "--store", "own", "--no-figures", "--format", "json"], is_json),
    "plan": (["plan", str(EXAMPLE), "--format", "json"], is_json),
    "batch": (["batch", "family.toml", "--store", "own", "--format", "json"], is_json),
    "watch": (["watch", str(EXAMPLE), "--store", "own", "--once", "--settle", "0"], is_nothing),
    "map": (["map", "nano", "-o", "map.npz"], is_nothing),
}
FEW = {"measures": 4, "analyze": 4, "plan": 2, "batch": 2, "watch": 1, "map": 2}
MANY = {"measures": 20, "analyze": 20, "plan": 10, "batch": 10, "watch": 10, "map": 10}
"""Instants of a sweep; the last four begin and go on as one of the first two does."""


@pytest.fixture
def turn(request: pytest.FixtureRequest) -> int:
    """Which repetition of a test this is: each meets instants of its own."""
    return int(request.node.callspec.params.get("repetition", 0))


def sweep(command: str, store: Path, folder: Path, count: int, turn: int) -> None:
    words, whole = COMMANDS[command]

    def place(name: str) -> Path:
        (folder / name).mkdir()
        (folder / name / "family.toml").write_text(FAMILY)
        return folder / name

    undisturbed = run(words, store, place("undisturbed"))
    assert undisturbed.code == 0, undisturbed.errors
    assert undisturbed.events is not None
    for at in spread(undisturbed.events, count, turn):
        own = place(str(at))
        check(run(words, store, own, at), at, undisturbed.events, whole)
        assert not list(own.glob(".*.partial"))
        if (own / "map.npz").exists():
            assert np.load(own / "map.npz")["map"].ndim == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", slow_but(COMMANDS, ["measures", "analyze"]))
def test_an_interrupt_at_any_instant_exits_130_without_a_traceback(
    command: str, store: Path, tmp_path: Path, turn: int
) -> None:
    sweep(command, store, tmp_path, FEW[command], turn)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_at_many_instants_exits_130_without_a_traceback(
    command: str, store: Path, tmp_path: Path, turn: int
) -> None:
    sweep(command, store, tmp_path, MANY[command], turn)


@pytest.mark.slow
@pytest.mark.parametrize("apart", slow_but([1, 200], [200]))
def test_a_second_interrupt_exits_130_without_a_traceback(apart: int, store: Path, tmp_path: Path) -> None:
    words, whole = COMMANDS["analyze"]
    (tmp_path / "undisturbed").mkdir()
    total = run(words, store, tmp_path / "undisturbed").events
    assert total is not None
    for at in spread(total, 2)[:-1]:
        own = tmp_path / str(at)
        own.mkdir()
        check(run(words, store, own, at, at + apart), at, total, whole)


@pytest.mark.slow
def test_what_was_interrupted_is_brought_to_its_end_by_the_same_command(store: Path, tmp_path: Path) -> None:
    words, _ = COMMANDS["analyze"]
    whole = run(words, store, tmp_path)
    assert whole.events is not None
    other = tmp_path / "other"
    other.mkdir()
    for at in (whole.events // 2, whole.events * 3 // 4):
        assert run(words, store, other, at).code == 130
    again = run(words, store, other)
    assert again.code == 0, again.errors
    assert json.loads(again.out)["summary"] == json.loads(whole.out)["summary"]


def test_an_interrupt_that_the_parent_had_ignored_is_one(store: Path, tmp_path: Path) -> None:
    def ignore() -> None:  # as a shell does for what it runs in the background
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    total = run(["ls"], store, tmp_path, before=ignore).events
    assert total is not None
    ended = run(["ls"], store, tmp_path, total // 2, before=ignore)
    assert (ended.code, ended.out, ended.errors) == (130, "", "interrupted\n")


PLACES = {
    "in a destructor": "class Late:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGINT)\nLate()",
    "in code that takes every error for another": (
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(600)\n"
        "except BaseException as error:\n    raise ImportError('numpy.core.multiarray failed to import') from error"
    ),
    "while a thread is waited for": (
        "thread = threading.Thread(target=time.sleep, args=(600,))\nthread.start()\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\nthread.join()"
    ),
    "after the last line": (
        "threading.Thread(target=time.sleep, args=(600,)).start()\nimport atexit\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()"
    ),
    "at exit": "import atexit\natexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(600)))",
}


@pytest.mark.parametrize("where", slow_but(PLACES, ["in a destructor", "while a thread is waited for"]))
def test_an_interrupt_is_not_lost(where: str, store: Path) -> None:
    code = (
        "import os, signal, sys, threading, time\nfrom trajsvc.cli.main import run\nfrom trajsvc.results import answers\n"
        f"real = answers.run_row\ndef row(*given):\n    exec({PLACES[where]!r}, globals())\n    return real(*given)\n"
        "answers.run_row = row\nsys.argv = ['trajsvc', 'ls']\nrun()"
    )
    environment = {**os.environ, "TRAJSVC_STORE": str(store), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert done.stdout == "" or where in ("after the last line", "at exit")


@pytest.mark.parametrize("unbuffered", slow_but(["", "1"], [""]))
def test_a_reader_that_waits_gets_a_whole_result_and_a_second_interrupt_ends_the_wait(
    store: Path, unbuffered: str
) -> None:
    # More than a pipe holds, which nobody reads: the command waits in the middle of its result.
    code = (
        "import sys\nfrom trajsvc.cli.main import run\nfrom trajsvc.results import answers\nreal = answers.run_row\n"
        "def row(run):\n    return real(run).model_copy(update={'source': 'x' * 2**18})\n"
        "answers.run_row = row\nsys.argv = ['trajsvc', 'ls', '--format', 'json']\nrun()"
    )
    environment = {
        **os.environ, "TRAJSVC_STORE": str(store), "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": unbuffered,
    }  # fmt: skip
    for patient in (True, False):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            start = process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            if patient:
                assert len(json.loads(start + process.stdout.read())) == 3
            else:
                while process.poll() is None:  # one signal that is not handled yet hides the next
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.2)
                    process.send_signal(signal.SIGINT)
            assert process.wait(300) == 130
            assert b"Traceback" not in process.stderr.read()
