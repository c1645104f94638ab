"""The command line as a process that sends itself SIGINT at a chosen event of the interpreter: an import, a file opened, a thread begun.

Events are counted, not milliseconds, so that the same instants are met on a busy machine as on an idle one. Arguments: a file descriptor on
which the number of events is told at the end; the events at which to send the signal, separated by commas; the command line's own words.
"""

from __future__ import annotations

import atexit
import itertools
import os
import runpy
import signal
import sys

NOT_YET = 99
"""exit code where the signal came before the program's own code had dealt with it"""


def main(report: int, instants: set[int], words: list[str]) -> None:
    """Run ``trajsvc`` with ``words``."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(NOT_YET))
    number = itertools.count(1).__next__
    atexit.register(lambda: os.write(report, str(number()).encode()))  # before the program's own: called after them
    pid = os.getpid()

    def count(event: str, arguments: object) -> None:
        if number() in instants:
            os.kill(pid, signal.SIGINT)

    sys.argv = ["trajsvc", *words]
    sys.addaudithook(count)
    runpy.run_module("trajsvc", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), {int(n) for n in sys.argv[2].split(",") if n}, sys.argv[3:])
