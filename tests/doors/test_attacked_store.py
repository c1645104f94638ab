"""A store under attack: written twice at once, read-only, full, with a limit on files, deleted meanwhile."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import trajsvc

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("TRAJSVC_")} | {
    "PYTHONPATH": str(ROOT),
    "TRAJSVC_THREADS": "1",
}
ANALYZE = ("analyze", "run", "--no-figures", "-q")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacked")
    rng = np.random.default_rng(0)
    for step in range(4):
        (folder / f"run/step{step}").mkdir(parents=True)
        values = {f"layers.{i}.weight": rng.normal(size=(64, 64)).astype(np.float32) for i in range(3)}
        save_file(values, folder / f"run/step{step}/model.safetensors")
    assert ended(begin(folder, *ANALYZE, "--store", "reference"))[0] == 0
    return folder


def begin(cwd: Path, *words: str, largest: int | None = None) -> subprocess.Popen[str]:
    """The command line in a process, which may write files of ``largest`` bytes."""
    limit = None if largest is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    return subprocess.Popen(
        [sys.executable, "-m", "trajsvc", *words], cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=limit,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=600)
    assert "Traceback" not in said, said
    return process.returncode, said


def same(place: Path, store: Path) -> None:
    """The run of ``store`` is the reference, to the last bit."""
    one, other = trajsvc.open(place / "reference", "run"), trajsvc.open(store, "run")
    assert np.array_equal(one.gram("network").gram, other.gram("network").gram)


@pytest.mark.dear
@pytest.mark.timing
def test_two_analyses_of_one_run_at_once_leave_one_whole_run(place: Path) -> None:
    both = [begin(place, *ANALYZE, "--store", "both") for _ in range(2)]
    codes = [ended(p)[0] for p in both]
    assert 0 in codes
    assert set(codes) <= {0, 75}
    assert ended(begin(place, *ANALYZE, "--store", "both"))[0] == 0
    same(place, place / "both")


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("copy", [[], ["--copy"]], ids=["grams", "copy"])
@pytest.mark.parametrize("largest", [0, 64, 1_000, 3_000, 20_000])
def test_a_limit_on_files_is_a_full_disk_and_the_rest_goes_on_after_it(
    place: Path, largest: int, copy: list[str]
) -> None:
    store = place / f"limited-{largest}-{len(copy)}"
    code, said = ended(begin(place, *ANALYZE, *copy, "--store", str(store), largest=largest))
    if code:
        assert code == 75
        assert "could not write" in said
    assert ended(begin(place, *ANALYZE, *copy, "--store", str(store)))[0] == 0
    same(place, store)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


@pytest.mark.dear
@pytest.mark.timing
def test_a_read_only_store_is_read_and_not_written(place: Path, mounted: Path) -> None:
    shutil.copytree(place / "reference", mounted / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    for words in (
        ["analyze", "run", "--recompute", "--no-figures", "-q"],
        ["analyze", "run", "--name", "b", "--no-figures", "-q"],
    ):
        code, said = ended(begin(place, *words, "--store", str(mounted / "store")))
        assert code == 4, said
        assert "read-only" in said
        assert "--store" in said
    for words in (["show", "run"], ["ls"], ["map", "run"], ["analyze", "run", "--no-figures", "-q"]):
        assert ended(begin(place, *words, "--store", str(mounted / "store")))[0] == 0
    assert ended(begin(place, "tokens", "create", "x", "--store", str(mounted / "store")))[0] in (4, 75)
    same(place, mounted / "store")


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("left", [0, 8, 40, 100])
def test_a_full_disk_is_said_and_what_was_stored_is_there(place: Path, mounted: Path, left: int) -> None:
    (mounted / "ballast").write_bytes(bytes((256 - left) * 1024))
    code, said = ended(begin(place, *ANALYZE, "--store", str(mounted / "store")))
    if code:
        assert code == 75
        assert "no space left" in said
    (mounted / "ballast").unlink()
    assert ended(begin(place, *ANALYZE, "--store", str(mounted / "store")))[0] == 0
    same(place, mounted / "store")
