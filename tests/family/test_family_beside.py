"""Spectra and gradients that a family's file asks for: what is computed, what is not done again, what fails alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_runs import STEPS, damage, family_text, trajectory, trajsvc, write_run
from safetensors.torch import save_file
from small_probe import PROBE

from trajsvc.errors import UsageError
from trajsvc.families.file import load_family, open_family, save_family
from trajsvc.results.run import open as open_run
from trajsvc.spectra import compute

GRADIENTS = (
    '[gradients]\nprobe = "family_probe_of_test:Small"\ndata = "data.npz"\nexamples = 4\nbatch = 2\nsteps = "first:2"\n'
)
SPECTRA = '[spectra]\nof = ["weights"]\ngroups = ["layer/0"]\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRAJSVC_STORE", "TRAJSVC_DEBUG", "TRAJSVC_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for k, name in enumerate("ab"):
        write_run(tmp_path / name, trajectory(1, count=4, seed=k))
    return tmp_path


@pytest.fixture
def with_probe(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with a run ``small``, a probe for it and its data."""
    for step in STEPS[:3]:
        torch.manual_seed(step)
        network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
        (place / "small" / f"step{step}").mkdir(parents=True)
        save_file(network.state_dict(), place / "small" / f"step{step}" / "model.safetensors")
    rng = np.random.default_rng(0)
    np.savez(place / "data.npz", x=rng.normal(size=(6, 5)), y=rng.integers(3, size=6))
    (place / "family_probe_of_test.py").write_text(PROBE)
    monkeypatch.chdir(place)
    return place


def write(place: Path, tables: str, *members: str) -> None:
    (place / "f.toml").write_text(family_text("f", *(members or ('source = "a"', 'source = "b"'))) + "\n" + tables)


