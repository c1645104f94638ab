"""kill -9 of any process at any moment, a runner asleep past its lease, a full disk: no accepted job is lost, none is done twice, and what
comes out is what an undisturbed run gives, bit for bit."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_process import Process, Server, descendants, environment, free_port, make_run, start_server

import trajsvc
from storage_schema.runs.store import RunStore

pytestmark = [pytest.mark.timing, pytest.mark.dear]

MEMORY = 2**26
ROUNDS = int(os.environ.get("TRAJSVC_FAULT_ROUNDS", "4"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_run(folder / "run", steps=20, tensors=12, size=2**18)
    return folder


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    run = trajsvc.analyze(data / "run", store=tmp_path_factory.mktemp("undisturbed"), threads=2, memory=MEMORY)
    return np.asarray(run.stored.block_grams())


@pytest.fixture
def server(tmp_path: Path, data: Path) -> Iterator[Server]:
    found = start_server(tmp_path, "--root", f"runs={data}")
    yield found
    found.process.stop()


def commits(server: Server, run: str) -> int:
    """How often the run was committed."""
    return RunStore(server.store).open(run).generation


def runner_of(server: Server, seconds: float = 120.0) -> int:
    """The process of the runner; one that died is started again after a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for pid in descendants(server.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"runner" in words:
                return pid
        time.sleep(0.1)
    raise AssertionError("no runner")


def workers_of(server: Server) -> list[int]:
    """The processes of the runner's workers."""
    return [pid for pid in descendants(runner_of(server)) if _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes() and not descendants(pid)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["runner", "worker", "everything"])
def test_killed_at_random_instants_every_job_is_done_once_and_alike(
    server: Server, data: Path, undisturbed: np.ndarray, victim: str
) -> None:
    chance = random.Random(victim)
    job = server.submit("runs:run", memory=MEMORY, copy=chance.random() < 0.5)
    for _ in range(ROUNDS):
        found = server.wait(job["id"], state="running")
        if found["state"] == "succeeded":
            break
        time.sleep(chance.uniform(0.0, 1.5))
        if victim == "everything":
            server.process.kill_all()
            server.process = Process(
                server.process.words, server.process.log, server.process.environment, server.process.cwd
            )
            _answers(server)
            _expire(server)
        else:
            targets = workers_of(server) if victim == "worker" else [runner_of(server)]
            if targets:
                # One found a moment ago may have ended by itself: the job may be done by now.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(targets), signal.SIGKILL)
            if victim == "runner":
                _expire(server)
    done = server.wait(job["id"], 180)
    assert done["state"] == "succeeded", f"{done}\n{server.process.text()[-3000:]}"
    assert np.array_equal(RunStore(server.store).open("run").block_grams(), undisturbed)
    assert commits(server, "run") == 1


def _answers(server: Server) -> None:
    from service_process import wait_ready

    wait_ready(server.address, server.process)


def _expire(server: Server) -> None:
    """What 30 seconds would do: the dead runner's lease has run out."""
    with _database(server, timeout=600) as database:
        database.execute("UPDATE jobs SET lease_until = 0 WHERE state IN ('running', 'cancelling')")
        database.commit()


@contextlib.contextmanager
def _database(server: Server, timeout: float) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(server.store / "jobs.db", timeout=timeout)) as database:
        yield database


def _fall_asleep(server: Server, runner: Process) -> tuple[dict[str, Any], str]:
    """(job, run) in the middle of which the runner was stopped: some slabs are kept, nothing is committed. A job that was done before
    the signal came is no sleeper's; another one is submitted."""
    for k in range(10):
        run = f"run-{k}"
        job = server.submit("runs:run", name=run, memory=MEMORY, copy=False)
        until = time.monotonic() + 180
        while not any(server.store.glob(f"**/{run}*/**/*.slab")) and run not in RunStore(server.store).names():
            assert time.monotonic() < until, server.ask(f"/v1/jobs/{job['id']}")[2]
            time.sleep(0.002)
        _stop_outside_a_transaction(server, runner)
        if run not in RunStore(server.store).names():
            return job, run
        os.kill(runner.pid, signal.SIGCONT)
        server.wait(job["id"])
    raise AssertionError("every job was done before the runner could be stopped")


def _stop_outside_a_transaction(server: Server, runner: Process) -> None:
    """SIGSTOP. One that sleeps while it holds the database's lock would stop everybody."""
    while True:
        os.kill(runner.pid, signal.SIGSTOP)
        while _process_state(runner.pid) != "T":
            time.sleep(0.001)
        with contextlib.suppress(sqlite3.OperationalError), _database(server, timeout=0.5) as database:
            database.execute("BEGIN IMMEDIATE")
            return
        os.kill(runner.pid, signal.SIGCONT)
        time.sleep(0.01)


def _process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _said(process: Process, what: str, run: str) -> bool:
    return any(what in line and run in line for line in process.text().splitlines())


