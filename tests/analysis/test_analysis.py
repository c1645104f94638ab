"""The main job on real files: exact maps, resumption, appending, copies, previews."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import in_process
import numpy as np
import pytest
import torch
from slow_params import slow_but
from small_runs import HIDDEN, attention_part, cosines, flat, shapes, trajectory, write_run, write_step

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.observer import NullObserver
from trajsvc.analysis.options import Options
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.errors import (
    Refused,
    RunExists,
    UsageError,
)
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.results.run import Run
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.resolve import open_source
from trajsvc.trajectory.opening import open_trajectory

NAMES = list(shapes())


@dataclass
class Told(NullObserver):
    """Keeps what it is told before the work begins."""

    notes: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        self.notes.append(message)


def grams(run: Run) -> np.ndarray:
    return run.gram("network").gram


@pytest.mark.parametrize("update", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_and_angles_meet_the_oracle(tmp_path: Path, update: float, dtype: torch.dtype) -> None:
    if dtype == torch.float32 and update < 1e-5:
        update = 1e-5  # smaller ones are below float32's own spacing
    states = trajectory(7, update=update, dtype=dtype)
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store")
    theta = flat(states, NAMES)
    np.testing.assert_allclose(run.trajectory_map().values, cosines(theta), atol=1e-12)
    np.testing.assert_allclose(run.trajectory_map(origin=0).values, cosines(theta[1:] - theta[0]), atol=1e-12)
    updates = np.diff(theta, axis=0)
    np.testing.assert_allclose(run.update_norm().values, np.linalg.norm(updates, axis=1), rtol=1e-11)
    angle = np.degrees(np.arccos([cosines(updates)[i, i + 1] for i in range(5)]))
    np.testing.assert_allclose(run.update_angle().values, angle, rtol=1e-11)
    for layer in (0, 1):
        for part in "qkv":
            found = run.trajectory_map(f"layer/{layer}/attention.{part}", origin=0).values
            piece = attention_part(states, layer, part)
            np.testing.assert_allclose(found, cosines(piece[1:] - piece[0]), atol=1e-12)


def test_formats_mix_and_zero_vectors_are_undefined(tmp_path: Path) -> None:
    states = trajectory(5, dtype=torch.float16)
    run = trajsvc.analyze(write_run(tmp_path / "run", states, kinds=("safetensors", "torch")), store=tmp_path / "s")
    group = "tensor/gpt_neox.layers.0.attention.dense.bias"
    found = run.trajectory_map(group).values
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found, cosines(flat(states, [group.removeprefix("tensor/")])), atol=1e-12)
    assert run.measures(group)["undefined"]["points"] == 1


def test_checkpoints_are_ordered_by_number_and_steps_selected(tmp_path: Path) -> None:
    states = trajectory(4)
    folder = write_run(tmp_path / "run", states, steps=[2, 10, 100, 1000])
    run = trajsvc.analyze(folder, store=tmp_path / "store")
    assert run.steps.tolist() == [2, 10, 100, 1000]
    some = trajsvc.analyze(folder, store=tmp_path / "store", name="some", steps="2,1000")
    np.testing.assert_allclose(grams(some), run.gram("network", steps="2,1000").gram, rtol=1e-12, atol=1e-15)


def test_a_new_checkpoint_is_appended_and_equals_a_computation_anew(tmp_path: Path) -> None:
    states = trajectory(8)
    folder, store = tmp_path / "run", tmp_path / "store"
    write_run(folder, states[:7])
    trajsvc.analyze(folder, store=store)
    before = RunStore(store).open("run")
    old = before.block_grams()
    write_step(folder, 700, states[7])
    run = trajsvc.analyze(folder, store=store)
    after = RunStore(store).open("run")
    assert after.block_grams()[:, :7, :7].tobytes() == old.tobytes()
    anew = trajsvc.analyze(folder, store=tmp_path / "other")
    scale = np.sqrt(np.diag(grams(anew)))
    assert np.max(np.abs(grams(run) - grams(anew)) / np.outer(scale, scale)) < 1e-13
    assert after.checkpoints.fingerprint == RunStore(tmp_path / "other").open("run").checkpoints.fingerprint
    generation = after.generation
    trajsvc.analyze(folder, store=store)
    assert RunStore(store).open("run").generation == generation


@pytest.mark.parametrize(
    "made", [{"kernel": None, "precision": "float32"}, {"kernel": "fused-0"}, {"precision": "float32"}]
)
def test_what_an_earlier_kernel_made_stays_readable_and_is_computed_anew_when_it_grows(
    tmp_path: Path, made: dict[str, str | None]
) -> None:
    states = trajectory(6)
    folder, store = write_run(tmp_path / "run", states[:5]), tmp_path / "store"
    first = trajsvc.analyze(folder, store=store)
    with RunStore(store).writer("run") as writer:
        contents = RunStore(store).open("run").contents()
        attributes = {k: v for k, v in {**contents.attributes, **made}.items() if v is not None}
        writer.commit(replace(contents, gram=contents.gram * (1 + 1e-7), attributes=attributes))
    old = trajsvc.open(store, "run")
    np.testing.assert_allclose(old.norm().values, first.norm().values, rtol=1e-6)
    write_step(folder, 500, states[5])
    told = Told()
    run_analysis(AnalysisJob(LocalSource(folder), store, None, Options(), ThreadPool(2), told))
    assert "computed anew" in " ".join(told.notes)
    assert "run" in told.notes[0]
    anew = trajsvc.analyze(folder, store=tmp_path / "other")
    assert grams(trajsvc.open(store, "run")).tobytes() == grams(anew).tobytes()


@pytest.mark.parametrize("factor", [10.0, 1e5])
def test_norms_after_a_checkpoint_that_is_far_too_large_are_right(tmp_path: Path, factor: float) -> None:
    states = trajectory(6, dtype=torch.float64)
    states[2] = {name: value * factor for name, value in states[2].items()}
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store")
    np.testing.assert_allclose(run.norm().values, np.linalg.norm(flat(states, NAMES), axis=1), rtol=1e-9)
    assert [f.kind for f in run.findings if f.kind == "lost-digits"] == []


def test_the_fast_way_is_kept_with_the_run(tmp_path: Path) -> None:
    states = trajectory(6)
    folder, store = write_run(tmp_path / "run", states[:5]), tmp_path / "store"
    trajsvc.analyze(folder, store=store, precision="float32")
    write_step(folder, 500, states[5])
    told = Told()
    outcome = run_analysis(
        AnalysisJob(LocalSource(folder), store, None, Options(precision="float32"), ThreadPool(2), told)
    )
    assert outcome.action == "appended"
    assert not any("anew" in note for note in told.notes)
    run = trajsvc.open(store, "run")
    assert run.attributes["precision"] == "float32"
    np.testing.assert_allclose(run.trajectory_map().values, cosines(flat(states, NAMES)), atol=1e-6)


def test_a_checkpoint_that_changed_is_not_mistaken_for_the_old_one(tmp_path: Path) -> None:
    states = trajectory(6)
    folder, store = write_run(tmp_path / "run", states[:5]), tmp_path / "store"
    trajsvc.analyze(folder, store=store)
    write_step(folder, 200, states[5])
    with pytest.raises(RunExists, match="step 200"):
        trajsvc.analyze(folder, store=store)
    run = trajsvc.analyze(folder, store=store, replace=True)
    expected = [*states[:2], states[5], *states[3:5]]
    np.testing.assert_allclose(run.trajectory_map().values, cosines(flat(expected, NAMES)), atol=1e-12)


def test_checkpoints_that_are_gone_are_not_lost(tmp_path: Path) -> None:
    """A training that keeps its last checkpoints only: what was computed stays until the user says otherwise."""
    states = trajectory(6)
    folder, store = write_run(tmp_path / "run", states[:5]), tmp_path / "store"
    trajsvc.analyze(folder, store=store)
    shutil.rmtree(folder / "step0")
    assert trajsvc.analyze(folder, store=store).steps.tolist() == [0, 100, 200, 300, 400]
    write_step(folder, 500, states[5])
    with pytest.raises(Refused) as caught:
        trajsvc.analyze(folder, store=store)
    assert caught.value.kind == "checkpoints-gone"
    assert trajsvc.open(store, "run").steps.tolist() == [0, 100, 200, 300, 400]
    assert trajsvc.analyze(folder, store=store, steps="100,300").steps.tolist() == [0, 100, 200, 300, 400]
    assert "--replace" in caught.value.hint
    assert trajsvc.analyze(folder, store=store, replace=True).steps.tolist() == [100, 200, 300, 400, 500]


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("kill", slow_but([signal.SIGKILL, signal.SIGINT], [signal.SIGKILL]))
def test_a_stopped_analysis_resumes_to_the_same_bits(tmp_path: Path, kill: signal.Signals) -> None:
    folder = write_run(tmp_path / "run", trajectory(24, vocab=20_000))
    whole = trajsvc.analyze(folder, store=tmp_path / "whole", memory="64MiB", threads=1)
    command = [sys.executable, str(Path(__file__).with_name("slow_analysis.py")), str(folder), str(tmp_path / "store")]
    slow = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert slow.stdout is not None
    for line in slow.stdout:
        if line.startswith("slab 3"):
            slow.send_signal(kill)
            break
    slow.communicate()
    assert slow.returncode == (-kill if kill == signal.SIGKILL else 130)
    assert RunStore(tmp_path / "store").names() == ()
    done = subprocess.run([*command, "--fast"], capture_output=True, text=True, check=True)
    assert "resumed" in done.stdout
    stored, expected = (RunStore(tmp_path / s).open("run") for s in ("store", "whole"))
    assert stored.block_grams().tobytes() == expected.block_grams().tobytes()
    assert stored.checkpoints.fingerprint == expected.checkpoints.fingerprint
    assert np.array_equal(stored.nonfinite(), expected.nonfinite())
    assert whole.steps.tolist() == trajsvc.open(tmp_path / "store", "run").steps.tolist()


def test_a_copy_holds_every_bit_and_needs_no_original(tmp_path: Path) -> None:
    states = trajectory(4, dtype=torch.bfloat16)
    run = trajsvc.analyze(write_run(tmp_path / "run", states), store=tmp_path / "store", copy=True)
    stored = RunStore(tmp_path / "store").open("run")
    offset = dict(zip(stored.blocks.name, stored.blocks.offset.tolist(), strict=True))
    size = dict(zip(stored.blocks.name, stored.blocks.size.tolist(), strict=True))
    for row, state in enumerate(states):
        for name in ("gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm.weight"):
            out = bytearray(2 * size[name])
            stored.read_theta(row, offset[name], offset[name] + size[name], memoryview(out))
            assert bytes(out) == state[name].view(torch.int16).numpy().tobytes()
        fused = state["gpt_neox.layers.1.attention.query_key_value.weight"].view(torch.int16).numpy()
        for part in range(3):
            name = f"gpt_neox.layers.1.attention.query_key_value.weight[{'qkv'[part]}]"
            out = bytearray(2 * size[name])
            stored.read_theta(row, offset[name], offset[name] + size[name], memoryview(out))
            assert bytes(out) == fused.reshape(4, 3, HIDDEN // 4, HIDDEN)[:, part].tobytes()
    plain = trajsvc.analyze(tmp_path / "run", store=tmp_path / "plain")
    assert grams(plain).tobytes() == grams(run).tobytes()


def test_a_copy_goes_on_when_checkpoints_are_added(tmp_path: Path) -> None:
    states = trajectory(5)
    folder, store = write_run(tmp_path / "run", states[:4]), tmp_path / "store"
    trajsvc.analyze(folder, store=store, copy=True)
    write_step(folder, 400, states[4])
    trajsvc.analyze(folder, store=store)
    stored = RunStore(store).open("run")
    assert stored.theta is not None
    assert stored.theta.rows == 5
    assert stored.verify() == ()


def test_a_preview_says_how_far_it_may_be_off_and_is_refined(tmp_path: Path) -> None:
    states = trajectory(6, update=0.3, vocab=30_000)
    folder, store = write_run(tmp_path / "run", states), tmp_path / "store"
    preview = trajsvc.analyze(folder, store=store, preview="1%")
    assert preview.estimate is not None
    assert preview.estimate["fraction"] < 0.05
    exact = trajsvc.analyze(folder, store=store)
    assert exact.estimate is None
    off = np.abs(preview.trajectory_map().values - exact.trajectory_map().values)
    assert 0 < off.max() < 0.1
    error = preview.standard_error("trajectory_map")
    assert error is not None
    assert np.nanmax(off / np.maximum(error, 1e-12)) < 10
    assert exact.standard_error("trajectory_map") is None
    again = trajsvc.analyze(folder, store=tmp_path / "other")
    assert grams(again).tobytes() == grams(exact).tobytes()


def test_an_estimate_does_not_replace_a_run(tmp_path: Path) -> None:
    folder, store = write_run(tmp_path / "run", trajectory(4)), tmp_path / "store"
    trajsvc.analyze(folder, store=store, copy=True)
    assert trajsvc.analyze(folder, store=store, preview="1%").estimate is None
    write_step(folder, 400, trajectory(5)[4])
    with pytest.raises(UsageError) as caught:
        trajsvc.analyze(folder, store=store, preview="1%")
    assert caught.value.kind == "preview-over-run"
    assert RunStore(store).open("run").has_theta


def test_copies_are_known_before_they_are_read_where_files_keep_checksums(tmp_path: Path) -> None:
    states = trajectory(4)
    states[2] = states[1]
    source = open_source(write_run(tmp_path / "run", states, kinds=("torch",)))
    found = [f for f in open_trajectory(source).findings if f.kind == "identical"]
    assert [f.steps for f in found] == [(100, 200)]
    run = trajsvc.analyze(tmp_path / "run", store=tmp_path / "store")
    assert [f.steps for f in run.findings if f.kind == "identical"] == [(100, 200)]


def test_one_checkpoint_is_a_run(tmp_path: Path) -> None:
    run = trajsvc.analyze(write_run(tmp_path / "run", trajectory(1)), store=tmp_path / "store")
    assert run.trajectory_map().values.tolist() == [[1.0]]
    assert run.update_angle().shape == (0,)
    assert np.isnan(run.relative_mds())


@pytest.mark.slow
def test_peak_memory_stays_within_the_budget(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", trajectory(40, vocab=40_000))
    command = [
        sys.executable,
        str(Path(__file__).with_name("slow_analysis.py")),
        str(folder),
        str(tmp_path / "store"),
        "--memory",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(done.stdout.splitlines()[-1])["peak"]
    total = sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
    assert total > 4 * 96 * 2**20
    assert peak < 96 * 2**20


def test_the_command_line_says_what_it_did(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", trajectory(5))

    def command(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = in_process.trajsvc(*words, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        return done

    answer = json.loads(command("analyze", str(folder), "--format", "json").stdout)
    assert {"run", "store", "steps", "parameters", "summary", "integrity"} <= set(answer)
    assert answer["steps"] == [0, 100, 200, 300, 400]
    plan = json.loads(command("plan", str(folder), "--format", "json").stdout)
    assert plan["gram_bytes"] == plan["blocks"] * len(plan["steps"]) ** 2 * 8 < plan["store_bytes"]
    assert plan["architecture"] == "gpt-neox"
    assert plan["bytes"] == 5 * 4 * answer["parameters"]
    human = command("analyze", str(folder), "--no-figures")
    assert "relative MDS" in human.stdout
    assert "nothing new" in human.stderr
    assert command("analyze", str(folder), "--quiet", "--no-figures").stderr == ""
    command("analyze", str(tmp_path / "absent"), code=4)
    command("analyze", str(folder), "--steps", "nonsense", code=2)
    command("analyze", str(folder), "--memory", "1MiB", "--name", "other", code=4)
    assert "all is well" in command("doctor").stdout
    write_step(folder, 500, trajectory(6)[5])
    command("watch", str(folder), "--once", "--settle", "100")
    assert len(json.loads(command("show", "run", "--format", "json").stdout)["layers"]) == 3
    assert len(json.loads(command("map", "run", "--format", "json").stdout)["steps"]) == 5
    command("watch", str(folder), "--once", "--settle", "0")
    assert len(json.loads(command("map", "run", "--format", "json").stdout)["steps"]) == 6
    assert json.loads(command("measures", "run", "--format", "json").stdout)["group"] == "network"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_values_rounded_first_give_the_run_that_was_stored_so(dtype: str, tmp_path: Path) -> None:
    """Analysing float32 checkpoints as ``dtype`` is analysing the same checkpoints saved in it."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    values = {f"layers.{i}.weight": torch.randn(96, 64) for i in range(3)}
    for step in range(8):
        for folder, kind in (("full", torch.float32), ("saved", getattr(torch, dtype))):
            place = tmp_path / folder / f"step{step}"
            place.mkdir(parents=True)
            save_file({n: v.to(kind) for n, v in values.items()}, place / "model.safetensors")
        values = {n: v + 1e-2 * torch.randn_like(v) for n, v in values.items()}
    rounded = trajsvc.analyze(tmp_path / "full", store=tmp_path / "s", name="rounded", dtype=dtype)
    saved = trajsvc.analyze(tmp_path / "saved", store=tmp_path / "s", name="saved")
    full = trajsvc.analyze(tmp_path / "full", store=tmp_path / "s", name="full")
    assert np.array_equal(rounded.stored.block_grams(), saved.stored.block_grams())
    assert not np.array_equal(rounded.stored.block_grams(), full.stored.block_grams())
    again = trajsvc.analyze(tmp_path / "full", store=tmp_path / "s", name="rounded")
    assert np.array_equal(again.stored.block_grams(), full.stored.block_grams()), "another type is another run"
    with pytest.raises(trajsvc.UsageError, match="float12"):
        trajsvc.analyze(tmp_path / "full", store=tmp_path / "s", dtype="float12")
