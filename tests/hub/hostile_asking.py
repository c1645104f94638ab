"""A process that asks Hubs and says how long each question took, how much memory, and how it ended: for measurements of hostile ones.

Reads lines ``ENDPOINT WHERE`` and writes ``[seconds, MiB, kind, message]`` for each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from trajsvc.errors import TrajsvcError
from trajsvc.sources.hub.api import HubApi


def peak() -> float:
    """The most memory since the last ``forget``, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def forget() -> float:
    """Begin to measure anew; the memory that is used now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def ask(endpoint: str, where: str) -> tuple[float, float, str, str]:
    api = HubApi(endpoint, False, attempts=1)
    asked = {
        "refs": lambda: api.refs("org/run"),
        "tree": lambda: api.trees_of([("org/run", "0" * 40), ("org/run", "1" * 40)], None),
        "commits": lambda: api.commits("org/run", "main"),
        "models": lambda: api.repositories("org/*"),
    }[where]
    before, begun = forget(), time.monotonic()
    kind = message = ""
    try:
        asked()
    except TrajsvcError as error:
        kind, message = error.kind, str(error)
    return round(time.monotonic() - begun, 3), round(peak() - before, 1), kind, message


if __name__ == "__main__":
    try:
        HubApi("http://127.0.0.1:9", False, attempts=1).refs("org/run")
    except TrajsvcError:
        print("ready", flush=True)  # everything is imported
    for line in sys.stdin:
        print(json.dumps(ask(*line.split())), flush=True)
