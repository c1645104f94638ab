"""Slabs as files of their own: whole or not there, whoever writes them and however they die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from job_making import SPAWN, put_for_ever
from slow_params import slow_but

from storage_schema.files.journal import Arrays
from storage_schema.files.slab_results import SlabFiles

KEY = "k" * 64


def arrays(seed: int = 0, size: int = 50) -> Arrays:
    rng = np.random.default_rng(seed)
    return {"gram": rng.normal(size=(size, 7)), "blocks": np.arange(size, dtype=np.int32), "empty": np.zeros((0, 3))}


def same(found: Arrays | None, wanted: Arrays) -> bool:
    return found is not None and {k: (v.dtype, v.shape, v.tobytes()) for k, v in found.items()} == {
        k: (v.dtype, v.shape, v.tobytes()) for k, v in wanted.items()
    }


def only_slab(files: SlabFiles) -> Path:
    (path,) = files.directory.glob("*.slab")
    return path


def test_what_is_put_is_got_bit_by_bit(tmp_path: Path) -> None:
    files = SlabFiles(tmp_path, KEY)
    assert files.get(3) is None
    assert not files.has(3)
    files.put(3, arrays())
    assert same(SlabFiles(tmp_path, KEY).get(3), arrays())
    assert files.has(3)
    assert files.get(4) is None
    files.put(3, arrays(1))
    assert same(files.get(3), arrays(1))
    assert [p.name for p in files.directory.iterdir()] == [only_slab(files).name], "nothing else is left"
    files.remove(3)
    files.remove(3)
    assert files.get(3) is None


def test_every_torn_file_is_none(tmp_path: Path) -> None:
    files = SlabFiles(tmp_path, KEY)
    files.put(1, arrays(size=3))
    path = only_slab(files)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert files.get(1) is None, length
    path.write_bytes(whole + b"\0")
    assert files.get(1) is None
    path.write_bytes(whole)
    assert same(files.get(1), arrays(size=3))


def test_a_file_with_any_byte_altered_is_none(tmp_path: Path) -> None:
    files = SlabFiles(tmp_path, KEY)
    files.put(1, arrays(size=3))
    path = only_slab(files)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert files.get(1) is None, at


def test_a_slab_of_another_job_or_of_another_number_is_none(tmp_path: Path) -> None:
    files, other = SlabFiles(tmp_path, KEY), SlabFiles(tmp_path, KEY[:32] + "x" * 32)
    assert files.directory == other.directory, "the names of their folders agree"
    files.put(1, arrays())
    assert other.get(1) is None
    only_slab(files).rename(files.directory / "0000002.slab")
    assert files.get(2) is None


@pytest.mark.timing
def test_two_writers_of_one_slab_leave_it_whole_at_every_instant(tmp_path: Path) -> None:
    files = SlabFiles(tmp_path, KEY)
    processes = [SPAWN.Process(target=put_for_ever, args=(str(tmp_path), KEY, 7), daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    try:
        seen, until = 0, time.monotonic() + 30
        while seen < 300 and time.monotonic() < until:
            found = files.get(7)
            if found is None:
                assert seen == 0, "it was there and is not whole any more"
                time.sleep(0.01)
                continue
            assert np.array_equal(found["values"], np.arange(20_000.0))
            seen += 1
        assert all(process.is_alive() for process in processes), "a writer failed"
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()
    assert seen >= 300


@pytest.mark.timing
def test_threads_of_one_process_may_write_the_same_slab(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    files = SlabFiles(tmp_path, KEY)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: files.put(7, arrays()), range(100)))
    assert same(files.get(7), arrays())


@pytest.mark.timing
@pytest.mark.parametrize("after", slow_but([0.05, 0.15, 0.4], [0.15]))
def test_a_writer_killed_at_any_moment_leaves_a_slab_whole_or_none(tmp_path: Path, after: float) -> None:
    files = SlabFiles(tmp_path, KEY)
    process = SPAWN.Process(target=put_for_ever, args=(str(tmp_path), KEY, 7), daemon=True)
    process.start()
    try:
        until = time.monotonic() + 120
        while not files.directory.is_dir() and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(after)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join(600)
    finally:
        process.close()
    found = files.get(7)
    assert found is None or np.array_equal(found["values"], np.arange(20_000.0))
    files.put(7, arrays())
    assert same(files.get(7), arrays())


def test_clear_removes_all_of_a_job_and_nothing_of_another(tmp_path: Path) -> None:
    mine, other = SlabFiles(tmp_path, KEY), SlabFiles(tmp_path, "o" * 64)
    for files in (mine, other):
        files.put(1, arrays())
        assert files.blob(b"what it is").read_bytes() == b"what it is"
    mine.clear()
    mine.clear()
    assert not mine.directory.exists()
    assert same(other.get(1), arrays())