@pytest.mark.slow
def test_a_runner_asleep_past_its_lease_commits_nothing_when_it_wakes(
    tmp_path: Path, data: Path, undisturbed: np.ndarray
) -> None:
    port = free_port()
    server = start_server(tmp_path, "--root", f"runs={data}", command="api", port=port)
    given = environment(TRAJSVC_STORE=str(server.store), TRAJSVC_ROOTS=f'{{"runs": "{data}"}}')
    first = Process(["runner", "--workers", "1"], tmp_path / "first.log", given, tmp_path)
    second = None
    try:
        job, run = _fall_asleep(server, first)
        _expire(server)
        second = Process(["runner", "--workers", "1"], tmp_path / "second.log", given, tmp_path)
        until = time.monotonic() + 180
        # It has the job, and waits for the run's lock, which the sleeper holds: visible, and no attempt is lost.
        while "being written" not in (server.ask(f"/v1/jobs/{job['id']}")[2]["waiting"] or ""):
            assert time.monotonic() < until, server.ask(f"/v1/jobs/{job['id']}")[2]
            time.sleep(0.1)
        os.kill(first.pid, signal.SIGCONT)
        done = server.wait(job["id"], 120)
        assert done["state"] == "succeeded", done
        assert commits(server, run) == 1
        assert np.array_equal(RunStore(server.store).open(run).block_grams(), undisturbed)
        # The attempt that slept is lost; awake, the same runner may take the job that was given back, as any other may.
        told = [
            line
            for line in first.text().splitlines()
            if run in line and ("job-lost" in line or "job-succeeded" in line)
        ]
        assert "job-lost" in told[0]
        assert [_said(runner, "job-succeeded", run) for runner in (first, second)].count(True) == 1
    finally:
        for process in (first, second, server.process):
            if process is not None:
                process.kill_all()


@pytest.mark.slow
def test_a_full_disk_fails_the_job_cleanly_and_space_lets_it_go_on(
    tmp_path: Path, data: Path, undisturbed: np.ndarray
) -> None:
    """RLIMIT_FSIZE on every process of the service: a file of the copy cannot be written."""
    import resource

    server = start_server(tmp_path, "--root", f"runs={data}")
    try:
        first = server.wait(server.submit("runs:run", name="before", memory=MEMORY, copy=False)["id"])
        assert first["state"] == "succeeded"
        for pid in (runner_of(server), *workers_of(server)):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (600_000, 600_000))
        job = server.wait(server.submit("runs:run", memory=MEMORY, copy=True)["id"])
        assert job["state"] == "failed"
        assert job["cause"]["kind"] == "disk-full", job
        assert np.array_equal(RunStore(server.store).open("before").block_grams(), undisturbed)
        assert "run" not in RunStore(server.store).names()
    finally:
        server.process.stop()
    again = start_server(tmp_path, "--root", f"runs={data}")
    try:
        done = again.wait(again.submit("runs:run", memory=MEMORY, copy=True)["id"])
        assert done["state"] == "succeeded", done
        assert np.array_equal(RunStore(again.store).open("run").block_grams(), undisturbed)
    finally:
        again.process.stop()


@pytest.mark.slow
def test_two_servers_and_two_runners_commit_each_job_once(tmp_path: Path) -> None:
    """A thousand submissions of a few runs by many threads to two APIs on one store; two runners."""
    import threading

    runs = tmp_path / "data"
    for k in range(6):
        make_run(runs / f"r{k}", steps=3, tensors=2, size=2**12, seed=k)
    servers = [start_server(tmp_path, "--root", f"runs={runs}", command="api") for _ in range(2)]
    given = environment(TRAJSVC_STORE=str(servers[0].store), TRAJSVC_ROOTS=f'{{"runs": "{runs}"}}')
    runners = [Process(["runner", "--workers", "1"], tmp_path / f"runner{k}.log", given, tmp_path) for k in range(2)]
    found: list[str] = []

    def submit(k: int) -> None:
        for i in range(125):
            found.append(servers[(k + i) % 2].submit(f"runs:r{(k * 7 + i) % 6}")["id"])

    threads = [threading.Thread(target=submit, args=(k,)) for k in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 1000
        assert len(set(found)) == 6
        for job in set(found):
            assert servers[0].wait(job, 120)["state"] == "succeeded"
        store = RunStore(servers[0].store)
        assert [store.open(f"r{k}").generation for k in range(6)] == [1] * 6
    finally:
        for process in (*runners, *(s.process for s in servers)):
            process.kill_all()


@pytest.mark.slow
def test_an_api_that_is_killed_leaves_its_jobs_to_the_runner(
    tmp_path: Path, data: Path, undisturbed: np.ndarray
) -> None:
    """kill -9 of the API alone, again and again while a job runs: the runner goes on, and the next API knows the job."""
    server = start_server(tmp_path, "--root", f"runs={data}", command="api")
    given = environment(TRAJSVC_STORE=str(server.store), TRAJSVC_ROOTS=f'{{"runs": "{data}"}}')
    job = server.submit("runs:run", memory=MEMORY, copy=False)
    runner = Process(["runner", "--workers", "1"], tmp_path / "runner.log", given, tmp_path)
    try:
        server.wait(job["id"], state="running")
        for _ in range(2):
            server.process.kill()
            server.process = Process(
                server.process.words, server.process.log, server.process.environment, server.process.cwd
            )
            _answers(server)
        done = server.wait(job["id"])
        assert done["state"] == "succeeded", f"{done}\n{runner.text()[-3000:]}"
        assert done["attempts"] == 1
        assert np.array_equal(RunStore(server.store).open("run").block_grams(), undisturbed)
        assert commits(server, "run") == 1
    finally:
        for process in (runner, server.process):
            process.kill_all()
