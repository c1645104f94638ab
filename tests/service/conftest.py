"""One server for the tests of several files: ``trajsvc serve`` with the example in a data root, and a Hub of its own.

What one test stores another sees: each gives its runs names of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
from service_process import EXAMPLES, Server, make_run, start_hub, start_server


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> None:
    """What is logged in the tests' process shows no variables of a traceback, which takes seconds for each."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, plain])


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="session")
def data(place: Path) -> Path:
    """The data root ``runs``: the example, and a run that cannot be read."""
    folder = place / "data"
    shutil.copytree(EXAMPLES / "pythia-nano", folder / "pythia-nano")
    make_run(folder / "plain", steps=6)
    (folder / "damaged" / "step0").mkdir(parents=True)
    (folder / "damaged" / "step0" / "model.safetensors").write_bytes(b"no header at all")
    return folder


@pytest.fixture(scope="session")
def hub(place: Path, data: Path) -> Iterator[str]:
    root = place / "hub"
    shutil.copytree(EXAMPLES / "pythia-nano", root / "pythia-nano")
    process, address = start_hub(root, place / "hub.log")
    yield address
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def server(place: Path, data: Path, hub: str) -> Iterator[Server]:
    np.save(place / "ids.npy", np.random.default_rng(0).integers(0, 200, 400))
    files = {"text": EXAMPLES / "genesis.txt", "ids": place / "ids.npy"}
    gradients = [
        "--probe",
        "nano=causal-lm",
        *(w for name, path in files.items() for w in ("--data", f"{name}={path}")),
    ]
    found = start_server(place, "--workers", "1", "--root", f"runs={data}", *gradients, HF_ENDPOINT=hub)
    yield found
    found.process.stop()


@pytest.fixture(scope="session")
def stored(server: Server) -> str:
    """A run that the server has analysed."""
    job = server.submit("runs:pythia-nano")
    assert server.wait(job["id"])["state"] == "succeeded"
    return "pythia-nano"