def states(place: Path, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    done = trajsvc("batch", place / "f.toml", "--store", place / "store", "--format", "json", *arguments)
    assert done.exit_code == code, done.output
    return {row["member"]: row for row in json.loads(done.stdout)["members"]}


def spectra(place: Path, name: str) -> list[Any]:
    return open_run(place / "store", name).spectrum_answers().rows()


def test_a_file_without_the_tables_computes_neither(place: Path) -> None:
    write(place, "")
    assert {(row["spectra"], row["gradients"]) for row in states(place).values()} == {(None, None)}
    assert spectra(place, "a") == []


def test_spectra_of_every_member_are_computed_and_not_done_again(place: Path) -> None:
    write(place, SPECTRA + 'steps = [0, 10, 20]\nbudget = "8MiB"\n')
    found = states(place)
    assert {(row["state"], row["spectra"], row["spectra_new"]) for row in found.values()} == {("done", 3, 3)}
    for name in "ab":
        rows = spectra(place, name)
        assert [(row.of, row.steps) for row in rows] == [("weights", [0, 10, 20])]
    files = {p: p.stat().st_mtime_ns for p in (place / "store" / "runs").rglob("*") if p.is_file()}
    again = states(place)
    assert {(row["state"], row["spectra"], row["spectra_new"]) for row in again.values()} == {("unchanged", 3, 0)}
    assert {p: p.stat().st_mtime_ns for p in files} == files
    write(place, SPECTRA)
    more = states(place)
    assert {(row["state"], row["new"], row["spectra"], row["spectra_new"]) for row in more.values()} == {
        ("done", 0, 4, 1)
    }


def test_a_member_has_options_of_its_own_or_is_left_out(place: Path) -> None:
    write(
        place, SPECTRA, 'source = "a"\nspectra = {of = ["updates"], steps = "last:2"}', 'source = "b"\nspectra = false'
    )
    found = states(place)
    assert (found["a"]["spectra"], found["b"]["spectra"]) == (2, None)
    assert [(row.of, row.steps) for row in spectra(place, "a")] == [("updates", STEPS_OF_FOUR[-2:])]
    assert spectra(place, "b") == []


STEPS_OF_FOUR = list(STEPS[:4])


def test_gradients_are_those_that_their_own_command_computes(with_probe: Path) -> None:
    write(with_probe, GRADIENTS + 'name = "mine"\nsets = ["batch"]\n', 'source = "small"')
    found = states(with_probe)["small"]
    assert (found["state"], found["gradients"], found["gradients_new"]) == ("done", 2, 2)
    given = ["--probe", "family_probe_of_test:Small", "--data", with_probe / "data.npz", "--as", "other"]
    words = [*given, "--sets", "batch", "--examples", "4", "--batch", "2", "--steps", "first:2"]
    done = trajsvc("gradients", "compute", "small", "--store", with_probe / "store", *words)
    assert done.exit_code == 0, done.output
    run = open_run(with_probe / "store", "small")
    assert run.gradient_sets() == ["mine", "other"]
    one, other = (trajsvc("gradients", "map", "small", "--set", name, "--format", "json", "--store", with_probe / "store")
                  for name in run.gradient_sets())  # fmt: skip
    assert one.exit_code == 0
    assert json.loads(one.stdout)["map"] == json.loads(other.stdout)["map"]
    again = states(with_probe)["small"]
    assert (again["state"], again["gradients"], again["gradients_new"]) == ("unchanged", 2, 0)


def test_what_fails_beside_a_run_is_said_and_keeps_the_rest(with_probe: Path) -> None:
    place = with_probe
    tables = GRADIENTS.replace("examples = 4", "examples = 40") + SPECTRA.replace("layer/0", "layer/7")
    write(place, tables, 'source = "small"', 'source = "a"\ngradients = false\nspectra = {groups = "network"}')
    done = trajsvc("batch", place / "f.toml", "--store", place / "store")
    assert done.exit_code == 3, done.output
    assert "layer/7" in done.stdout
    found = states(place, code=3)
    assert (found["a"]["state"], found["a"]["spectra"], found["a"]["gradients"]) == ("unchanged", 4, None)
    small = found["small"]
    assert (small["state"], small["kind"], small["checkpoints"]) == ("failed", "group-not-found", 3)
    assert small["error"].startswith("spectra: ")
    assert "; gradients: " in small["error"]
    assert small["hint"]
    write(place, GRADIENTS, 'source = "small"')
    again = states(place)["small"]
    assert (again["state"], again["new"], again["gradients_new"]) == ("done", 0, 2), "the run was kept"


def test_options_of_the_command_line_hold_for_both(with_probe: Path) -> None:
    write(with_probe, SPECTRA.replace("layer/0", "network") + 'budget = "4"\n', 'source = "small"')
    assert states(with_probe, code=3)["small"]["kind"] == "memory-budget"
    assert states(with_probe, "--memory", "64MiB")["small"]["spectra"] == 3
    assert states(with_probe, "--device", "nonsense", code=1)["small"]["kind"] == "device-unavailable"


def test_a_member_whose_analysis_fails_has_nothing_beside_it(place: Path) -> None:
    damage(place / "b", STEPS[1])
    write(place, SPECTRA)
    found = states(place, code=3)
    assert (found["a"]["state"], found["a"]["spectra"]) == ("done", 4)
    assert (found["b"]["state"], found["b"]["kind"], found["b"]["spectra"]) == ("failed", "malformed-safetensors", None)


def interrupted(real: Callable[..., Any]) -> Callable[..., Any]:
    """``compute_spectra`` with a ^C once the second of its units is done."""

    class Watch(compute.SpectrumObserver):
        def computed(self, step: int, matrix: str, done: int, total: int) -> None:
            if done == total // 2:
                os.kill(os.getpid(), signal.SIGINT)

    def run(*arguments: Any, **named: Any) -> Any:
        return real(*arguments, **{**named, "observer": Watch()})

    return run


@pytest.mark.timing
def test_an_interrupted_batch_goes_on_at_the_next_checkpoint(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place, SPECTRA)
    with monkeypatch.context() as patched:
        patched.setattr(compute, "compute_spectra", interrupted(compute.compute_spectra))
        found = states(place, code=130)
    assert [row["state"] for row in found.values()] == ["stopped", "not begun"]
    kept = len(spectra(place, "a")[0].steps)
    assert 0 < kept < 4
    found = states(place)
    assert (found["a"]["state"], found["a"]["new"], found["a"]["spectra"]) == ("done", 0, 4)
    assert 0 < found["a"]["spectra_new"] <= 4 - kept + 1
    assert (found["b"]["new"], found["b"]["spectra_new"]) == (4, 4)


def test_people_see_both_in_the_lines_the_table_and_the_plan(place: Path) -> None:
    write(place, SPECTRA, 'source = "a"', 'source = "b"\nspectra = false')
    plan = trajsvc("batch", place / "f.toml", "--store", place / "store", "--dry-run")
    assert plan.exit_code == 0
    assert "of=['weights']" in plan.stdout
    rows = json.loads(trajsvc("batch", place / "f.toml", "--dry-run", "--format", "json").stdout)["members"]
    assert [row["spectra"] for row in rows] == [{"of": ["weights"], "groups": ["layer/0"]}, None]
    assert [row["gradients"] for row in rows] == [None, None]
    done = trajsvc("batch", place / "f.toml", "--store", place / "store")
    assert "[1/2] a: done, 4 checkpoints, 4 new, spectra of 4 (4 new)," in done.stderr
    assert "spectra" in done.stdout.splitlines()[0] + done.stdout.splitlines()[1]
    assert "gradients" not in done.stdout
    csv = trajsvc("batch", place / "f.toml", "--store", place / "store", "--format", "csv").stdout.splitlines()
    assert "spectra,spectra_new,gradients,gradients_new" in csv[0]


@pytest.mark.parametrize(
    ("tables", "arguments", "code", "words"),
    [
        (SPECTRA + 'steps = "some"\n', (), 2, "cannot read 'some'"),
        (GRADIENTS.replace("data.npz", "none.npy"), (), 4, "none.npy"),
        (GRADIENTS.replace("data.npz", "corpus"), (), 4, "corpus"),
        (GRADIENTS + 'tokenizer = "tok"\n', ("--server", "http://127.0.0.1:9"), 2, "takes no tokenizer"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(
    place: Path, tables: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    write(place, tables)
    done = trajsvc("batch", place / "f.toml", "--store", place / "store", *arguments)
    assert done.exit_code == code, done.output
    assert words in " ".join(done.stderr.split())
    assert not (place / "store").exists()


RUN = '[[runs]]\nsource = "a"\n'
BAD: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown option": (f"[spectra]\nbudge = 1\n{RUN}", ("spectra budge", "Did you mean 'budget'?")),
    "unknown option of a member": (
        f"{RUN}[runs.gradients]\neat = 1",
        ("runs[1] (a) gradients eat", "Did you mean 'eta'?"),
    ),
    "kind of spectra": (f'[spectra]\nof = ["weight"]\n{RUN}', ("spectra of[1]", "'weights'", "'weight'")),
    "no data": (f'[gradients]\nprobe = "causal-lm"\n{RUN}', ("no data for the gradients of 'a'", "[gradients]")),
    "no probe of one": (f'{RUN}[runs.gradients]\ndata = "x.txt"', ("no probe for the gradients of 'a'",)),
    "true": (f"{RUN}gradients = true", ("gradients is no table of options, nor false",)),
    "false for all": (f"spectra = false\n{RUN}", ("spectra is no table of options",)),
    "budget": (f'[spectra]\nbudget = "lots"\n{RUN}', ("spectra budget", "512MiB")),
    "a name": (f'[gradients]\nname = "../x"\n{RUN}', ("gradients name",)),
    "a misspelt table": (f"[spectrum]\n{RUN}", ("spectrum", "Did you mean 'spectra'?")),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_with_its_key_and_what_to_do(tmp_path: Path, case: str) -> None:
    text, words = BAD[case]
    (tmp_path / "f.toml").write_text('name = "f"\n' + text)
    with pytest.raises(UsageError) as caught:
        load_family(tmp_path / "f.toml")
    assert caught.value.kind == "bad-family"
    assert caught.value.hint
    assert "[literal" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_files_are_relative_to_the_family_s_and_names_of_a_server_stay(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("text")
    members = [
        f'source = "{k}"\ngradients = {{data = "{data}", tokenizer = "tok/en"}}'
        for k, data in enumerate(("here", "text", "deep/text", "t.npy", "/x/y"))
    ]
    (tmp_path / "f.toml").write_text(family_text("f", *members) + '\n[gradients]\nprobe = "p"\n')
    family = load_family(tmp_path / "f.toml")
    tables = [family.gradients_of(member) for member in family.runs]
    assert [t.data for t in tables if t] == [
        str(tmp_path / "here"), "text", str(tmp_path / "deep/text"), str(tmp_path / "t.npy"), "/x/y",
    ]  # fmt: skip
    assert {t.tokenizer for t in tables if t} == {str(tmp_path / "tok/en")}
    save_family(tmp_path / "store", family)
    assert open_family(tmp_path / "store", "f") == family
