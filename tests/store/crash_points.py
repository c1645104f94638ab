"""A writer that stands still before each change of a file, so that what a death at that instant leaves can be looked at.

The writer runs once. Before each of its changes it stops all of its threads with SIGSTOP; the files below its store are then exactly
those that ``kill -9`` at that instant would leave, and are copied to another folder for the test. The writer goes on with SIGCONT.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crash_child

from storage_schema.runs.store import RunStore

CHANGES = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"})
"""Audit events of every way from Python to a change of a file; an ``open`` counts where it may write."""


def crash_points(root: Path, copy: Path, work: str = "commit_once") -> Iterator[int]:
    """Have a function of ``crash_child`` write to the store at ``root``, by default one more generation.

    Yields the number of each change before it is made, from 1 on.
    While the caller has the number, ``copy`` holds the files that a death before that change leaves. The last number is one more than
    there are changes: ``copy`` then holds what the finished commit left.
    """
    words = [sys.executable, __file__, str(root), work]
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    writer = subprocess.Popen(words, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    assert writer.stdin is not None
    number = 0
    try:
        while _stopped(writer.pid):
            number += 1
            yield _copied(root, copy, number)
            writer.send_signal(signal.SIGCONT)
            writer.stdin.write(b".")
            writer.stdin.flush()
        assert writer.wait() == 0
        yield _copied(root, copy, number + 1)
    finally:
        writer.kill()
        writer.wait()
        writer.stdin.close()


def _stopped(pid: int) -> bool:
    """Wait until the process stands still, or ends (False)."""
    found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert found is not None
    if found.si_code != os.CLD_STOPPED:
        return False
    os.waitid(os.P_PID, pid, os.WSTOPPED)  # the report is taken
    return True


def _copied(root: Path, copy: Path, number: int) -> int:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy)
    return number


def stop_at_every_change(root: str, work: str) -> None:
    """Write, standing still before each change of a file below ``root`` until a byte comes on standard input."""
    crash_child.prepare()
    one_at_a_time = threading.Lock()

    def stop(name: str, args: tuple[Any, ...]) -> None:
        if name not in CHANGES or not str(args[0]).startswith(root) or (name == "open" and not _writes(args)):
            return
        with one_at_a_time:
            os.kill(os.getpid(), signal.SIGSTOP)
            os.read(0, 1)

    sys.addaudithook(stop)
    getattr(crash_child, work)(RunStore(root))


def _writes(args: tuple[Any, ...]) -> bool:
    flags = args[2] if isinstance(args[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


if __name__ == "__main__":
    stop_at_every_change(*sys.argv[1:])
