"""Runs as they are published: families' names, dirty trajectories, and all 154 checkpoints of one within a small disk and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import in_process
import numpy as np
import pytest
from hub_runs import bytes_of, grams, safetensors, state
from hub_server import HubServer, Repo, Revision, repo_of
from published import PYTHIA_STEPS, commits_like, faulty_pythia, multiberts_like, olmo_like, pythia_like
from slow_params import slow_but

import trajsvc
from trajsvc.errors import NotFound, Refused
from trajsvc.results.answers import checkpoints

HERE = Path(__file__).parent
Hubs = Callable[..., HubServer]


def plan_of(source: str, store: Path, *more: str, status: int = 0) -> dict:
    done = in_process.trajsvc("plan", source, "--store", str(store), "--format", "json", *more)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_faults_of_published_runs_are_named_before_anything_is_loaded(hubs: Hubs, tmp_path: Path) -> None:
    run = faulty_pythia(tmp_path / "run", id="EleutherAI/pythia-70m", steps=PYTHIA_STEPS, hidden=48, vocab=64)
    hub = hubs(run.repo)
    plan = plan_of("hf://EleutherAI/pythia-70m", tmp_path / "store")
    found = {}
    for finding in plan["findings"]:
        found.setdefault(finding["kind"], []).append(finding)
    faults = run.faults
    (same,) = found["same-as-main"]
    assert tuple(same["steps"]) == faults["same_as_main"]
    assert [tuple(f["steps"]) for f in found["identical"]] == [(*faults["same_as_main"], 143000), faults["shared"]]
    (stray,) = found["shared-file"]
    assert (tuple(stray["steps"]), stray["details"]["file"]) == ((faults["stray_shard"][0],), faults["stray_shard"][1])
    assert [f["steps"] for f in found["missing-weights"]] == [[faults["no_weights"]]]
    assert plan["revisions"]["missing"] == list(faults["missing"])
    assert plan["revisions"]["found"] == len(PYTHIA_STEPS) - 2
    assert plan["revisions"]["family"] == "Pythia"
    sizes = {name: path.stat().st_size for name, path in _weights(tmp_path / "run" / "step143000").items()}
    copies = len(faults["same_as_main"]) + 1
    assert plan["duplicate_files"] == copies * 3 + 1
    assert plan["duplicate_bytes"] == copies * sum(sizes.values()) + sizes[faults["stray_shard"][1]]
    read = sum(p["bytes"] for path, p in hub.stats()["paths"].items() if path.startswith("/_cdn"))
    assert read < 0.5 * plan["file_bytes"], "the plan loads the run"


def _weights(folder: Path) -> dict[str, Path]:
    return {p.name: p for p in folder.iterdir() if p.suffix == ".safetensors"}


@pytest.mark.slow
def test_a_dirty_run_is_analysed_with_what_is_wrong_said(hubs: Hubs, tmp_path: Path) -> None:
    published = faulty_pythia(tmp_path / "run", swap=True)
    hubs(published.repo)
    run = trajsvc.analyze(f"hf://{published.repo.id}", store=tmp_path / "store")
    kinds = {f.kind for f in run.findings}
    assert {"same-as-main", "identical", "shared-file", "missing-weights", "zero-update"} <= kinds
    assert len(run.steps) == len(published.faults["steps"]) - 1
    local = trajsvc.analyze(tmp_path / "run", store=tmp_path / "local", name="run", skip_damaged=True)
    assert np.array_equal(grams(tmp_path / "store", "pythia-faulty"), local.stored.block_grams())


@pytest.mark.parametrize(
    "form",
    slow_but(["safetensors", "bin", "sharded-safetensors", "sharded-bin", "mixed"], ["bin", "sharded-safetensors"]),
)
def test_every_form_of_a_checkpoint(form: str, hubs: Hubs, tmp_path: Path) -> None:
    published = pythia_like(tmp_path / "run", form=form)  # type: ignore[arg-type]
    hubs(published.repo)
    run = trajsvc.analyze("hf://EleutherAI/pythia-tiny", store=tmp_path / "a", copy=False)
    local = trajsvc.analyze(tmp_path / "run", store=tmp_path / "b", name="run")
    assert np.array_equal(run.stored.block_grams(), local.stored.block_grams())
    assert run.architecture == "gpt-neox"
    assert run.qkv().sizes["layer"] == 2
    left = run.attributes["left_out"]
    assert "gpt_neox.layers.0.attention.rotary_emb.inv_freq" in left
    assert "gpt_neox.layers.0.attention.masked_bias" in left


def test_main_in_another_type_with_buffers_is_no_checkpoint_of_the_run(hubs: Hubs, tmp_path: Path) -> None:
    published = pythia_like(tmp_path / "run", main_dtype="float16")
    hubs(published.repo)
    run = trajsvc.analyze("hf://EleutherAI/pythia-tiny", store=tmp_path / "store")
    assert {r.dtype for r in checkpoints(run)} == {"float32"}
    assert "same-as-main" not in {f.kind for f in run.findings}
    assert float(run.noise_floor().max()) > 0


def test_stages_follow_each_other_and_ingredients_are_alternatives(hubs: Hubs, tmp_path: Path) -> None:
    published = olmo_like(tmp_path / "run", shared=True)
    hubs(published.repo)
    source = f"hf://{published.repo.id}"
    run = trajsvc.analyze(source, store=tmp_path / "store")
    rows = checkpoints(run)
    assert [r.label.split("-tokens")[0] for r in rows][-3:] == [
        f"stage2-ingredient1-step{s}" for s in (1000, 5000, 11931)
    ]
    assert [r.step for r in rows][-3:] == [928646 + s for s in (1000, 5000, 11931)]
    assert [r.stage_step for r in rows][-1] == 11931
    assert [r.stage for r in rows] == [1] * 5 + [2] * 3
    assert rows[1].tokens == 424 * 10**9
    assert {"other-ingredients", "stage-steps", "shared-file"} <= {f.kind for f in run.findings}
    second = trajsvc.analyze(
        source, store=tmp_path / "store", name="second", revisions=("stage1-*", "stage2-ingredient2-*")
    )
    assert [r.ingredient for r in checkpoints(second)][-1] == 2
    with pytest.raises(Refused, match="alternatives"):
        trajsvc.analyze(source, store=tmp_path / "store", name="both", revisions="stage2-*")
    pattern = r"stage1-step(?P<step>\d+)-tokens(?P<tokens>\d+B)"
    named = trajsvc.analyze(source, store=tmp_path / "store", name="pattern", revisions=pattern, steps="last:3")
    assert [r.step for r in checkpoints(named)] == [175000, 300000, 928646]
    with pytest.raises(NotFound, match="met by step-x") as caught:
        trajsvc.analyze(source, store=tmp_path / "store", name="none", revisions="step-x*")
    assert caught.value.kind == "no-revisions"


def test_one_repository_a_checkpoint(hubs: Hubs, tmp_path: Path) -> None:
    published = multiberts_like(tmp_path / "run")
    hubs(*published.repos)
    run = trajsvc.analyze("hf://google/multiberts-seed_0-step_*", store=tmp_path / "store")
    rows = checkpoints(run)
    assert [r.step for r in rows] == [0, 20_000, 40_000, 100_000, 2_000_000]
    assert rows[1].label == "google/multiberts-seed_0-step_20k"
    assert run.name == "multiberts-seed_0"
    assert run.architecture == "bert"


def test_the_commits_of_a_branch(hubs: Hubs, tmp_path: Path) -> None:
    published = commits_like(tmp_path / "run")
    hubs(published.repo)
    run = trajsvc.analyze(f"hf://{published.repo.id}", store=tmp_path / "store", commits="main")
    assert [r.step for r in checkpoints(run)] == [500, 1000, 1500, 2000]
    history = {c.id: c.title for c in published.repo.heads["main"].history()}
    assert [history[r.commit or ""] for r in checkpoints(run)] == list(published.faults["steps"])


def test_folders_on_main_and_one_revision(hubs: Hubs, tmp_path: Path) -> None:
    pythia_like(tmp_path / "run", steps=(0, 10, 20), buffers=False)
    hubs(repo_of("me/folders", tmp_path / "run", "folders"))
    run = trajsvc.analyze("hf://me/folders", store=tmp_path / "store")
    assert run.steps.tolist() == [0, 10, 20]
    one = trajsvc.analyze("hf://me/folders/step10", store=tmp_path / "store")
    assert (one.name, one.steps.tolist()) == ("folders-step10", [10])
    with pytest.raises(NotFound, match="no such folder"):
        trajsvc.analyze("hf://me/folders/other", store=tmp_path / "store")


def test_tags_where_no_branch_names_a_step(hubs: Hubs, tmp_path: Path) -> None:
    revisions = {s: Revision({"model.safetensors": safetensors(state(s))}) for s in (0, 5, 50)}
    hubs(Repo("me/tags", {"main": revisions[50]}, {f"step-{s}": r for s, r in revisions.items()}))
    run = trajsvc.analyze("hf://me/tags", store=tmp_path)
    assert [(r.step, r.label) for r in checkpoints(run)] == [(0, "step-0"), (5, "step-5"), (50, "step-50")]


def test_only_the_selected_revisions_are_looked_at(hubs: Hubs, tmp_path: Path) -> None:
    published = pythia_like(tmp_path / "run", steps=range(0, 200, 10), vocab=32, hidden=16)
    hub = hubs(published.repo)
    run = trajsvc.analyze("hf://EleutherAI/pythia-tiny", store=tmp_path / "store", steps="every:5")
    assert run.steps.tolist() == [0, 50, 100, 150]
    assert hub.stats()["kinds"]["tree"] == 5, "the four and main"


CHILD = """
import json, sys, threading
import torch, huggingface_hub
import trajsvc
from pathlib import Path
from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.pipeline import Options, run_analysis
from trajsvc.sources.resolve import open_named
from trajsvc.gram.kernels.native import library
from trajsvc.gram.thread_pool import ThreadPool
library(True)  # the compiled kernel and its loader are part of the interpreter, as torch is
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(l.split()[1]) * 1024 for l in lines if l.startswith("RssAnon:"))
source = open_named(sys.argv[1], Path(sys.argv[2]), cache=int(sys.argv[3]), connections=4)
source.checkpoints()
peak, before, done = [0], anonymous(), threading.Event()
def watch():
    while not done.wait(0.003):
        peak[0] = max(peak[0], anonymous())
