"""Results in places that cannot be written: an error names the place that was asked for, says what to do, and nothing is left there."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from in_process import trajsvc
from safetensors.numpy import save_file

from storage_schema.files.outputs import beside

WORDS = {
    "export": ["export", "run", "-q", "-o"], "average": ["average", "run", "--last", "2", "-q", "-o"],
    "measures": ["measures", "run", "-q", "-o"], "map": ["map", "run", "-q", "-o"], "report": ["report", "run", "-q", "-o"],
    "push": ["push", "run", "-q", "--to", "tensorboard", "--project"], "demo": ["demo", "-q", "--folder"],
    "experiment": ["experiment", "run", "h1", "-q", "--scale", "brief", "--seeds", "1", "-o"],
}  # fmt: skip
SUFFIX = {"measures": ".json", "map": ".png", "report": ".html"}
TRAINS = ("demo", "experiment")


def commands(*without: str) -> list[object]:
    found: list[object] = []
    for name in WORDS:
        missing = name == "push" and find_spec("tensorboard") is None
        marks = [
            pytest.mark.skipif(missing, reason="tensorboard is not installed"),
            *[pytest.mark.slow] * (name in TRAINS),
        ]
        if name not in without:
            found.append(pytest.param(name, marks=marks))
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored run and places that are none for a result."""
    folder = tmp_path_factory.mktemp("outputs")
    rng = np.random.default_rng(0)
    for step in range(4):
        (folder / f"run/step{step}").mkdir(parents=True)
        values = {"layers.0.weight": rng.normal(size=(32, 32)).astype(np.float32)}
        save_file(values, folder / f"run/step{step}/model.safetensors")
    assert trajsvc("analyze", "run", "--store", "s", "--no-figures", "-q", cwd=folder).returncode == 0
    (folder / "file").write_text("as it was")
    (folder / "dangling").symlink_to("/nowhere/at/all")
    (folder / "out").mkdir()
    return folder


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files of at most ``size`` bytes, as on a disk that is full after so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("where", ["file/x", "/proc/x", "dangling/x", "/dev/null/x", "out/" + "n" * 300])
@pytest.mark.parametrize("command", commands())
def test_an_error_names_the_place_that_was_asked_for(command: str, where: str, place: Path) -> None:
    target = where + SUFFIX.get(command, "")
    done = trajsvc(*WORDS[command], target, "--store", "s", cwd=place)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: cannot write {target.partition('/x')[0]}"), done.stderr
    assert ".partial" not in done.stderr
    assert "--store" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2, "what to do next"
    assert list((place / "out").iterdir()) == []


@pytest.mark.parametrize("command", commands("report"))
def test_a_full_disk_is_said_with_the_place_that_was_asked_for(command: str, place: Path) -> None:
    target = f"out/{command}{SUFFIX.get(command, '')}"
    with largest_file(100):
        done = trajsvc(*WORDS[command], target, "--store", "s", cwd=place)
    assert done.returncode == 75, done.stderr
    assert done.stderr.startswith(f"error: cannot write {target}"), done.stderr
    assert "Traceback" not in done.stderr
    assert ".partial" not in done.stderr
    assert [p for p in (place / "out").rglob("*") if p.is_file() and p.stat().st_size > 100] == []
    assert not list((place / "out").glob(".*"))


@pytest.mark.parametrize("command", commands("push", *TRAINS))
def test_the_longest_name_that_a_file_may_have_is_written(command: str, place: Path, tmp_path: Path) -> None:
    suffix = SUFFIX.get(command, "")
    target = tmp_path / ("é" * 120 + "n" * (15 - len(suffix)) + suffix)
    assert len(os.fsencode(target.name)) == 255
    done = trajsvc(*WORDS[command], str(target), "--store", "s", cwd=place)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [target]


def test_the_name_beside_is_of_the_same_folder_and_of_its_own() -> None:
    target = Path("folder") / ("\N{GRINNING FACE}" * 63)
    one, other = beside(target), beside(target)
    assert one != other
    assert one.parent == target.parent
    assert len(os.fsencode(one.name)) <= 255
