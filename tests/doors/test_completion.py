"""What the shell completes, by the real script's variables, in the store that the command line or the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import trajsvc


def complete(line: str, store: Path) -> list[str]:
    environment = {
        **os.environ,
        "TRAJSVC_STORE": str(store),
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
        "_TRAJSVC_COMPLETE": "complete_bash",
    }
    if line.endswith(" "):
        environment["COMP_CWORD"] = str(len(line.split()))
    code = "import sys; sys.argv = ['trajsvc']; from trajsvc.cli.main import run; run()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("trajsvc show n", ["nano"]),
        ("trajsvc show ", ["mlp", "nano", "other"]),
        ("trajsvc rm o", ["other"]),
        (
            "trajsvc map nano --group layer/1/attention.",
            ["layer/1/attention.q", "layer/1/attention.k", "layer/1/attention.v", "layer/1/attention.out"],
        ),
        ("trajsvc map nothing --group layer/", []),
        ("trajsvc measures nano --names mds,tort", ["mds,tortuosity"]),
        ("trajsvc compl", ["completion"]),
    ],
)
def test_names_are_completed(store: Path, line: str, found: list[str]) -> None:
    assert sorted(complete(line, store)) == sorted(found)


def test_families_and_another_store(tmp_path: Path, store: Path) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "sweep.json").write_text("{}")
    assert complete("trajsvc compare --family s", tmp_path) == ["sweep"]
    assert complete(f"trajsvc show --store {store} n", tmp_path) == ["nano"]
    assert complete("trajsvc show n", tmp_path / "nothing") == []


def test_the_script_of_each_shell() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = trajsvc("completion", shell)
        assert "_TRAJSVC_COMPLETE" in done.stdout
    assert trajsvc("completion", "csh").returncode == 2