threading.Thread(target=watch, daemon=True).start()
run_analysis(AnalysisJob(source, Path(sys.argv[2]), "run", Options(memory=int(sys.argv[4]), threads=1, copy=False), ThreadPool(1)))
done.set()
source.close()
print(json.dumps({"peak": peak[0] - before}))
"""


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
def test_all_154_revisions_within_a_small_disk_and_memory(hubs: Hubs, tmp_path: Path) -> None:
    published = pythia_like(tmp_path / "run", steps=PYTHIA_STEPS, hidden=128, layers=2, vocab=512)
    hub = hubs(published.repo)
    size = sum(p.stat().st_size for p in (tmp_path / "run").rglob("*.safetensors"))
    cap, memory = 48 * 2**20, 80 * 2**20
    assert size > 6 * cap
    plan = plan_of(
        "hf://EleutherAI/pythia-tiny",
        tmp_path / "store",
        "--cache",
        str(cap),
        "--memory",
        str(memory),
        "--threads",
        "1",
    )
    hub.reset_stats()
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            try:
                most[0] = max(most[0], bytes_of(tmp_path / "store" / "cache"))
            except FileNotFoundError:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    words = [sys.executable, "-c", CHILD, "hf://EleutherAI/pythia-tiny", str(tmp_path / "store"), str(cap), str(memory)]
    child = subprocess.run(words, check=False, capture_output=True, text=True)
    done.set()
    watcher.join()
    assert child.returncode == 0, child.stderr
    peak = json.loads(child.stdout)["peak"]
    assert peak < memory
    assert most[0] <= cap
    stats = hub.stats()
    assert stats["kinds"]["cdn"] == plan["no_copy"]["requests"]
    assert sum(p["bytes"] for path, p in stats["paths"].items() if path.startswith("/_cdn")) == plan["no_copy"]["bytes"]
    local = trajsvc.analyze(tmp_path / "run", store=tmp_path / "local", name="run", memory=memory, threads=1)
    assert len(local.steps) == 154
    assert np.array_equal(grams(tmp_path / "store", "run"), local.stored.block_grams())
