"""Runs whose Grams are larger than the memory budget: the same bits, within the budget, appended to, and said beforehand."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.analysis.forecast import describe
from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.observer import NullObserver
from trajsvc.analysis.options import Options
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.analysis.selected import plan_of, source_of, trajectory_of
from trajsvc.errors import LimitExceeded
from trajsvc.gram.engine import ProgressCallback
from trajsvc.gram.thread_pool import ThreadPool

BLOCKS, STEPS = 60, 260
BUDGET = 40 * 2**20
"""bytes; the sums and the Grams of the blocks take 65 MB in files, 130 MB as a budget counts them"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large") / "run"
    rng = np.random.default_rng(0)
    values = {f"layers.{b}.weight": rng.standard_normal((4, 4)).astype(np.float32) for b in range(BLOCKS)}
    for step in range(STEPS):
        for name, before in values.items():
            values[name] = before + 0.01 * rng.standard_normal((4, 4)).astype(np.float32)
        (root / f"step{step}").mkdir(parents=True)
        save_file(values, root / f"step{step}/model.safetensors")
    return root


@pytest.fixture(scope="module")
def grams(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    store = tmp_path_factory.mktemp("store")
    trajsvc.analyze(str(folder), store=store, name="run", threads=1)
    return RunStore(store).open("run").block_grams()


@pytest.mark.slow
def test_a_plan_says_what_grams_take_in_memory_and_in_files(folder: Path) -> None:
    for memory, on_disk in ((BUDGET, True), (512 * 2**20, False)):
        options = Options(memory=memory, threads=1)
        trajectory = trajectory_of(source_of(folder, options), options)
        plan = plan_of(trajectory, options)
        facts = describe(trajectory, plan, options, None)
        assert plan.on_disk == on_disk
        assert facts["gram_bytes"] == BLOCKS * STEPS**2 * 8
        assert (facts["disk_meanwhile"] > facts["gram_bytes"]) == on_disk
        assert facts["memory"] <= memory


@pytest.mark.slow
def test_grams_in_files_have_the_same_bits_and_leave_no_file(folder: Path, grams: np.ndarray, tmp_path: Path) -> None:
    trajsvc.analyze(str(folder), store=tmp_path, name="run", steps=f"first:{STEPS - 3}", memory=BUDGET, threads=1)
    stored = RunStore(tmp_path).open("run")
    assert np.array_equal(stored.block_grams(), grams[:, : STEPS - 3, : STEPS - 3])
    trajsvc.analyze(str(folder), store=tmp_path, name="run", memory=BUDGET, threads=1)
    appended = RunStore(tmp_path).open("run")
    assert appended.generation == stored.generation + 1
    np.testing.assert_allclose(appended.block_grams(), grams, rtol=1e-12, atol=1e-12)
    assert not [path for path in tmp_path.rglob("tmp*") if path.is_file()]


PEAK = """
import resource, sys
import trajsvc
from pathlib import Path
def high():
    return int([l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")][0].split()[1])
small = sys.argv[3]
trajsvc.analyze(sys.argv[1], store=sys.argv[2], name="small", steps="first:4", threads=1)
before = high()
trajsvc.analyze(sys.argv[1], store=sys.argv[2], name="run", memory=int(small), threads=1)
print((high() - before) // 1024)
"""


@pytest.mark.slow
def test_grams_in_files_keep_to_the_budget(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PEAK, str(folder), str(tmp_path), str(BUDGET)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) <= BUDGET // 2**20


def test_blocks_that_cannot_be_computed_again_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 50)) + np.cumsum(1e-2 * rng.standard_normal((6, 40, 50)), axis=0)
    values[2] *= 1e8
    for step, kept in enumerate(values):
        (tmp_path / f"run/step{step}").mkdir(parents=True)
        save_file({"layers.0.weight": kept}, tmp_path / f"run/step{step}/model.safetensors")
    held = 2**40
    monkeypatch.setattr("trajsvc.analysis.rebase.held", lambda state, old: held)
    run = trajsvc.analyze(str(tmp_path / "run"), store=tmp_path / "store", threads=1)
    [found] = [f for f in run.findings if f.kind == "lost-digits"]
    assert "does not fit the memory budget of 512 MiB" in found.message
    assert "--memory" in found.message
    assert np.isnan(run.norm().values).any(), "undefined, and not wrong"


KILLED = """
import os, signal, sys
from pathlib import Path
from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.observer import NullObserver
from trajsvc.analysis.options import Options
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.sources.resolve import open_source

class Killed(NullObserver):
    def progress(self):
        def after(progress):
            if progress.state.cursor == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return after

options = Options(memory=int(sys.argv[3]), threads=1)
run_analysis(AnalysisJob(open_source(sys.argv[1]), Path(sys.argv[2]), "run", options, ThreadPool(1), Killed()))
"""


@pytest.mark.slow
def test_grams_in_files_are_resumed_after_a_kill(folder: Path, grams: np.ndarray, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(tmp_path), str(BUDGET)], check=False)
    assert killed.returncode == -signal.SIGKILL
    seen: list[int] = []

    class Watching(NullObserver):
        def progress(self) -> ProgressCallback:
            return lambda progress: seen.append(progress.state.cursor)

    options = Options(memory=BUDGET, threads=1)
    run_analysis(
        AnalysisJob(source_of(folder, options), tmp_path, "run", options, ThreadPool(1), Watching()),
    )
    assert seen[0] == 2, "the slabs that were kept are not computed again"
    assert np.array_equal(RunStore(tmp_path).open("run").block_grams(), grams)
    assert not [path for path in tmp_path.rglob("tmp*") if path.is_file()]


@pytest.mark.slow
def test_an_estimate_says_that_sums_in_files_leave_it_without_errors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names, values = [f"layers.{b}.weight" for b in range(16)], rng.standard_normal((16, 130, 140)).astype(np.float16)
    for step in range(100):
        (tmp_path / f"run/step{step}").mkdir(parents=True)
        save_file(dict(zip(names, values, strict=True)), tmp_path / f"run/step{step}/model.safetensors")
        values[:, step] += np.float16(1)
    options = Options(threads=1, preview=0.01)
    trajectory = trajectory_of(source_of(tmp_path / "run", options), options)
    for memory in (mib * 2**20 for mib in range(1, 128)):
        with suppress(LimitExceeded):
            if plan_of(trajectory, options.with_(memory=memory)).on_disk:
                break
    kept = {}
    for name, budget in (("files", memory), ("memory", 512 * 2**20)):
        run = trajsvc.analyze(
            str(tmp_path / "run"), store=tmp_path / "store", name=name, preview=0.01, memory=budget, threads=1
        )
        assert run.estimate is not None
        kept[name] = (
            run.stored.replicates() is not None,
            [f.message for f in run.findings if f.kind == "no-standard-errors"],
        )
    assert kept["memory"] == (True, [])
    errors, [said] = kept["files"]
    assert not errors
    assert "16 blocks at 100 checkpoints" in said
