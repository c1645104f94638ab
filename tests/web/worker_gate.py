"""A gate in a dask worker, which loads this file before its first task: a task begins when the gate lets it through, and is one slab.

``GATE`` names a folder with an empty file for each session, which is one job's work on slabs, and ``SESSION.NUMBER`` for each task of it
that is done. Its file ``allowed`` says how many tasks of a session may begin (any number where there is none), and which sessions are over
and wait for nothing.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from workers import tasks

GATE = Path(os.environ["GATE"])
LOOK = 0.02
LONG = 1e6
"""seconds that a task is said to have taken: tasks are made as large as what takes a second, so each is one slab"""

run_slabs = tasks.run_slabs


def dask_setup(worker: Any) -> None:
    """Called by the worker when it starts; it has one thread for tasks, so that they come one by one."""
    tasks.run_slabs = gated


def gated(folder: str, key: str, digest: str, slabs: tuple[int, ...], session: str) -> tasks.Done:
    """``workers.tasks.run_slabs`` behind the gate."""
    (GATE / session).touch()
    number = len(list(GATE.glob(f"{session}.*")))
    while not allowed(session, number):
        time.sleep(LOOK)
    done = run_slabs(folder, key, digest, slabs, session)
    (GATE / f"{session}.{number}").touch()
    return replace(done, seconds=LONG)


def allowed(session: str, number: int) -> bool:
    try:
        gate = json.loads((GATE / "allowed").read_text())
    except FileNotFoundError:
        return True
    return session in gate["over"] or number < gate["tasks"]
