"""kill -9 at random instants, again and again: how many jobs were lost, done twice, or came out different.

    python benchmarks/faults.py --jobs 5 --kills 4            each victim in turn: API, runner, worker, everything

Every job is a run of its own name from the same folder; its Grams are compared with an undisturbed analysis, bit for bit. What 30 seconds
do to the lease of a dead runner is done to the database at once.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "service"))

from service_process import Process, Server, descendants, make_run, start_server, wait_ready  # noqa: E402

MEMORY = 2**26
VICTIMS = ("API", "runner", "worker", "everything")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5, help="jobs for each victim")
    parser.add_argument("--kills", type=int, default=4, help="kills at most within a job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="victims, with commas between them")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_run(place / "data" / "run", steps=20, tensors=12, size=2**18)
        import trajsvc
        from storage_schema.runs.store import RunStore

        local = trajsvc.analyze(place / "data" / "run", store=place / "local", threads=2, memory=MEMORY)
        want = local.stored.block_grams()
        server = start_server(place, "--root", f"runs={place / 'data'}")
        print("| killed | jobs | kills | lost | done twice | different bits |\n|---|---|---|---|---|---|", flush=True)
        try:
            for victim in [v for v in VICTIMS if not given.only or v in given.only.split(",")]:
                kills = lost = twice = different = 0
                for number in range(given.jobs):
                    name = f"{victim}{number}"
                    job = server.submit("runs:run", name=name, memory=MEMORY, copy=chance.random() < 0.5)
                    for _ in range(given.kills):
                        if server.wait(job["id"], 180, state="running")["state"] != "running":
                            break
                        time.sleep(chance.uniform(0.0, 1.0))
                        kills += kill(server, victim, chance)
                    done = server.wait(job["id"], 300)
                    lost += done["state"] != "succeeded"
                    if done["state"] == "succeeded":
                        run = RunStore(server.store).open(name)
                        twice += run.generation != 1
                        different += not np.array_equal(run.block_grams(), want)
                print(f"| {victim} | {given.jobs} | {kills} | {lost} | {twice} | {different} |", flush=True)
        finally:
            server.process.kill_all()


def kill(server: Server, victim: str, chance: random.Random) -> int:
    """One kill; what died is started again, or starts again by itself. The number of processes that were killed."""
    if victim in ("API", "everything"):
        if victim == "API":
            server.process.kill()
        else:
            server.process.kill_all()
        old = server.process
        until = time.monotonic() + 30
        while True:
            server.process = Process(old.words, old.log, old.environment, old.cwd)
            try:
                wait_ready(server.address, server.process)
                break
            except AssertionError:  # the port is not free yet
                if time.monotonic() > until:
                    raise
        if victim == "everything":
            expire(server)
        return 1
    found = [p for p in descendants(server.process.pid) if is_victim(p, victim)]
    if not found:
        return 0
    os.kill(chance.choice(found), signal.SIGKILL)
    if victim == "runner":
        expire(server)
    return 1


def is_victim(pid: int, victim: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    if victim == "runner":
        return b"runner" in words
    return any(b"spawn_main" in w for w in words) and not descendants(pid)


def expire(server: Server) -> None:
    database = sqlite3.connect(server.store / "jobs.db", timeout=20)
    with database:
        database.execute("UPDATE jobs SET lease_until = 0 WHERE state IN ('running', 'cancelling')")
    database.close()


if __name__ == "__main__":
    main()
