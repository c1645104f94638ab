"""Handle ^C in the command line: exit code 130, no traceback, and no partial result on stdout, at any time.

Python's default, a KeyboardInterrupt wherever the program happens to be, does not achieve that: raised during an import
it may come out as another error, in a destructor it is printed and ignored, after the program's last line it is a
traceback; and if the parent ignored SIGINT, as a shell does for its background jobs, there is none. Instead, for the
whole process:

- a command that has nothing to finish exits at once, in the signal's handler;
- a command that has (an analysis, a server) registers with ``asked`` what to do at the first ^C; the second one exits at once;
- SIGINT is recorded when it arrives, whoever handles it, and a process that got one ends with 130 whatever else it would have ended with;
- results are held back until the command has ended, and then written as a whole.

Exiting removes unfinished result files. Everything else that may be left behind, in the store, the journal or the
database, is designed to survive a process that is killed at any instant.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # importing typing would take longer than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType
    from typing import TextIO

INTERRUPTED = 130
_FAILED = 1
_TRY_AGAIN = 75
_SHOW_CURSOR = b"\x1b[?25h\n"

_unfinished: list[Path] = []
_leaving: list[int] = []
_held: list[io.TextIOWrapper[_Held]] = []
_guarded: list[bool] = []
_closed: list[int] = []


def guarded(program: Callable[[], object]) -> None:
    """Run ``program``, which ends the process, with this module's rules for ^C. Raises SystemExit, or what ``program`` raises."""
    _fill_standard_streams()
    interrupted = _take_over()
    _guarded.append(True)
    ending: BaseException = SystemExit(0)
    try:
        program()
    except BaseException as raised:
        ending = SystemExit(0) if _reader_left(raised) else raised
    whole = release_results() and _flushed()
    if interrupted():
        ending = SystemExit(INTERRUPTED)
    elif not whole and isinstance(ending, SystemExit):
        ending = SystemExit(_FAILED)
    elif (code := _said_of_system(ending)) is not None:
        ending = SystemExit(code)
    raise ending


def _reader_left(ending: BaseException) -> bool:
    """Return whether the program ended because nobody reads its output any more (``| head``): click makes exit code 1 of that."""
    if isinstance(ending, SystemExit):
        return ending.code == _FAILED and isinstance(ending.__context__, BrokenPipeError)
    return isinstance(ending, BrokenPipeError)


def _said_of_system(ending: BaseException) -> int | None:
    """Return the exit code for an operating system error raised before a command could handle it, or while its help was
    printed.
    """
    if isinstance(ending, OSError | ImportError) and os.strerror(errno.EMFILE) in str(ending):
        _say("error: this process may open too few files\nRaise the limit on open files (ulimit -n 256).\n")
        return _TRY_AGAIN
    if isinstance(ending, OSError) and not isinstance(ending, BrokenPipeError):
        _give_up_output()
        _say(f"error: {ending.filename or 'standard output'}: {(ending.strerror or str(ending)).lower()}\n")
        return _FAILED
    return None


def _fill_standard_streams() -> None:
    """Open the null device for each standard stream that the parent closed.

    Otherwise the next file that is opened would take its place, and what is meant for a terminal would be written into
    it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            _closed.append(number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 (a descriptor, for the whole process)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _take_over() -> Callable[[], bool]:
    """Handle SIGINT with ``leave``, though the parent may have ignored it. Returns whether one has arrived since."""
    signal.signal(signal.SIGINT, leave)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # Written to by the interpreter itself, also for signals whose handler a library has replaced.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # Called last at exit: by then the result is written, and only the interpreter's own work is left.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    arrived: set[int] = set()

    def interrupted() -> bool:
        with suppress(BlockingIOError):
            arrived.update(os.read(reader, 2**16))
        return signal.SIGINT in arrived

    return interrupted


def leave(signum: int, frame: FrameType | None) -> None:
    """Remove unfinished files and end the process at once; if that is under way already, only end it."""
    if _leaving:
        os._exit(INTERRUPTED)
    _leaving.append(signum)
    try:
        for path in _unfinished:
            path.unlink(missing_ok=True)
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + b"interrupted\n")
    except OSError:
        pass
    finally:
        os._exit(INTERRUPTED)


@contextmanager
def asked(ask: Callable[[], object], numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[None]:
    """Call ``ask`` at the first of these signals; the next ones do what SIGINT did before. Signals reach the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in {*numbers, signal.SIGINT}}
    told = False

    def first(signum: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            ask()
            return
        earlier = before[signal.SIGINT]
        if not callable(earlier):
            raise KeyboardInterrupt
        earlier(signum, frame)

    for number in numbers:
        signal.signal(number, first)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Yield an event that ^C and SIGTERM set; a second ^C interrupts at once."""
    stop = threading.Event()
    with asked(stop.set):
        yield stop


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Remove ``path`` at the end of the block, or when the process exits meanwhile."""
    _unfinished.append(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        _unfinished.remove(path)


class _Held(io.BytesIO):
    """A buffer for output that is held back; it reports whether the stream behind it is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


def results() -> TextIO:
    """Return the stream for results: held back until ``release_results`` in a process that is ``guarded``, else stdout."""
    if not _guarded:
        return sys.stdout
    if not _held:
        held = _Held(sys.stdout)
        _held.append(io.TextIOWrapper(held, sys.stdout.encoding, sys.stdout.errors, write_through=True))
    return _held[0]


def release_results() -> bool:
    """Write what was held back, which is whole; ^C waits meanwhile, a second one does not.

    Returns whether it could be written; a reader that wants no more of it (``| head``) is no failure.

    Call it before a message on stderr that is to come after the results.
    """
    if not _held:
        return True
    held = _held.pop().detach()
    stream = held.stream
    try:
        if 1 in _closed:
            raise OSError(errno.EBADF, "standard output is closed")
        with asked(lambda: None, [signal.SIGINT]):
            stream.flush()
            rest = held.getbuffer()
            while rest:  # an unbuffered stream that a signal interrupts has written a part
                rest = rest[stream.buffer.write(rest) :]
            stream.flush()
    except BrokenPipeError:
        _give_up_output()
    except OSError as error:
        _give_up_output()
        _say(
            f"error: cannot write the results: {(error.strerror or str(error)).lower()}\nSend them to a file or a pipe that takes them.\n"
        )
        return False
    return True


def _flushed() -> bool:
    """Flush what was printed to stdout beside the results, such as a help text; return whether that succeeded."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_output()
    except OSError as error:
        _give_up_output()
        _say(f"error: cannot write to standard output: {(error.strerror or str(error)).lower()}\n")
        return False
    return True


def _give_up_output() -> None:
    """Redirect stdout to the null device, so that the interpreter's last flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, text.encode("utf-8", "replace"))
