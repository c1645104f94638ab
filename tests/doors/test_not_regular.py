"""Pipes in the place of files: what is to be read there is refused, and nothing waits for a writer that does not come."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from in_process import trajsvc
from safetensors.numpy import save_file

from storage_schema.files.durable import Lock, replace_file
from storage_schema.files.regular import PIPED, NotRegular, open_file, read_file, read_given, read_text

PATIENCE = 120
"""seconds after which a command waits for ever"""
REPOSITORY = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "storage_schema/files/regular.py", "storage_schema/files/inside.py", "trajsvc/sources/files.py", "trajsvc/jobs/data_roots.py",
    "api/routes/page.py", "trajsvc/cli/report_page.py",
}  # fmt: skip
"""Files that open others as ``regular`` does, and follow no links besides; and those that read the page, which is part of the program."""


@contextmanager
def bounded() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make_run(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for step in range(3):
        (folder / f"step{step}").mkdir(parents=True)
        save_file(
            {"layers.0.weight": rng.normal(size=(16, 16)).astype(np.float32)}, folder / f"step{step}/model.safetensors"
        )
    (folder / "config.json").write_text("{}")
    (folder / "train_log.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    (folder / "hparams.yaml").write_text("lr: 0.1\n")
    return folder


def pipe_at(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored run with all that may lie beside it."""
    folder = tmp_path_factory.mktemp("pipes")
    make_run(folder / "run")
    for words in (["analyze", "run", "--copy", "--no-figures"], ["spectra", "compute", "run"], ["tag", "run", "x"]):
        done = trajsvc(*words, "--store", "s", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_kind_of_file_of_a_store_may_be_a_pipe(place: Path, tmp_path: Path) -> None:
    found = sorted(p.relative_to(place / "s") for p in (place / "s").rglob("*") if p.is_file())
    assert {"manifest.json", "zarr.json", "about.json"} <= {p.name for p in found}
    kinds = {re.sub("[0-9]+", "0", f"{file.parent.name}/{file.name}"): file for file in found}
    chosen = {
        k: file for k, file in kinds.items() if file.parent.parent.name != "run.zarr" or k.startswith(("gram/", "c/"))
    }
    print(f"{len(chosen)} of {len(found)} files")
    for number, file in enumerate(chosen.values()):
        shutil.copytree(place, there := tmp_path / str(number))
        pipe_at(there / "s" / file)
        for words in (
            ["ls"],
            ["show", "run"],
            ["measures", "run"],
            ["spectra", "layers", "run"],
            ["analyze", "run", "--no-figures", "-q"],
        ):
            with bounded():
                done = trajsvc(*words, "--store", "s", cwd=there)
            assert done.returncode in (0, 1, 4, 75), (file, words, done.stderr)
            assert "Traceback" not in done.stderr
        shutil.rmtree(there)


@pytest.mark.parametrize("file", ["step1/model.safetensors", "config.json", "train_log.jsonl", "hparams.yaml"])
def test_every_file_of_a_run_may_be_a_pipe(tmp_path: Path, file: str) -> None:
    make_run(tmp_path / "run")
    pipe_at(tmp_path / "run" / file)
    for words in (["plan", "run"], ["audit", "run"], ["analyze", "run", "--no-figures", "-q"]):
        with bounded():
            done = trajsvc(*words, "--store", "s", cwd=tmp_path)
        assert done.returncode in (0, 1, 3, 4), (words, done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [["analyze", "run", "--rules", "pipe"], ["batch", "pipe"], ["average", "run", "--weights", "pipe", "-o", "x"]],
)
def test_a_file_that_is_named_may_be_no_pipe_without_a_writer(tmp_path: Path, place: Path, words: list[str]) -> None:
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    os.mkfifo(tmp_path / "pipe")
    with bounded():
        done = trajsvc(*words, "--store", "s", cwd=tmp_path)
    assert done.returncode in (2, 4), done.stderr
    assert "regular file" in done.stderr
    assert "pipe" in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["analyze", "run", "--rules", "PIPE", "--no-figures", "--replace"],
            '[mine]\nmarks = ["^layers"]\nlayers = "layers.#"\n',
        ),
        (["average", "run", "--weights", "PIPE", "-o", "x"], '{"1": 0.5, "2": 0.5}'),
    ],
)
def test_a_pipe_with_a_writer_is_read_where_a_user_names_it(
    tmp_path: Path, place: Path, words: list[str], text: str
) -> None:
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file:
        file.write(text)
    words = [f"/dev/fd/{reader}" if word == "PIPE" else word for word in words]
    with bounded():
        done = trajsvc(*words, "--store", "s", cwd=tmp_path)
    os.close(reader)
    assert done.returncode == 0, done.stderr


@pytest.mark.timing
def test_what_comes_through_a_pipe_is_awaited_whole_and_bounded(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for data, expected in ((b"a: 1\r\n" * 20_000, "a: 1\n" * 20_000), (bytes(PIPED + 1), None)):
        reader = os.open(
            pipe, os.O_RDONLY | os.O_NONBLOCK
        )  # so that the writer neither waits for one nor is told that there is none
        writer = os.open(pipe, os.O_WRONLY)
        with ThreadPoolExecutor(1) as pool, bounded():
            asked = pool.submit(read_given, pipe)
            with os.fdopen(writer, "wb", buffering=0) as file:
                for at in range(0, len(data), 30_000):
                    file.write(data[at : at + 30_000])
            if expected is None:
                with pytest.raises(NotRegular):
                    asked.result()
            else:
                assert asked.result() == expected
        os.close(reader)


def test_nothing_but_regular_files_is_opened(tmp_path: Path) -> None:
    pipe, folder, link = tmp_path / "pipe", tmp_path / "folder", tmp_path / "link"
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to(pipe)
    for one in (pipe, folder, link, Path("/dev/zero")):
        for read in (read_file, read_text, read_given, open_file):
            with bounded(), pytest.raises(NotRegular, match="not a regular file"):
                read(one)
    with bounded(), pytest.raises(NotRegular):
        Lock(pipe).acquire()
    os.mkfifo(tmp_path / ".file.new")
    with bounded(), pytest.raises(NotRegular):
        replace_file(tmp_path / "file", b"x")
    (tmp_path / "text").write_bytes("é\r\n".encode())
    assert (read_text(tmp_path / "text"), read_file(tmp_path / "text")) == ("é\n", "é\r\n".encode())
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none")


def opens(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that open a file to read it, or a descriptor, whatever lies there."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
        if (
            name.endswith((".read_bytes", ".read_text"))
            or name == "os.open"
            or (name.endswith(".open") and modes and set(modes) <= {"r", "rb", "r+", "r+b"})
        ):
            yield node


def test_no_other_place_opens_files() -> None:
    """What is read of the program itself, of the kernel, or is written for the first time may be opened as it is."""
    found = []
    for package in ("trajsvc", "storage_schema", "workers", "api"):
        for path in (REPOSITORY / package).rglob("*.py"):
            name = str(path.relative_to(REPOSITORY))
            if name in ELSEWHERE:
                continue
            for call in opens(ast.parse(path.read_text())):
                said = ast.unparse(call)
                if not any(
                    known in said
                    for known in (
                        "O_DIRECTORY",
                        "O_EXCL",
                        "os.devnull",
                        "/proc/",
                        "__file__",
                        "WEB",
                        "OPENAPI",
                        "_STATUS",
                    )
                ):
                    found.append(f"{name}:{call.lineno}: {said}")
    assert found == [], "open them with storage_schema.files.regular"
