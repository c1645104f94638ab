"""What is published works: the wheel alone runs ``trajsvc demo``, and the sdist has tests that run."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    given = {k: v for k, v in os.environ.items() if not k.startswith(("TRAJSVC_", "PYTHONPATH", "COV_"))} | environment
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=given, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.mark.slow
def test_the_wheel_alone_trains_and_analyses_the_demonstration(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as found:
        names = set(found.namelist())
    assert {f"{room}/py.typed" for room in ("trajsvc", "workers", "api", "storage_schema")} <= names
    assert {"api/openapi.json", "api/web/index.html"} <= names
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", tmp_path / "site", wheel, cwd=tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    site = str(tmp_path / "site")
    where = run("-c", "import trajsvc, api; print(trajsvc.__file__, api.__file__)", cwd=work, PYTHONPATH=site)
    assert where.count(site) == 2
    said = run("-m", "trajsvc", "demo", cwd=work, PYTHONPATH=site)
    assert "17 checkpoints, steps 0 … 400" in said
    assert "llama" in said
    assert "trajsvc show demo --explain" in said
    again = run("-m", "trajsvc", "show", "demo", cwd=work, PYTHONPATH=site)
    assert "17 checkpoints" in again


@pytest.mark.slow
def test_tests_of_the_sdist_run_in_it(built: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as found:
        found.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert not list(source.glob("*.whl"))
    said = run("-m", "pytest", "-n", "0", "tests/docs/test_rooms.py", "tests/doors/test_run_facade.py", cwd=source)
    assert " passed" in said or "[100%]" in said
    assert "failed" not in said
