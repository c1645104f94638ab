"""Have processes of their own do the work of requests that takes long, so that it holds up no answer and can be ended.

A process does one request at a time, and is kept for the next. One that does not end when it is told to is killed.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydantic import BaseModel
from pydantic_core import to_json

from api.purposes import ANSWER, PLAN, Purpose
from api.work_messages import ANSWER as ANSWERED
from api.work_messages import (
    BEGUN,
    CANCELLED,
    ERROR,
    FILE,
    READY,
    REQUEST,
    STOP,
    Head,
    Inbox,
    Message,
    error_of,
    packed,
)
from trajsvc.errors import Cancelled
from trajsvc.jobs.spec import JobSpec
from trajsvc.settings import ServiceSettings
from trajsvc.sources.transport.cancel import SLICE, Stop

START: Final = 120.0
"""Seconds that a process may take to begin; the first one waits for the imports of all."""
GRACE: Final = 2.0
"""Seconds between telling a process to stop and killing it."""
MARGIN: Final = 5.0
"""Seconds beyond ``plan_seconds`` and ``answer_seconds`` in which a process says itself what it waited for."""
ATTEMPTS: Final = 3
"""New processes that may die before they begin a request: what forks them may just have died."""
IDLE: Final = 4
"""Processes of each purpose that are kept while nothing is asked."""


class _Process:
    """The server's side of one process."""

    def __init__(self, connection: socket.socket, purpose: Purpose) -> None:
        self.connection, self._purpose = connection, purpose
        self.told = False
        """whether it was told to stop, and must not be asked again"""
        self._inbox = Inbox(connection)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def close(self) -> None:
        """End the process, or leave it to end once it has read that nobody asks it any more."""
        self._inbox.close()
        self.connection.close()

    def ask(self, request: bytes, seconds: float, stop: Stop) -> Message | None:
        """Return the answer; None if the process ended before it began.

        Raises Cancelled, and TryAgain (that it took too long, or died).
        """
        pid, end, kill_at = 0, time.monotonic() + START, 0.0
        with suppress(OSError):
            self.connection.sendall(packed(REQUEST, request))
        while True:
            if self._poll.poll(1e3 * SLICE) and not self._inbox.receive():
                if not pid and not stop():
                    return None
                break
            while (message := self._inbox.take()) is not None:
                if message.kind != BEGUN:
                    return message
                pid, end = int(message.content), time.monotonic() + seconds + MARGIN
            now = time.monotonic()
            if kill_at and now > kill_at:
                break
            if not kill_at and (now > end or stop()):
                kill_at, self.told = now + GRACE, True
                with suppress(OSError):
                    self.connection.sendall(packed(STOP))
        if pid and kill_at:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if stop():
            raise Cancelled
        if kill_at:
            raise self._purpose.slow(seconds)
        raise self._purpose.died()


