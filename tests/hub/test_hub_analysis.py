"""``analyze hf://…``: the bits of a local analysis whichever way the bytes come, and no byte more than the plan says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import in_process
import numpy as np
import pytest
from hub_faults import Fault
from hub_repos import Repo, Revision
from hub_runs import EXAMPLE, bytes_of, example, grams, safetensors, state, steps_repo
from hub_server import HubServer
from slow_params import slow_but

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.errors import TrajsvcError
from trajsvc.sources.resolve import open_named

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
Hubs = Callable[..., HubServer]
KILLS = 2


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the example read from its folder."""
    store = tmp_path_factory.mktemp("local")
    trajsvc.analyze(EXAMPLE, store=store, name="run")
    return store


WAYS = {
    "copied": {"copy": True},
    "streamed": {"copy": False},
    "streamed without a disk": {"copy": False, "cache": 0},
    "streamed, narrow windows": {"copy": False, "cache": 3 * 2**20, "memory": "96MiB"},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_bits_are_those_of_a_local_analysis(way: str, hubs: Hubs, local: Path, tmp_path: Path) -> None:
    hubs(example())
    run = trajsvc.analyze("hf://local/pythia-nano", store=tmp_path, name="run", **WAYS[way])
    here, there = RunStore(local).open("run"), RunStore(tmp_path).open("run")
    if "memory" not in WAYS[way]:  # another budget cuts other slabs, which are summed in another order
        assert np.array_equal(here.block_grams(), there.block_grams())
    np.testing.assert_allclose(here.block_grams(), there.block_grams(), rtol=1e-6, atol=1e-12)
    assert here.checkpoints.fingerprint == there.checkpoints.fingerprint
    assert here.checkpoints.step.tolist() == there.checkpoints.step.tolist()
    assert run.stored.has_theta == (way == "copied")
    assert there.verify() == ()


@pytest.mark.slow
def test_a_copy_is_the_default_and_no_copy_keeps_the_grams_alone(hubs: Hubs, tmp_path: Path) -> None:
    hubs(example())
    assert trajsvc.analyze("hf://local/pythia-nano", store=tmp_path / "a").stored.has_theta
    run = trajsvc.analyze("hf://local/pythia-nano", store=tmp_path / "b", copy=False)
    assert not run.stored.has_theta
    assert bytes_of(tmp_path / "b" / "cache" / "windows") == 0, "windows are left behind"
    assert bytes_of(tmp_path / "a" / "cache" / "files") == 0, "files are left behind"


def test_what_the_hub_said_of_a_checkpoint_is_kept(hubs: Hubs, tmp_path: Path) -> None:
    repo = example()
    hubs(repo)
    run = trajsvc.analyze("hf://local/pythia-nano", store=tmp_path, steps="every:5")
    from trajsvc.results.answers import checkpoints

    rows = checkpoints(run)
    assert [r.label for r in rows] == ["step0", "step256", "step2750"]
    assert [r.commit for r in rows] == [repo.heads[r.label].id for r in rows]
    assert run.source == "hf://local/pythia-nano"


def plan_of(store: Path, **more: object) -> dict[str, object]:
    """What ``trajsvc plan --format json`` prints, in a process of its own."""
    words = [
        sys.executable,
        "-m",
        "trajsvc",
        "plan",
        "hf://local/pythia-nano",
        "--store",
        str(store),
        "--format",
        "json",
    ]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("mode", slow_but(["no_copy", "copy"], ["no_copy"]))
def test_requests_and_bytes_are_those_of_the_plan(mode: str, hubs: Hubs, tmp_path: Path) -> None:
    hub = hubs(example())
    plan = plan_of(tmp_path)
    probed = hub.stats()
    hub.reset_stats()
    trajsvc.analyze("hf://local/pythia-nano", store=tmp_path, copy=mode == "copy")
    done = hub.stats()
    # Headers and listings were kept by the plan; what is left are addresses, one a file, and the ranges that were announced.
    assert done["kinds"]["tree"] == 0
    assert done["kinds"]["cdn"] == plan[mode]["requests"]
    cdn = sum(p["bytes"] for path, p in done["paths"].items() if path.startswith("/_cdn"))
    assert cdn == plan[mode]["bytes"]
    assert done["kinds"]["resolve"] == plan["files"]
    assert probed["kinds"]["refs"] == 1


@pytest.mark.slow
def test_a_preview_reads_its_share_and_going_on_reads_the_rest(hubs: Hubs, local: Path, tmp_path: Path) -> None:
    hub = hubs(example())
    plan = plan_of(tmp_path)
    hub.reset_stats()
    estimate = trajsvc.analyze("hf://local/pythia-nano", store=tmp_path, name="run", preview="1%")
    assert estimate.estimate is not None
    first = cdn_bytes(hub)
    assert first == plan["no_copy"]["preview"]["bytes"]
    trajsvc.analyze("hf://local/pythia-nano", store=tmp_path, name="run", copy=False)
    assert np.array_equal(grams(local, "run"), grams(tmp_path, "run"))
    gaps = 0.02 * plan["bytes"]  # what lies between the tensors, read in passing
    assert cdn_bytes(hub) <= plan["bytes"] + gaps


@pytest.mark.slow
def test_a_copy_after_a_preview_asks_for_the_rest(hubs: Hubs, local: Path, tmp_path: Path) -> None:
    hub = hubs(example())
    trajsvc.analyze("hf://local/pythia-nano", store=tmp_path, name="run", preview="1%")
    first = cdn_bytes(hub)
    hub.reset_stats()
    trajsvc.analyze("hf://local/pythia-nano", store=tmp_path, name="run")
    assert np.array_equal(grams(local, "run"), grams(tmp_path, "run"))
    files = sum(p.stat().st_size for p in EXAMPLE.rglob("*") if p.suffix in (".safetensors", ".bin"))
    assert cdn_bytes(hub) <= files - 0.9 * first
    assert bytes_of(tmp_path / "cache" / "windows") == 0


def cdn_bytes(hub: HubServer) -> int:
    return sum(p["bytes"] for path, p in hub.stats()["paths"].items() if path.startswith("/_cdn"))


def test_equal_files_are_fetched_once(hubs: Hubs, tmp_path: Path) -> None:
    last = {"model.safetensors": safetensors(state(9))}
    branches = {
        f"step{s}": Revision(last if s % 2 else {"model.safetensors": safetensors(state(s))}) for s in range(10)
    }
    hub = hubs(Repo("local/twins", {"main": Revision(last), **branches}))
    run = trajsvc.analyze("hf://local/twins", store=tmp_path)
    fetched = [path for path in hub.stats()["paths"] if path.startswith("/_cdn")]
    assert len(fetched) == 6, "five different files and the final one"
    kinds = {f.kind: f for f in run.findings}
    assert kinds["same-as-main"].steps == (1, 3, 5, 7)
    assert kinds["identical"].steps == (1, 3, 5, 7, 9)


def test_new_revisions_are_added_and_a_copy_spares_the_old_ones(hubs: Hubs, tmp_path: Path) -> None:
    repo = steps_repo("local/grows", [0, 10, 20, 30])
    hub = hubs(repo)
    trajsvc.analyze("hf://local/grows", store=tmp_path)
    repo.move("step40", Revision({"model.safetensors": safetensors(state(40))}))
    hub.reset_stats()
    run = trajsvc.analyze("hf://local/grows", store=tmp_path)
    assert run.steps.tolist() == [0, 10, 20, 30, 40]
    assert all(
        "step" not in path or repo.heads["step40"].id in path
        for path in hub.stats()["paths"]
        if path.startswith("/_cdn")
    )
    whole = trajsvc.analyze("hf://local/grows", store=tmp_path / "new")
    assert np.allclose(grams(tmp_path, "grows"), grams(tmp_path / "new", "grows"), rtol=1e-6, atol=1e-9)
    assert whole.stored.checkpoints.fingerprint == run.stored.checkpoints.fingerprint


def test_a_commit_that_changes_no_weights_changes_nothing(hubs: Hubs, tmp_path: Path) -> None:
    repo = steps_repo("local/docs", [0, 10, 20])
    hubs(repo)
    trajsvc.analyze("hf://local/docs", store=tmp_path)
    repo.move("step10", Revision({"model.safetensors": safetensors(state(10)), "README.md": b"better words"}))
    before = (tmp_path / "runs" / "docs.zarr").stat().st_mtime_ns
    trajsvc.analyze("hf://local/docs", store=tmp_path)
    assert (tmp_path / "runs" / "docs.zarr").stat().st_mtime_ns == before


@pytest.mark.timing
def test_a_branch_that_moves_during_the_job_is_read_as_it_was(hubs: Hubs, tmp_path: Path) -> None:
    repo = steps_repo("local/moves", [0, 10, 20])
    hubs(repo)
    source = open_named("hf://local/moves", tmp_path)
    pinned = {c.step: c.extra["commit"] for c in source.checkpoints()}
    repo.move("step10", Revision({"model.safetensors": safetensors(state(99))}))
    run = trajsvc.analyze(source, store=tmp_path, copy=False)
    hubs(steps_repo("local/moves", [0, 10, 20]))
    still = trajsvc.analyze("hf://local/moves", store=tmp_path / "still", copy=False)
    assert pinned[10] != repo.heads["step10"].id
    assert run.stored.checkpoints.fingerprint == still.stored.checkpoints.fingerprint


@pytest.mark.parametrize("corrupt", ["step10", "step20"])
def test_wrong_bytes_of_the_right_size_are_caught_in_a_copy(corrupt: str, hubs: Hubs, tmp_path: Path) -> None:
    repo = steps_repo("local/wrong", [0, 10, 20])
    hub = hubs(repo)
    open_named("hf://local/wrong", tmp_path)
    hub.faults.corrupt = Fault(True, path=f"/_cdn/local/wrong/{repo.heads[corrupt].id}")
    with pytest.raises(TrajsvcError, match="SHA-256") as caught:
        trajsvc.analyze("hf://local/wrong", store=tmp_path)
    assert caught.value.kind == "wrong-bytes"
    assert caught.value.step == int(corrupt.removeprefix("step"))
    hub.faults.clear()
    assert len(trajsvc.analyze("hf://local/wrong", store=tmp_path).steps) == 3


def test_bytes_that_are_wrong_once_are_fetched_again(hubs: Hubs, tmp_path: Path) -> None:
    hub = hubs(steps_repo("local/once", [0, 10, 20]))
    hub.faults.corrupt = Fault(True, limit=1, path="/_cdn")
    source = open_named("hf://local/once", tmp_path)
    source.checkpoints()
    assert len(trajsvc.analyze(source, store=tmp_path).steps) == 3


def test_wrong_bytes_of_a_torch_archive_are_caught_when_streamed(hubs: Hubs, tmp_path: Path) -> None:
    hub = hubs(example())
    source = open_named("hf://local/pythia-nano", tmp_path)
    for checkpoint in source.checkpoints():
        source.tensors(checkpoint)
    hub.faults.corrupt = Fault(True, path="pytorch_model.bin")
    with pytest.raises(TrajsvcError, match="checksum") as caught:
        trajsvc.analyze(source, store=tmp_path, copy=False)
    assert caught.value.kind == "checksum-mismatch"


def test_ranges_that_nothing_proves_are_said(hubs: Hubs, tmp_path: Path) -> None:
    hubs(steps_repo("local/plain", [0, 10, 20]))
    streamed = trajsvc.analyze("hf://local/plain", store=tmp_path / "a", copy=False)
    copied = trajsvc.analyze("hf://local/plain", store=tmp_path / "b")
    assert [f.details["files"] for f in streamed.findings if f.kind == "unproved"] == [3]
    assert "unproved" not in [f.kind for f in copied.findings]


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("copy", slow_but([True, False], [False]))
def test_killed_and_run_again_it_asks_only_for_the_rest(copy: bool, hubs: Hubs, tmp_path: Path) -> None:
    steps = list(range(0, 240, 10))
    big = {s: safetensors(state(s, width=384)) for s in steps}
    hub = hubs(Repo("local/killed", {f"step{s}": Revision({"model.safetensors": data}) for s, data in big.items()}))
    hub.faults.trickle = Fault(3e5, path="/_cdn", rate=0.5)
    words = [sys.executable, "-m", "trajsvc", "analyze", "hf://local/killed", "--store", str(tmp_path), "--no-figures", "--quiet",
             "--connections", "4", "--copy" if copy else "--no-copy"]  # fmt: skip
    for _ in range(KILLS):
        before = len(hub.seen)
        child = subprocess.Popen(words)
        while len([s for s in hub.seen[before:] if s.path.startswith("/_cdn")]) < 6:
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
    hub.faults.clear()
    assert subprocess.run(words, check=False).returncode == 0
    size, largest = sum(map(len, big.values())), max(map(len, big.values()))
    assert cdn_bytes(hub) <= size + KILLS * 4 * largest, "more than what was under way was asked for again"
    whole = trajsvc.analyze("hf://local/killed", store=tmp_path / "calm", copy=copy)
    assert np.array_equal(grams(tmp_path, "killed"), grams(tmp_path / "calm", "killed"))
    assert len(whole.steps) == len(steps)


def test_no_token_goes_to_the_storage_or_into_the_store(
    hubs: Hubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "hf_canaryCanaryCanary0123"
    hub = hubs(steps_repo("local/private", [0, 10, 20], private=True, readers=[canary]))
    monkeypatch.setenv("HF_TOKEN", canary)
    trajsvc.analyze("hf://local/private", store=tmp_path, copy=False)
    trajsvc.analyze("hf://local/private", store=tmp_path, name="copied")
    for seen in hub.seen:
        assert (seen.authorization is not None) == (not seen.path.startswith("/_cdn")), seen
        assert seen.host.startswith("localhost") == seen.path.startswith("/_cdn")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or (
            canary.encode() not in path.read_bytes() and b"Signature=" not in path.read_bytes()
        ), path


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
def test_the_disk_stays_under_its_cap(hubs: Hubs, tmp_path: Path) -> None:
    steps = list(range(40))
    data = {s: safetensors(state(s, width=512)) for s in steps}
    hubs(Repo("local/large", {f"step{s}": Revision({"model.safetensors": d}) for s, d in data.items()}))
    total, cap = sum(map(len, data.values())), 40 * 2**20
    assert total > 2 * cap
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            try:
                most[0] = max(most[0], bytes_of(tmp_path / "cache"))
            except FileNotFoundError:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        trajsvc.analyze("hf://local/large", store=tmp_path, copy=False, cache=cap, memory="40MiB", threads=1)
    finally:
        done.set()
        watcher.join()
    assert 0 < most[0] <= cap


@pytest.mark.timing
def test_a_repository_that_is_trained_into_is_watched(hubs: Hubs, tmp_path: Path) -> None:
    repo = steps_repo("local/watched", [0, 10, 20])
    hubs(repo)
    words = ["watch", "hf://local/watched", "--once", "--store", str(tmp_path), "--no-copy"]
    assert "MDS" in in_process.trajsvc(*words).stderr
    repo.move("step30", Revision({"model.safetensors": safetensors(state(30))}))
    assert "step 30" in in_process.trajsvc(*words).stderr
    assert trajsvc.open(tmp_path, "watched").steps.tolist() == [0, 10, 20, 30]


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("command", slow_but(["analyze", "plan"], ["analyze"]))
def test_interrupted_while_the_hub_is_waited_for(command: str, hubs: Hubs, tmp_path: Path) -> None:
    hub = hubs(steps_repo("local/slow", [0, 10, 20]))
    hub.faults.rate_limited = True
    words = [sys.executable, "-m", "trajsvc", command, "hf://local/slow", "--store", str(tmp_path)]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not hub.seen:
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=600)
    assert child.returncode == 130
    assert "Traceback" not in said
