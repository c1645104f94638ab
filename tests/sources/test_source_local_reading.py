"""Files that change while a run is listed or read, and reading many of them."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from local_checkpoints import kinds, state, steps, write
from refusals import refused

from trajsvc.errors import TryAgain
from trajsvc.sources.local.source import LocalSource, settled

# Files that change


@pytest.mark.timing
def test_a_file_that_is_written_again_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "step1.safetensors")
    source = LocalSource(tmp_path)
    (checkpoint,) = source.checkpoints()
    assert source.unchanged(checkpoint)
    os.utime(path, ns=(1, 1))
    assert not source.unchanged(checkpoint)
    error = refused(lambda: source.tensors(checkpoint), "file-changed", file=str(path))
    assert isinstance(error, TryAgain)
    source.refresh()
    assert set(source.tensors(source.checkpoints()[0]).tensors) == set(state())
    source.refresh()
    (checkpoint,) = source.checkpoints()
    path.unlink()
    assert not source.unchanged(checkpoint)
    refused(lambda: source.tensors(checkpoint), "file-changed", file=str(path))


@pytest.mark.timing
def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "step1.safetensors")
    source = LocalSource(tmp_path)
    entry = source.tensors(source.checkpoints()[0]).tensors["a.weight"]
    os.truncate(path, entry.offset + 10)
    error = refused(lambda: source.read(entry.file, entry.offset, memoryview(bytearray(96))), "file-changed")
    assert isinstance(error, TryAgain)
    assert error.file == str(path)


@pytest.mark.timing
def test_a_growing_checkpoint_is_not_settled(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint-1" / "model.safetensors")
    source = LocalSource(tmp_path)
    assert not settled(source.checkpoints()[0], 60)
    assert settled(source.checkpoints()[0], 0)
    old = time.time() - 120
    os.utime(path, (old, old))
    assert not settled(source.checkpoints()[0], 60), "it is not as it was listed"
    source.refresh()
    assert settled(source.checkpoints()[0], 60)


def test_what_is_written_under_another_name_is_left_for_later(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-1" / "model.safetensors")
    write(tmp_path / "tmp-checkpoint-1" / "model.safetensors")
    write(tmp_path / "checkpoint-2.tmp" / "model.safetensors")
    (tmp_path / "step3.partial.pt").write_bytes(b"PK")
    write(tmp_path / "temperature-5.pt")
    source = LocalSource(tmp_path)
    assert steps(source) == [1, 5]
    assert kinds(source) == ["growing"] * 3


def test_a_trainers_mark_says_that_a_checkpoint_is_complete(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint-1" / "model.safetensors")
    mark = tmp_path / "checkpoint-1" / "trainer_state.json"
    mark.write_text("{}")
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    os.utime(mark, ns=(now - 10**9, now - 10**9))
    source = LocalSource(tmp_path)
    assert not settled(source.checkpoints()[0], 600), "the mark is of an earlier saving"
    os.utime(mark, ns=(now, now))
    assert settled(source.checkpoints()[0], 600)


# Reading


@pytest.mark.timing
def test_few_descriptors_serve_many_files_and_threads(tmp_path: Path) -> None:
    for step in range(24):
        write(tmp_path / f"step{step}.safetensors", state(step))
    source = LocalSource(tmp_path, max_open=4)
    entries = [source.tensors(c).tensors["a.weight"] for c in source.checkpoints()]
    problems: list[object] = []
    most = 0

    def work(seed: int) -> None:
        nonlocal most
        rng = np.random.default_rng(seed)
        for _ in range(40):
            step = int(rng.integers(24))
            out = bytearray(96)
            source.read(entries[step].file, entries[step].offset, memoryview(out))
            if bytes(out) != state(step)["a.weight"].numpy().tobytes():
                problems.append(step)
            most = max(most, _open_files(tmp_path))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert most <= 4 + 4
    source.close()
    assert _open_files(tmp_path) == 0


def _open_files(folder: Path) -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += str(link.readlink()).startswith(str(folder))
        except OSError:
            continue
    return found


def test_a_file_outside_the_root_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "run" / "step1.safetensors")
    (tmp_path / "secret").write_bytes(b"secret")
    source = LocalSource(tmp_path / "run")
    for path in (tmp_path / "secret", tmp_path / "run" / ".." / "secret"):
        refused(lambda path=path: source.read(str(path), 0, memoryview(bytearray(6))), "link-outside")  # type: ignore[misc]


@pytest.mark.timing
def test_many_checkpoints_are_listed_at_once(tmp_path: Path) -> None:
    write(tmp_path / "step0" / "model.safetensors")
    for step in range(1, 400):
        (tmp_path / f"step{step}").mkdir()
        os.link(tmp_path / "step0" / "model.safetensors", tmp_path / f"step{step}" / "model.safetensors")
    started = time.thread_time()
    source = LocalSource(tmp_path)
    assert len(source.checkpoints()) == 400
    assert time.thread_time() - started < 20
