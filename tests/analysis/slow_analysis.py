"""An analysis in a process of its own, that can be killed, or whose memory is measured.

python slow_analysis.py FOLDER STORE [--fast | --memory]
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import torch  # noqa: F401  (part of the interpreter, not of the budget)

from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.observer import NullObserver
from trajsvc.analysis.options import Options
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.cli.interrupts import stop_on_interrupt
from trajsvc.errors import Cancelled
from trajsvc.gram.engine import Progress
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.sources.resolve import open_source


class Saying(NullObserver):
    """Says every slab, and takes its time over it."""

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def progress(self):  # type: ignore[no-untyped-def]
        return self.say

    def say(self, progress: Progress) -> None:
        if progress.bytes_resumed:
            print("resumed", flush=True)
        print(f"slab {progress.state.cursor} of {len(progress.state.plan.slabs)}", flush=True)
        time.sleep(self.pause)


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def main() -> int:
    folder, store = sys.argv[1], Path(sys.argv[2])
    measured = "--memory" in sys.argv
    source = open_source(folder)
    before = anonymous()
    peak = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], anonymous())

    threading.Thread(target=watch, daemon=True).start()
    options = Options(memory=(64 if not measured else 96) * 2**20, threads=1)
    pause = 0.0 if measured or "--fast" in sys.argv else 0.5
    with stop_on_interrupt() as stop:
        try:
            run_analysis(AnalysisJob(source, store, None, options, ThreadPool(1), Saying(pause), stop))
        except Cancelled:
            return 130
    done.set()
    print(json.dumps({"peak": peak[0] - before}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
