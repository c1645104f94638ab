"""The services of docker-compose.yml, each started as its own command with its own environment, as processes of this machine; a job runs
through them. What a container engine adds (users, networks, read-only roots) is read from the file and checked as text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from service_process import EXAMPLES, REPOSITORY, Process, Server, environment, free_port, wait_ready

import trajsvc
from storage_schema.runs.store import RunStore

POSTGRES = os.environ.get("TRAJSVC_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
OURS = ("api", "runner", "scheduler", "worker")


@pytest.fixture
def database() -> Iterator[str]:
    """A new PostgreSQL database; SQLite stands in, and the test says so, where no server answers."""
    psycopg = pytest.importorskip("psycopg")
    name = f"trajsvc_{uuid.uuid4().hex[:12]}"
    try:
        with psycopg.connect(POSTGRES, autocommit=True, connect_timeout=5) as admin:
            admin.execute(f"CREATE DATABASE {name}")
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL here: {str(error).splitlines()[0]}")
    yield re.sub(r"/[^/]*$", f"/{name}", POSTGRES)
    with psycopg.connect(POSTGRES, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Composed:
    """Commands and environments of the file, with this machine's names for its hosts and volumes."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        self.ports = {"8000": str(free_port()), "8786": str(free_port())}
        self.store, self.data = folder / "store", folder / "data"
        self.token = uuid.uuid4().hex

    def words(self, text: str) -> str:
        """A value of the file as it is on this machine."""
        given = {"TRAJSVC_TOKEN": self.token, "POSTGRES_PASSWORD": "x", "HF_ENDPOINT": "http://127.0.0.1:9"}
        text = re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda m: given.get(m[1], m[2] or ""), text)
        if text.startswith("postgresql://"):
            return self.database
        text = text.replace("tcp://scheduler:8786", f"tcp://127.0.0.1:{self.ports['8786']}")
        text = text.replace("/store", str(self.store)).replace("/data", str(self.data))
        return {"0.0.0.0": "127.0.0.1", **self.ports}.get(text, text)

    def start(self, name: str) -> Process:
        service = COMPOSE["services"][name]
        given = {k: self.words(str(v)) for k, v in (service.get("environment") or {}).items()}
        words = [self.words(w) for w in service["command"]]
        entry = service.get("entrypoint")
        where = environment(**given)
        log = self.folder / f"{name}.log"
        if entry is None:
            return Process(words, log, where, self.folder)
        assert entry[0] == "python"
        process = Process.__new__(Process)
        process.words, process.log, process.environment, process.cwd = words, log, where, self.folder
        with log.open("ab") as out:
            process.popen = subprocess.Popen(
                [sys.executable, *entry[1:], *words], stdout=out, stderr=out, env=where, start_new_session=True
            )
        return process


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
def test_a_job_runs_through_the_composed_services(tmp_path: Path, database: str) -> None:
    place = Composed(tmp_path, database)
    shutil.copytree(EXAMPLES / "pythia-nano", place.data / "pythia-nano")
    place.store.mkdir()
    started: dict[str, Process] = {}
    try:
        for name in ("scheduler", "api", "worker", "runner"):
            started[name] = place.start(name)
        address = f"http://127.0.0.1:{place.ports['8000']}"
        wait_ready(address, started["api"])
        server = Server(address, place.store, started["api"], place.token)
        job = server.submit("runs:pythia-nano")
        done = server.wait(job["id"], 120)
        logs = "\n".join(p.text()[-2000:] for p in started.values())
        assert done["state"] == "succeeded", f"{done}\n{logs}"
        assert server.ask("/ready")[2]["checks"] == {"store": "ok", "database": "ok", "disk": "ok", "scheduler": "ok"}
        local = trajsvc.analyze(EXAMPLES / "pythia-nano", store=tmp_path / "local", threads=2)
        assert np.array_equal(RunStore(place.store).open("pythia-nano").block_grams(), local.stored.block_grams())

        # Without workers a job waits and says so; with one again it goes on.
        started["worker"].kill_all()
        time.sleep(1)
        waiting = server.submit("runs:pythia-nano", name="again")
        until = time.monotonic() + 180
        while not (found := server.ask(f"/v1/jobs/{waiting['id']}")[2])["waiting"]:
            assert time.monotonic() < until, found
            time.sleep(0.2)
        assert "no dask worker" in found["waiting"]
        started["worker"] = place.start("worker")
        assert server.wait(waiting["id"], 120)["state"] == "succeeded"

        codes = {name: started[name].stop() for name in ("runner", "api")}
        assert codes == {"runner": 0, "api": 0}, "they end by themselves when they are told to"
    finally:
        for process in started.values():
            process.kill_all()


def test_the_file_keeps_what_a_container_must() -> None:
    services = COMPOSE["services"]
    for name in (*OURS, "gpu-worker"):
        service = services[name]
        assert service["read_only"] is True
        assert service["user"] == "10001:10001"
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("scheduler", "worker", "postgres"):
        assert services[name]["networks"] == ["inside"]
        assert "ports" not in services[name]
    for name in ("api", "scheduler", "postgres"):
        assert "healthcheck" in services[name]
    for service in services.values():
        assert re.fullmatch(r"[a-z/]+:\d+(\.\d+)+(-[a-z]+)?", service["image"]), service["image"]
    assert services["gpu-worker"]["profiles"] == ["gpu"]
    assert json.loads(services["api"]["environment"]["TRAJSVC_ROOTS"]) == {"runs": "/data"}
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert "\nUSER trajsvc\n" in dockerfile
    assert not re.search(r"^FROM \S+(:latest)?\s*$", dockerfile, re.MULTILINE) or ":3" in dockerfile
