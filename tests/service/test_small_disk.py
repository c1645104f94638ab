"""A real disk of 64 MB that fills up: the attempt fails cleanly, what was stored stays readable, and with space the same work goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from service_process import make_run, start_server

import trajsvc
from storage_schema.runs.store import RunStore


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a disk cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)


@pytest.mark.slow
def test_a_copy_that_does_not_fit_fails_and_goes_on_with_space(small_disk: Path, tmp_path: Path) -> None:
    source = make_run(tmp_path / "run", steps=20, tensors=8, size=2**18)  # 160 MB
    store = small_disk / "store"
    before = trajsvc.analyze(source, store=store, name="before", steps="first:4", threads=2).stored.block_grams()
    with pytest.raises(trajsvc.TrajsvcError) as caught:
        trajsvc.analyze(source, store=store, name="run", copy=True, threads=2, memory="64MiB")
    assert caught.value.kind == "disk-full"
    assert np.array_equal(RunStore(store).open("before").block_grams(), before)
    assert "run" not in RunStore(store).names()
    enlarge(small_disk)
    run = trajsvc.analyze(source, store=store, name="run", copy=True, threads=2, memory="64MiB")
    plain = trajsvc.analyze(source, store=tmp_path / "plain", name="run", threads=2, memory="64MiB")
    assert np.array_equal(run.stored.block_grams(), plain.stored.block_grams())
    assert run.stored.verify() == ()


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
def test_a_server_refuses_before_it_starts_what_its_disk_does_not_hold(small_disk: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "data" / "run", steps=20, tensors=8, size=2**18)
    server = start_server(tmp_path, "--root", f"runs={tmp_path / 'data'}", "--store", str(small_disk / "store"))
    server.store = small_disk / "store"
    try:
        job = server.wait(server.submit("runs:run", copy=True)["id"])
        assert (job["state"], job["cause"]["kind"]) == ("failed", "disk-space"), job
        assert "MiB" in job["cause"]["message"]
        enlarge(small_disk)
        again = server.wait(server.submit("runs:run", copy=True)["id"])
        assert again["state"] == "succeeded", again
        assert RunStore(server.store).open("run").has_theta
    finally:
        server.process.stop()
