"""The process that forks the processes which work for a server: a fork of the server that has not begun, or ``python -m api.work_server``,
with a socket as standard input.

It imports once what the work needs and has no thread but its first, so that a fork takes milliseconds and shares the
memory of the imports; then it says that it is ready. Each byte that comes through the socket brings the socket of one
process to be forked. It ends when the server's end of its socket is closed, however the server ended; a forked process
ends with its own socket.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.purposes import ANSWER, PURPOSES, Purpose
from api.resources import Resources
from api.work import WORK
from api.work_messages import BEGUN, CANCELLED, ERROR, READY, REQUEST, RESULT, STOP, Inbox, error_content, packed
from storage_schema.files.system_errors import of_any
from trajsvc.errors import Cancelled, TrajsvcError
from trajsvc.jobs.database import unreachable
from trajsvc.logs import configure
from trajsvc.settings import ServiceSettings

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
OVERDUE: Final = 30.0
"""Seconds beyond a request's time after which the kernel ends a process that the server has not ended."""
REQUESTS: Final = 200
"""Requests that one process does before it ends, so that nothing can accumulate."""
GROWTH: Final = 64 * 2**10
"""KiB of memory that a process may have grown by in a request to be used for another."""

log = structlog.get_logger()


MODULES: Final = (
    "api.answer_work", "re2", "trajsvc.analysis.audit", "trajsvc.analysis.forecast", "trajsvc.analysis.selected",
    "trajsvc.jobs.options", "trajsvc.results.labels", "trajsvc.sources.hub.source", "encodings.idna", "huggingface_hub.errors", "yaml",
    "filelock", "matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
)  # fmt: skip
"""What the work needs, the most urgent first."""


def prepare(wanted: Callable[[], bool] = lambda: False) -> bool:
    """Import what the work needs, so that every forked process has it. Return False if one was ``wanted`` before all is imported."""
    for module in MODULES:
        if wanted():
            return False
        import_module(module)
    from huggingface_hub import get_session, get_token

    get_session()
    get_token()
    gc.collect()
    gc.freeze()
    return True


def main() -> None:
    """Serve the socket that is the standard input."""
    serve(socket.socket(fileno=0))


def forked(server: socket.socket, others: socket.socket) -> None:
    """Serve ``server`` in a fork of the process that has its other end, ``others``."""
    others.close()  # or the end of the server's process would not be seen
    os.setpgid(0, 0)  # ^C in a terminal is for the server
    _forget_signals()
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    _close_all_but({0, 1, 2, server.fileno()})
    _call("trajsvc-work")
    serve(server)


def serve(server: socket.socket) -> None:
    """Fork a process for every socket that comes, until there is no server."""
    os.nice(min(purpose.nice for purpose in PURPOSES.values()))
    configure("planner")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    poll = select.poll()
    poll.register(server, select.POLLIN)
    prepared = False
    while True:
        if not prepared and (prepared := prepare(lambda: bool(poll.poll(0)))):
            with suppress(OSError):  # the server has gone
                server.sendall(READY)
        try:
            came, descriptors, _, _ = socket.recv_fds(server, 1, 1)
        except ConnectionResetError:  # the server has gone before it read that this is ready
            return
        if not came:
            return
        with socket.socket(fileno=descriptors[0]) as connection:
            try:
                forked = os.fork()
            except OSError as error:  # the server sees a closed socket
                log.warning("cannot-fork", error=str(error))
                continue
            if forked == 0:
                server.close()
                work(connection, PURPOSES[came])


def work(connection: socket.socket, purpose: Purpose) -> None:
    """Do requests one after the other; never return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    os.nice(purpose.nice - os.nice(0))
    requests: SimpleQueue[bytes] = SimpleQueue()
    over = threading.Event()
    threading.Thread(target=_watch, args=(connection, requests, over), daemon=True).start()
    first = _memory()
    for _ in range(REQUESTS):
        content = requests.get()
        connection.sendall(packed(BEGUN, str(os.getpid()).encode()))
        request = json.loads(content)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"] + OVERDUE)  # SIGALRM ends the process
        if purpose is ANSWER:
            _send_answer(connection, request)
        else:
            connection.sendall(_answer(request, over))
        signal.setitimer(signal.ITIMER_REAL, 0)
        if _memory() > first + GROWTH:
            break
    os._exit(0)


def die_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends, whatever this one does then (Linux)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it has ended already
        os._exit(0)


def _forget_signals() -> None:
    """Handle signals as a new program does."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _close_all_but(kept: set[int]) -> None:
    """Close the descriptors that the server has, or was given: a pipe held open here would seem open to whoever reads it."""
    for descriptor in {int(entry.name) for entry in Path("/proc/self/fd").iterdir()} - kept:
        with suppress(OSError):  # the listing's own is closed by now
            os.close(descriptor)


def _call(name: str) -> None:
    """Have ``ps`` and ``top`` call this process by a name of its own (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:15])


def _send_answer(connection: socket.socket, request: dict[str, Any]) -> None:
    """Answer a request for a result."""
    from api import answer_work

    try:
        answer_work.send(connection, _settings(request), request["arguments"])
    except TrajsvcError as error:
        connection.sendall(packed(ERROR, error_content(error)))
    except BaseException as error:
        log.error("unforeseen", work=request["work"], exc_info=error)
        connection.sendall(packed(ERROR, error_content(of_any(error) or _internal())))


def _internal() -> TrajsvcError:
    return TrajsvcError("internal", "an error that was not foreseen", hint="The server's log has it whole.")


def _watch(connection: socket.socket, requests: SimpleQueue[bytes], over: threading.Event) -> None:
    """Pass on what the server says; end the process at once if the server closes the socket or is gone."""
    inbox = Inbox(connection)
    while inbox.receive():
        while (message := inbox.take()) is not None:
            if message.kind == REQUEST:
                requests.put(message.content)
            elif message.kind == STOP:
                over.set()
    os._exit(0)


_read: dict[str, ServiceSettings] = {}
_held: dict[int, Resources] = {}
"""by the settings' ``id``: they are kept"""


def _settings(request: dict[str, Any]) -> ServiceSettings:
    """Return the settings of a request, which are read once: to look for them in files takes longer than a small answer."""
    key = json.dumps(request["settings"])
    if key not in _read:
        _read[key] = ServiceSettings(**request["settings"])
    return _read[key]


def _answer(request: dict[str, Any], over: threading.Event) -> bytes:
    """Return the message that answers a request."""
    try:
        settings = _settings(request)
        key = id(settings)
        if key not in _held:
            _held[key] = Resources.attached(settings)
        return packed(RESULT, WORK[request["work"]](_held[key], request["arguments"], over.is_set).encode())
    except Cancelled:
        return packed(ERROR, error_content(TrajsvcError(CANCELLED, "the work was asked to stop")))
    except TrajsvcError as error:
        return packed(ERROR, error_content(error))
    except SQLAlchemyError as error:
        return packed(ERROR, error_content(unreachable(error)))
    except BaseException as error:
        log.error("unforeseen", work=request["work"], exc_info=error)
        return packed(ERROR, error_content(of_any(error) or _internal()))


def _memory() -> int:
    """Return the most memory that the process has had, in KiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
