"""A family analysed in one go: what fails is left behind, what was done is not done again, ^C leaves what resumes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_runs import STEPS, cosines, damage, family_text, flat, trajectory, trajsvc, write_run

from trajsvc.analysis import pipeline
from trajsvc.cli.batch import exit_code, run_members
from trajsvc.cli.batch_members import EmbeddedRunner, MemberOutcome, MemberRunner
from trajsvc.errors import TryAgain
from trajsvc.families.file import Family, Member, family_names, load_family, open_family
from trajsvc.results.run import names
from trajsvc.results.run import open as open_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``a``, ``b`` and ``c`` of runs, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    for k, name in enumerate("abc"):
        write_run(folder / name, trajectory(2, seed=k))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRAJSVC_STORE", "TRAJSVC_DEBUG", "TRAJSVC_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    write(tmp_path)
    return tmp_path


def write(place: Path, *members: str, defaults: str = "") -> None:
    runs = members or ('source = "a"', 'source = "b"\nseed = 1\nhyperparameters = {lr = 0.1}', 'source = "c"')
    (place / "f.toml").write_text(family_text("f", *runs, defaults=defaults))


def batch(place: Path, *arguments: str) -> Any:
    return trajsvc("batch", place / "f.toml", "--store", place / "store", *arguments)


def states(place: Path, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """What the command says of every member, as JSON."""
    done = batch(place, "--format", "json", *arguments)
    assert done.exit_code == code, done.output
    answer = json.loads(done.stdout)
    assert (answer["family"], answer["store"]) == ("f", str(place / "store"))
    return {row["member"]: row for row in answer["members"]}


def test_all_members_are_analysed_kept_and_not_done_again(place: Path) -> None:
    done = batch(place)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert [line.split(",")[0] for line in lines] == ["[1/3] a: done", "[2/3] b: done", "[3/3] c: done"]
    assert "trajsvc compare --family f" in done.stderr
    assert names(place / "store") == ["a", "b", "c"]
    assert open_family(place / "store", "f") == load_family(place / "f.toml")
    for k, name in enumerate("abc"):
        oracle = cosines(flat(trajectory(2, seed=k)))
        found = open_run(place / "store", name).trajectory_map()
        np.testing.assert_allclose(np.asarray(found), oracle, atol=1e-6)
    before = {p: p.stat().st_mtime_ns for p in (place / "store").rglob("*") if p.is_file()}
    again = states(place)
    assert {name: (row["state"], row["new"]) for name, row in again.items()} == dict.fromkeys("abc", ("unchanged", 0))
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_member_that_fails_does_not_keep_the_others_from_being_done(place: Path) -> None:
    write(place, 'source = "a"', 'source = "b"', 'source = "nowhere"', 'source = "c"')
    file = damage(place / "b", STEPS[2])
    done = batch(place)
    assert done.exit_code == 3
    assert names(place / "store") == ["a", "c"]
    assert "malformed-safetensors" in done.stdout
    assert str(file) in done.stdout
    assert "cut short" in done.stdout
    assert "Fetch or copy the file again" in done.stdout, "the hint"
    assert "Traceback" not in done.output
    found = states(place, code=3)
    assert [row["state"] for row in found.values()] == ["unchanged", "failed", "failed", "unchanged"]
    assert found["nowhere"]["kind"] == "source-not-found"
    assert found["nowhere"]["hint"]
    assert found["b"]["hint"] not in found["b"]["error"]
    write_run(place / "b", trajectory(2, seed=1))
    write(place)
    assert [row["state"] for row in states(place).values()] == ["unchanged", "done", "unchanged"]


def test_all_failed_is_a_failure(place: Path) -> None:
    write(place, 'source = "x"', 'source = "y"')
    assert {row["state"] for row in states(place, code=1).values()} == {"failed"}
    assert family_names(place / "store") == ["f"], "the family is kept all the same"


def test_checkpoints_left_out_are_counted_and_make_it_partly_done(place: Path) -> None:
    damage(place / "b", STEPS[2])
    write(place, 'source = "a"', 'source = "b"\nskip_damaged = true')
    found = states(place, code=3)
    assert (found["b"]["state"], found["b"]["checkpoints"], found["b"]["left_out"]) == ("done", len(STEPS) - 1, 1)


def test_new_checkpoints_are_appended(place: Path) -> None:
    late = place / "a" / f"step{STEPS[-1]}"
    late.rename(place / "late")
    assert states(place)["a"]["checkpoints"] == len(STEPS) - 1
    (place / "late").rename(late)
    found = states(place)
    assert (found["a"]["state"], found["a"]["new"], found["a"]["checkpoints"]) == ("appended", 1, len(STEPS))
    assert found["b"]["state"] == "unchanged"


def test_only_some_members(place: Path) -> None:
    assert list(states(place, "--only", "c, a")) == ["a", "c"]
    assert names(place / "store") == ["a", "c"]
    assert [m.name for m in open_family(place / "store", "f").runs] == ["a", "b", "c"], "the whole family is kept"
    wrong = batch(place, "--only", "a,d")
    assert wrong.exit_code == 4
    assert "It has a, b, c" in wrong.stderr
    assert batch(place, "--only", " ,").exit_code == 2


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(place: Path) -> None:
    write(place, 'source = "a"\nsize = "70M"', 'source = "hf://org/name"', defaults='steps = "last:3"')
    states(place, "--only", "a")
    before = sorted((place / "store").rglob("*"))
    done = batch(place, "--dry-run", "--format", "json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)["members"]
    assert [(m["member"], m["source"], m["stored"]) for m in found] == [
        ("a", str(place / "a"), True), ("name", "hf://org/name", False),
    ]  # fmt: skip
    assert found[0]["options"] == {"steps": "last:3"}
    assert sorted((place / "store").rglob("*")) == before
    told = batch(place, "--dry-run").stdout
    assert "70,000,000" in told
    assert "steps=last:3" in told
    nothing = trajsvc("batch", place / "f.toml", "--store", place / "none", "--dry-run")
    assert nothing.exit_code == 0
    assert not (place / "none").exists()


def test_options_are_the_defaults_the_members_own_and_the_command_lines(place: Path) -> None:
    write(
        place,
        'source = "a"',
        'source = "b"\nsteps = "first:2"\nmemory = "128MiB"',
        defaults='steps = "last:3"\ncopy = true\nmemory = "64MiB"',
    )
    found = states(place)
    assert (found["a"]["checkpoints"], found["b"]["checkpoints"]) == (3, 2)
    runs = [open_run(place / "store", name) for name in "ab"]
    assert [run.stored.has_theta for run in runs] == [True, True]
    assert [run.attributes["plan"]["memory"] for run in runs] == [64 * 2**20, 128 * 2**20]
    shutil.rmtree(place / "store")
    states(place, "--memory", "96MiB", "--threads", "1")
    plan = open_run(place / "store", "b").attributes["plan"]
    assert (plan["memory"], plan["threads"]) == (96 * 2**20, 1)


@pytest.mark.parametrize("arguments", [("--memory", "lots"), ("--format", "yaml")])
def test_wrong_options_are_said_before_anything_is_done(place: Path, arguments: tuple[str, ...]) -> None:
    assert batch(place, *arguments).exit_code == 2
    assert not (place / "store").exists()


def test_a_wrong_file_is_said_before_anything_is_done(place: Path) -> None:
    (place / "f.toml").write_text('name = "f"\n[[runs]]\nsource = "a"\ncolour = 1\n')
    done = batch(place)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "colour" in done.stderr
    assert not (place / "store").exists()


def test_quiet_says_errors_and_the_result(place: Path) -> None:
    write(place, 'source = "a"', 'source = "nowhere"')
    done = batch(place, "--quiet")
    assert done.exit_code == 3
    assert "nowhere" in done.stderr
    assert "[1/2]" not in done.stderr
    assert "done" in done.stdout


def interrupt_at(turn: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """``run_analysis`` during whose ``turn``-th call ^C arrives."""
    calls: list[str] = []

    def run(*arguments: Any, **named: Any) -> Any:
        calls.append("")
        if len(calls) == turn:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **named)

    return run


@pytest.mark.timing
@pytest.mark.parametrize("turn", [1, 2])
def test_an_interrupted_batch_says_how_to_go_on_and_resumes(
    place: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_analysis", interrupt_at(turn, pipeline.run_analysis))
        done = batch(place)
    assert done.exit_code == 130, done.output
    assert "the same command resumes" in done.stderr
    assert "stopped" in done.stdout
    assert "not begun" in done.stdout
    assert names(place / "store") == list("abc"[: turn - 1])
    assert signal.getsignal(signal.SIGINT) == handler
    found = [row["state"] for row in states(place).values()]
    assert found == ["unchanged"] * (turn - 1) + ["done"] * (4 - turn)


class Scripted(MemberRunner):
    """A runner whose outcomes are said beforehand, in turn, for every member."""

    def __init__(self, script: dict[str, list[MemberOutcome]]) -> None:
        self.script = script
        self.ran: list[str] = []

    def run(self, member: Member) -> MemberOutcome:
        self.ran.append(member.name)
        return self.script[member.name].pop(0)


def members(*named: str) -> Sequence[Member]:
    return Family(name="f", runs=[Member(name=n, source="/x") for n in named]).runs


@pytest.mark.timing
def test_members_whose_error_may_pass_are_tried_once_more_after_the_others() -> None:
    def script() -> Scripted:
        passing = MemberOutcome("a", "failed", kind="hub-unreachable", again=True)
        lasting = MemberOutcome("b", "failed", kind="no-checkpoints")
        return Scripted({
            "a": [passing, MemberOutcome("a", "done")], "b": [lasting], "c": [MemberOutcome("c", "done")],
        })  # fmt: skip

    said: list[tuple[int, str]] = []
    runner = script()
    found = run_members(
        members("a", "b", "c"), runner, lambda: False, retry=True, say=lambda k, o: said.append((k, o.state))
    )
    assert runner.ran == ["a", "b", "c", "a"]
    assert [o.state for o in found] == ["done", "failed", "done"]
    assert said == [(1, "failed"), (2, "failed"), (3, "done"), (1, "done")]
    once = script()
    found = run_members(members("a", "b", "c"), once, lambda: False, retry=False, say=lambda k, o: None)
    assert once.ran == ["a", "b", "c"]
    assert [o.state for o in found] == ["failed", "failed", "done"]


def test_an_error_that_may_pass_is_told_from_one_that_lasts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, store = load_family(place / "f.toml"), place / "store"
    runner = EmbeddedRunner(family, store, threading.Event(), {}, quiet=True)

    def busy(*arguments: Any) -> Any:
        raise TryAgain("store-busy", "the run is being written", hint="Wait.")

    def broken(*arguments: Any) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(pipeline, "run_analysis", busy)
    found = runner.run(family.runs[0])
    assert (found.state, found.kind, found.hint, found.again) == ("failed", "store-busy", "Wait.", True)
    monkeypatch.setattr(pipeline, "run_analysis", broken)
    found = runner.run(family.runs[0])
    assert (found.state, found.kind, found.error, found.again) == (
        "failed",
        "unexpected",
        "RuntimeError: something else",
        False,
    )


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        (["done", "unchanged", "appended"], 0),
        (["done", "failed"], 3),
        (["failed", "failed"], 1),
        (["unchanged", "failed", "failed"], 3),
        (["failed"], 1),
    ],
)
def test_exit_codes(kinds: list[Any], code: int) -> None:
    assert exit_code([MemberOutcome(str(k), state) for k, state in enumerate(kinds)]) == code
    assert exit_code([MemberOutcome("a", "done", left_out=2)]) == 3
    assert exit_code([MemberOutcome("a", "failed", checkpoints=4)]) == 3, "its run is stored"
