"""Two runs under one name: which is which is told by what they hold, and nothing stored is replaced unasked."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import in_process
import numpy as np
import pytest
from small_runs import State, cosines, flat, shapes, trajectory, write_run, write_step

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.errors import RunExists
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.run_names import default_name

NAMES = list(shapes())


def maps(store: Path, name: str) -> np.ndarray:
    return np.asarray(trajsvc.open(store, name).trajectory_map().values)


@pytest.fixture(scope="module")
def states() -> list[list[State]]:
    return [trajectory(4, seed=seed) for seed in (1, 2)]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/ra/checkpoints", "ra-checkpoints"),
        ("/x/rb/ckpt", "rb-ckpt"),
        ("/x/ra/output", "ra-output"),
        ("/x/ra/outputs/checkpoints", "ra-outputs-checkpoints"),
        ("/x/project/lightning_logs/version_3/checkpoints", "project-lightning_logs-version_3-checkpoints"),
        ("/x/ra", "ra"),
        ("/x/pythia-70m", "pythia-70m"),
        ("checkpoints", "checkpoints"),
        ("/", "run"),
    ],
)
def test_folders_that_every_run_has_are_named_with_their_parent(path: str, name: str) -> None:
    assert default_name(path) == name


def test_two_runs_with_folders_of_one_name_are_two_runs(tmp_path: Path, states: list[list[State]]) -> None:
    store = tmp_path / "store"
    for run, points in zip(("ra", "rb"), states, strict=True):
        trajsvc.analyze(write_run(tmp_path / run / "checkpoints", points), store=store)
    assert RunStore(store).names() == ("ra-checkpoints", "rb-checkpoints")
    for run, points in zip(("ra", "rb"), states, strict=True):
        np.testing.assert_allclose(maps(store, f"{run}-checkpoints"), cosines(flat(points, NAMES)), atol=1e-6)


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_another_run_of_the_same_name_is_refused_and_replaces_it_when_asked(
    tmp_path: Path, states: list[list[State]], kind: str
) -> None:
    one, other = (write_run(tmp_path / n, p, kinds=(kind,)) for n, p in zip(("one", "other"), states, strict=True))
    store = tmp_path / "store"
    trajsvc.analyze(one, store=store, name="run")
    before = RunStore(store).open("run").generation
    for options in ({}, {"recompute": True}, {"steps": "0,100"}, {"preview": 0.5}):
        with pytest.raises(RunExists) as caught:
            trajsvc.analyze(other, store=store, name="run", **options)
        error = caught.value
        assert (error.kind, error.run, error.outcome.status) == ("run-exists", "run", 409)
        assert str(one) in str(error)
        assert str(other) in str(error)
        assert "--name" in error.hint
        assert "--replace" in error.hint
    assert RunStore(store).open("run").generation == before
    np.testing.assert_allclose(maps(store, "run"), cosines(flat(states[0], NAMES)), atol=1e-6)
    trajsvc.analyze(other, store=store, name="run", replace=True)
    np.testing.assert_allclose(maps(store, "run"), cosines(flat(states[1], NAMES)), atol=1e-6)
    trajsvc.analyze(other, store=store, name="run")


def test_runs_that_have_no_step_in_common_are_two_runs(tmp_path: Path, states: list[list[State]]) -> None:
    write_run(tmp_path / "one", states[0], steps=[0, 1, 2, 3])
    write_run(tmp_path / "other", states[1], steps=[10, 11, 12, 13])
    trajsvc.analyze(tmp_path / "one", store=tmp_path / "store", name="run")
    with pytest.raises(RunExists, match="no step in common"):
        trajsvc.analyze(tmp_path / "other", store=tmp_path / "store", name="run")


def test_a_network_of_other_shapes_is_another_run(tmp_path: Path, states: list[list[State]]) -> None:
    write_run(tmp_path / "one", states[0])
    write_run(tmp_path / "other", trajectory(4, vocab=300))
    trajsvc.analyze(tmp_path / "one", store=tmp_path / "store", name="run")
    with pytest.raises(RunExists, match="names or shapes"):
        trajsvc.analyze(tmp_path / "other", store=tmp_path / "store", name="run")


@pytest.mark.parametrize("first_new", [0, 2])
def test_a_new_training_in_the_same_folder_is_asked_for(
    tmp_path: Path, states: list[list[State]], first_new: int
) -> None:
    """Whether it began anew or went on from the middle."""
    folder, store = write_run(tmp_path / "run", states[0]), tmp_path / "store"
    trajsvc.analyze(folder, store=store)
    for t in range(first_new, 4):
        write_step(folder, 100 * t, states[1][t])
    with pytest.raises(RunExists) as caught:
        trajsvc.analyze(folder, store=store)
    assert f"step {100 * first_new}" in caught.value.message
    np.testing.assert_allclose(maps(store, "run"), cosines(flat(states[0], NAMES)), atol=1e-6)
    trajsvc.analyze(folder, store=store, replace=True)
    expected = [*states[0][:first_new], *states[1][first_new:]]
    np.testing.assert_allclose(maps(store, "run"), cosines(flat(expected, NAMES)), atol=1e-6)


@pytest.mark.parametrize("grows", [False, True])
def test_a_folder_that_was_moved_is_the_same_run(tmp_path: Path, states: list[list[State]], grows: bool) -> None:
    folder, store = write_run(tmp_path / "here", states[0][:3]), tmp_path / "store"
    trajsvc.analyze(folder, store=store, name="run")
    kept = RunStore(store).open("run").block_grams()
    folder.rename(tmp_path / "there")
    if grows:
        write_step(tmp_path / "there", 300, states[0][3])
    run = trajsvc.analyze(tmp_path / "there", store=store, name="run")
    assert run.source == str(tmp_path / "there")
    after = RunStore(store).open("run")
    assert after.block_grams()[:, :3, :3].tobytes() == kept.tobytes()
    assert str(tmp_path / "here") not in after.checkpoints.files[0]
    generation = after.generation
    trajsvc.analyze(tmp_path / "there", store=store, name="run")
    assert RunStore(store).open("run").generation == generation


def test_a_copy_of_the_folder_is_the_same_run(tmp_path: Path, states: list[list[State]]) -> None:
    """Its files are younger; what they hold is compared."""
    folder, store = write_run(tmp_path / "here", states[0]), tmp_path / "store"
    trajsvc.analyze(folder, store=store, name="run")
    shutil.copytree(folder, tmp_path / "there", copy_function=shutil.copyfile)
    run = trajsvc.analyze(tmp_path / "there", store=store, name="run")
    assert run.source == str(tmp_path / "there")
    np.testing.assert_allclose(maps(store, "run"), cosines(flat(states[0], NAMES)), atol=1e-6)


def test_a_pattern_over_the_same_files_is_the_same_run(tmp_path: Path, states: list[list[State]]) -> None:
    folder, store = write_run(tmp_path / "here", states[0]), tmp_path / "store"
    trajsvc.analyze(folder, store=store, name="run")
    generation = RunStore(store).open("run").generation
    trajsvc.analyze(f"{folder}/step*", store=store, name="run")
    assert RunStore(store).open("run").generation == generation


def without_identity(store: Path, name: str) -> None:
    """The run as a version before identities were recorded stored it."""
    with RunStore(store).writer(name) as writer:
        assert writer.current is not None
        contents = writer.current.contents()
        contents.attributes.pop("identity")
        writer.commit(contents)


def test_a_run_without_a_recorded_identity_has_that_of_its_files(tmp_path: Path, states: list[list[State]]) -> None:
    one, other = (write_run(tmp_path / n, p) for n, p in zip(("one", "other"), states, strict=True))
    store = tmp_path / "store"
    trajsvc.analyze(one, store=store, name="run")
    without_identity(store, "run")
    with pytest.raises(RunExists):
        trajsvc.analyze(other, store=store, name="run")
    write_step(one, 400, states[0][3])
    run = trajsvc.analyze(one, store=store, name="run")
    assert run.steps.tolist() == [0, 100, 200, 300, 400]
    assert set(run.attributes["identity"]["digests"]) == {"0", "100", "200", "300", "400"}


def test_a_run_that_was_stored_under_its_folders_name_alone_goes_on(tmp_path: Path, states: list[list[State]]) -> None:
    folder, store = write_run(tmp_path / "ra" / "checkpoints", states[0][:3]), tmp_path / "store"
    trajsvc.analyze(folder, store=store, name="checkpoints")
    write_step(folder, 300, states[0][3])
    assert trajsvc.analyze(folder, store=store).name == "checkpoints"
    assert RunStore(store).names() == ("checkpoints",)
    other = write_run(tmp_path / "rb" / "checkpoints", states[1])
    assert trajsvc.analyze(other, store=store).name == "rb-checkpoints"


def test_a_frozen_tensor_hides_no_new_training(tmp_path: Path) -> None:
    """Only the last layer was trained, from the same start: the largest tensors are the same in both."""
    one, other = trajectory(3, seed=5), trajectory(3, seed=5)
    for t in (1, 2):
        for name in NAMES[:-2]:
            one[t][name] = other[t][name] = one[0][name]
        other[t][NAMES[-1]] = other[t][NAMES[-1]] + 0.5
    trajsvc.analyze(write_run(tmp_path / "one", one), store=tmp_path / "store", name="run")
    with pytest.raises(RunExists, match="step 100"):
        trajsvc.analyze(write_run(tmp_path / "other", other), store=tmp_path / "store", name="run")


def test_the_command_line_asks_and_replaces(tmp_path: Path, states: list[list[State]]) -> None:
    for run, points in zip(("ra", "rb"), states, strict=True):
        write_run(tmp_path / run / "ckpt", points)

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        more = ["--no-figures", "--format", "json"] if words[0] == "analyze" else []
        return in_process.trajsvc(*words, *more, environment={"TRAJSVC_STORE": str(tmp_path / "store")})

    assert command("analyze", f"{tmp_path}/ra/ckpt", "--name", "mine").returncode == 0
    refused = command("analyze", f"{tmp_path}/rb/ckpt", "--name", "mine")
    assert refused.returncode == 4
    assert "--name" in refused.stderr
    assert "--replace" in refused.stderr
    watched = command("watch", f"{tmp_path}/rb/ckpt", "--name", "mine", "--once", "--settle", "0")
    assert watched.returncode == 4
    family = tmp_path / "family.toml"
    family.write_text(f'name = "pair"\n[[runs]]\nname = "mine"\nsource = "{tmp_path}/rb/ckpt"\n')
    assert "run-exists" in command("batch", str(family)).stderr
    done = command("analyze", f"{tmp_path}/rb/ckpt", "--name", "mine", "--replace")
    assert done.returncode == 0
    assert json.loads(done.stdout)["action"] == "computed"
    family.write_text(f'name = "pair"\n[[runs]]\nname = "mine"\nsource = "{tmp_path}/ra/ckpt"\n')
    assert command("batch", str(family), "--replace").returncode == 0
    np.testing.assert_allclose(maps(tmp_path / "store", "mine"), cosines(flat(states[0], NAMES)), atol=1e-6)


def test_the_name_of_a_file_is_its_stem_with_its_folder_where_all_have_it(tmp_path: Path) -> None:
    folder = tmp_path / "ra" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("model.pt", "grokking.pt"):
        (folder / name).write_bytes(b"x")
    assert LocalSource(folder / "grokking.pt").name == "grokking"
    assert LocalSource(folder / "model.pt").name == "ra-checkpoints-model"
