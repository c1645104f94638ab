"""What the operating system refuses is an error with its path and what to do next, never a traceback."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from slow_params import slow_but

from storage_schema.error_kinds import KINDS
from storage_schema.files.system_errors import of_any, of_system
from storage_schema.runs.store import RunStore
from trajsvc.errors import TrajsvcError
from trajsvc.trajectory.spool import Spool, SpoolRequest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("TRAJSVC_")} | {
    "PYTHONPATH": str(ROOT),
    "TRAJSVC_THREADS": "2",
}
FILE, LINK, DEVICE, NOWHERE = "a-file", "a-link", "/dev/full", "/proc/x"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its store ``s``, a file and a broken link."""
    folder = tmp_path_factory.mktemp("system")
    rng = np.random.default_rng(0)
    for step in range(3):
        (folder / f"run/step{step}").mkdir(parents=True)
        save_file(
            {"layers.0.weight": rng.normal(size=(32, 32)).astype(np.float32)},
            folder / f"run/step{step}/model.safetensors",
        )
    (folder / "f.toml").write_text('name = "f"\n[[runs]]\nname = "run"\nsource = "run"\n')
    (folder / FILE).write_text("no store")
    (folder / LINK).symlink_to("/nowhere/at/all")
    assert run(folder, "analyze", "run", "--store", "s", "--no-figures", "-q").returncode == 0
    return folder


def run(cwd: Path | None, *words: str, shell: str = "", descriptors: int = 0) -> subprocess.CompletedProcess[str]:
    """The command line in a process; ``shell`` are redirections."""
    command = f'exec "$0" -m trajsvc "$@" {shell}'
    limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))) if descriptors else None
    return subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, *words], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True,
        timeout=600, preexec_fn=limit,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode in (1, 4, 75), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert any(word in done.stderr for word in said), done.stderr
    assert len(done.stderr.strip().splitlines()) >= 2, f"what to do next: {done.stderr}"


@pytest.mark.parametrize("store", slow_but([FILE, LINK, DEVICE, NOWHERE, f"{FILE}/below"], [FILE, NOWHERE]))
@pytest.mark.parametrize(
    "words", [["ls"], ["show", "run"], ["analyze", "run", "-q", "--no-figures"], ["tokens", "ls"]], ids=lambda w: w[0]
)
def test_a_store_that_is_no_folder_is_refused_by_every_command(place: Path, words: list[str], store: str) -> None:
    done = run(place, *words, "--store", store)
    refused(done, store, FILE)
    assert "no runs" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("store", [FILE, LINK, DEVICE, NOWHERE])
@pytest.mark.parametrize(
    "words", [["families", "ls"], ["batch", "f.toml"], ["serve", "--port", "1"], ["watch", "run", "--once"], ["map", "run"]],
    ids=lambda w: w[0],
)  # fmt: skip
def test_a_store_that_is_no_folder_is_refused_by_the_rest(place: Path, words: list[str], store: str) -> None:
    done = run(place, *words, "--store", store)
    if (words[0], store) != ("families", NOWHERE):  # a store that is not there has no families
        refused(done, store)


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 40])
@pytest.mark.parametrize(
    "words",
    [["show", "run"], ["analyze", "run", "-q", "--no-figures", "--recompute"], ["plan", "run"]],
    ids=lambda w: w[0],
)
def test_too_few_descriptors_are_said_or_are_enough(place: Path, words: list[str], count: int) -> None:
    done = run(place, *words, "--store", "s", descriptors=count)
    if done.returncode:
        refused(done, "too many open files", "too few files")
        assert "ulimit -n" in done.stderr
    assert run(place, "show", "run", "--store", "s").returncode == 0, "what was stored is still there"


@pytest.mark.parametrize(
    "words", [["show", "run", "--store", "s"], ["ls", "--store", "s", "--format", "json"], ["--help"], ["--version"]]
)
def test_an_output_that_is_full_is_an_error(place: Path, words: list[str]) -> None:
    done = run(place, *words, shell="> /dev/full")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no space left on device" in done.stderr


def test_a_closed_output_is_an_error_and_closed_messages_are_none(place: Path) -> None:
    refused(run(place, "show", "run", "--store", "s", shell=">&-"), "standard output is closed")
    done = run(place, "show", "run", "--store", "s", shell="2>&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert "run" in done.stdout


@pytest.mark.slow
def test_a_folder_that_was_deleted_is_said(place: Path) -> None:
    gone = place / "gone"
    gone.mkdir()
    command = 'rmdir "$PWD" && exec "$0" -m trajsvc analyze "$1" -q --no-figures'
    for source in (str(place / "run"), "run"):
        gone.mkdir(exist_ok=True)
        done = subprocess.run(
            ["/bin/sh", "-c", command, sys.executable, source], cwd=gone, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
        )  # fmt: skip
        refused(done, "the current folder was deleted")


NUMBERS = sorted(errno.errorcode)


@pytest.mark.parametrize("writing", [False, True])
def test_every_number_of_the_system_has_a_kind_a_path_and_what_to_do(writing: bool) -> None:
    for number in NUMBERS:
        found = of_system(OSError(number, os.strerror(number)), "/a/file", writing=writing)
        assert isinstance(found, TrajsvcError)
        assert found.kind in KINDS
        assert found.hint
        assert "/a/file" in str(found)


def test_an_error_of_ours_stays_and_one_that_a_library_wrapped_is_found() -> None:
    ours = of_system(OSError(errno.ENOSPC, "full"), "/a", writing=True)
    assert of_system(ours) is ours  # type: ignore[arg-type]
    wrapped = ValueError("a library's")
    wrapped.__cause__ = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    found = of_any(wrapped)
    assert found is not None
    assert "ulimit" in found.hint
    assert of_any(ValueError("another")) is None


def test_a_store_is_made_once_and_nothing_is_made_of_a_file(tmp_path: Path) -> None:
    RunStore(tmp_path / "a/b").make()
    RunStore(tmp_path / "a/b").make()
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(TrajsvcError) as caught:
            RunStore(root).make()
        assert caught.value.kind == "store-not-folder"


LINES = [
    b"\xff\xfe\x00", b"[]", b"null", b'["f", 0, 4, 0]', b'["f", "0", "4", "0", "d"]', b'["f", 0, 1e9, 0, "d"]', b'["f", -4, 0, 0, "d"]',
    b'["f", 0, 4611686018427387904, 0, "d"]', b'["f", 0, 4, 4611686018427387904, "d"]', b'[["f"], 0, 4, 0, "d"]', b"[" * 100_000,
    b'["f", 0, ' + b"9" * 5000 + b', 0, "d"]', b'["f", true, 4, 0, "d"]',
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_the_list_of_what_came_is_never_trusted(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "w.done").write_bytes(line + b"\n")
    spool = Spool(tmp_path / "w", 16)
    wanted = SpoolRequest("f", 0, 4, 0)
    try:
        assert spool.missing([wanted]) == [wanted]
    finally:
        spool.close()