class WorkProcesses:
    """The processes of one server. Safe from any thread."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._forked: BaseProcess | None = None
        self._settings = settings.model_dump(mode="json", exclude={"token"})
        self._seconds = {PLAN.key: settings.plan_seconds, ANSWER.key: settings.answer_seconds}
        self._idle: dict[bytes, list[_Process]] = {PLAN.key: [], ANSWER.key: []}
        self._lock = threading.Lock()
        self._forking: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready = False

    def fork(self, serve: Callable[[socket.socket, socket.socket], None]) -> None:
        """Start what forks the processes, ``work_server.forked``, as a fork of this process, with which it shares its imports.

        For a process that has imported the application and has no threads yet: a thread that holds a lock would hold it for ever in the
        fork. Where this is not called or there are threads, and when that process has died, ``start`` starts a Python, which imports
        everything again.
        """
        if not one_thread():
            return
        gc.collect()
        gc.freeze()  # what the two share is not written to
        with self._lock:
            self._socket, theirs = socket.socketpair()
            with theirs:
                self._forked = multiprocessing.get_context("fork").Process(
                    target=serve, args=(theirs, self._socket), daemon=True
                )
                self._forked.start()

    def start(self) -> None:
        """Start what forks the processes, unless it has been started, without waiting for it."""
        with self._lock:
            self._started()

    def ready(self) -> bool:
        """Return whether what forks the processes has imported what they need: until then a new one takes seconds."""
        with self._lock:
            if not self._ready and self._socket is not None:
                with suppress(OSError):  # nothing was said yet, or it has died
                    self._ready = self._socket.recv(len(READY), socket.MSG_DONTWAIT) == READY
            return self._ready

    def run(self, work: str, stop: Stop, **arguments: Any) -> bytes:
        """Return the JSON that one of ``api.work.WORK`` makes of ``arguments``.

        Raises what it raises, as an error of the same kind, and Cancelled, TryAgain (``planning-slow``, ``planning-died``).
        """
        return self._result(PLAN, work, stop, arguments).content

    def spec(self, work: str, stop: Stop, **arguments: Any) -> JobSpec:
        """Return the job's spec that ``run`` makes of ``arguments``; raises as it does."""
        return JobSpec.model_validate_json(self.run(work, stop, **arguments))

    def answer(self, request: Mapping[str, Any], stop: Stop) -> tuple[Head, bytes | BinaryIO]:
        """Return the answer to a request as ``api.answer_work`` describes one: its body as bytes, or as a file if it is large.

        Raises Cancelled, TryAgain (``answer-slow``, ``answer-died``).
        """
        message = self._result(ANSWER, "answer", stop, request)
        if message.kind == FILE and message.file is not None:
            return Head.parse(message.content), open(message.file, "rb", buffering=0)
        if message.kind != ANSWERED:
            raise ANSWER.died()
        line, _, body = message.content.partition(b"\n")
        return Head.parse(line), body

    def _result(self, purpose: Purpose, work: str, stop: Stop, arguments: Mapping[str, Any]) -> Message:
        seconds = self._seconds[purpose.key]
        facts = {"work": work, "seconds": seconds, "settings": self._settings, "arguments": _plain(arguments)}
        request, answer, new = to_json(facts), None, 0
        while answer is None:
            process, kept = self._process(purpose)
            new += not kept
            try:
                answer = process.ask(request, seconds, stop)
            except BaseException:
                process.close()
                raise
            if answer is None:
                process.close()
                if new == ATTEMPTS:
                    raise purpose.none_started()
        self._keep(process, purpose)
        if answer.kind != ERROR:
            return answer
        error = error_of(answer.content)
        if error.kind == CANCELLED:
            if stop():
                raise Cancelled
            raise purpose.slow(seconds)
        raise error

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            for idle in self._idle.values():
                for process in idle:
                    process.close()
                idle.clear()
            self._end()

    def _process(self, purpose: Purpose) -> tuple[_Process, bool]:
        """Return a process, and whether it has worked before."""
        with self._lock:
            if self._idle[purpose.key]:
                return self._idle[purpose.key].pop(), True
            for _ in range(2):
                ours, theirs = socket.socketpair()
                with theirs:
                    try:
                        socket.send_fds(self._started(), [purpose.key], [theirs.fileno()])
                        return _Process(ours, purpose), False
                    except OSError:  # it has died
                        ours.close()
                        self._end()
        raise purpose.none_started()

    def _keep(self, process: _Process, purpose: Purpose) -> None:
        with self._lock:
            if self._socket is not None and not process.told and len(self._idle[purpose.key]) < IDLE:
                self._idle[purpose.key].append(process)
                return
        process.close()

    def _started(self) -> socket.socket:
        if self._socket is None or not self._lives():
            self._end()
            self._socket, theirs = socket.socketpair()
            path = os.pathsep.join(p for p in sys.path if p)
            with theirs:
                # A group of its own: ^C in a terminal is for the server. One thread: it forks.
                self._forking = subprocess.Popen(
                    [sys.executable, "-P", "-m", "api.work_server"], stdin=theirs.fileno(), stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                    process_group=0,
                )  # fmt: skip
        return self._socket

    def _lives(self) -> bool:
        if self._forked is not None:
            return self._forked.is_alive()
        return self._forking is not None and self._forking.poll() is None

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._forking is not None:
            self._forking.kill()
            self._forking.wait()
        if self._forked is not None:
            self._forked.kill()
            self._forked.join()
        self._socket = self._forking = self._forked = None
        self._ready = False


def one_thread() -> bool:
    """Return whether this process has one thread, those that libraries started counted. False where that cannot be told (not on Linux)."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir()) == 1
    except OSError:
        return False


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as JSON values; of a request's body only what was sent, as what is left out has defaults."""
    return {
        name: value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value
        for name, value in arguments.items()
    }
