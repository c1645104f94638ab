"""``trajsvc experiment`` as a user types it."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

import in_process
import pytest

pytestmark = pytest.mark.skipif(
    find_spec("sklearn") is None, reason="scikit-learn, of the extra `experiments`, is not installed"
)


def trajsvc(*words: str, place: Path) -> subprocess.CompletedProcess[str]:
    return in_process.trajsvc(*words, cwd=place)


def test_ls_show_and_run(tmp_path: Path) -> None:
    listed = trajsvc("experiment", "ls", "--format", "json", place=tmp_path)
    rows = json.loads(listed.stdout)
    assert {"name", "title", "paper", "figure", "claim"} == set(rows[0])
    assert {"h1", "h10", "c1", "l1", "v3"} <= {row["name"] for row in rows}

    shown = trajsvc("experiment", "show", "h10", place=tmp_path)
    assert "reproduced when" in shown.stdout
    assert "none in trajsvc-store" in shown.stdout

    ran = trajsvc("experiment", "run", "v4", "-o", "out", "--seeds", "1", "--format", "json", place=tmp_path)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert {"name", "claim", "measured", "verdict", "seeds", "figures"} == set(answer)
    assert answer["seeds"] == [0]
    assert answer["verdict"] == "reproduced"
    assert (tmp_path / answer["figures"][0]).is_file()
    written = json.loads((tmp_path / "out" / "v4" / "result.json").read_text())
    again = json.loads(trajsvc("experiment", "show", "v4", "--format", "json", place=tmp_path).stdout)
    assert again["result"] == written
    assert written["measured"] == answer["measured"]
    assert {"trajsvc", "torch"} <= set(written["versions"])
    assert "verdict          reproduced (1 seeds" in trajsvc("experiment", "show", "v4", place=tmp_path).stdout


def test_the_papers_settings_are_said_and_nothing_is_run(tmp_path: Path) -> None:
    said = trajsvc("experiment", "run", "h7", "--scale", "paper", "-o", "out", place=tmp_path)
    assert said.returncode == 4
    assert "one-layer transformer" in said.stdout
    assert "scale-unavailable" in said.stderr or "no recipe at the scale" in said.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_one_is_refused_with_those_that_are_close(tmp_path: Path) -> None:
    refused = trajsvc("experiment", "run", "h12o", place=tmp_path)
    assert refused.returncode == 4
    assert "experiment-not-found" in refused.stderr or "no experiment" in refused.stderr
