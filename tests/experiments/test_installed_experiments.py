"""Experiments of other packages, found by the entry points of a distribution that is installed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trajsvc.errors import UsageError
from trajsvc.experiments.base import Setting
from trajsvc.experiments.registry import PAPERS, experiment, experiments
from trajsvc.results.run import open as open_run

TRAIN = """
import argparse, numpy as np
from pathlib import Path
from safetensors.numpy import save_file

words = argparse.ArgumentParser()
words.add_argument("--output", type=Path); words.add_argument("--seed", type=int); words.add_argument("--straight", action="store_true")
given = words.parse_args()
(given.output / "calls").write_text((given.output / "calls").read_text() + "x" if (given.output / "calls").exists() else "x")
rng = np.random.default_rng(given.seed)
point, way = rng.normal(size=(4, 8)), rng.normal(size=(4, 8))
for step in range(8):
    save_file({"layer.weight": point.astype(np.float32)}, given.output / f"step_{step}.safetensors")
    point = point + (way if given.straight else rng.normal(size=(4, 8)))
"""
MODULE = """
from pathlib import Path
from trajsvc.experiments.base import Verdict
from trajsvc.experiments.scripts import script_experiment

def judged(setting, runs):
    angles = {m: float(sum(run.update_angle().mean() for run in of)) / len(of) for m, of in runs.items()}
    return Verdict({"angle": angles}, angles["straight"] < angles["random"])

EXPERIMENT = script_experiment(
    Path(__file__).with_name("mine_train.py"), {"straight": ["--straight"], "random": []},
    title="Straight or random", claim="Straight runs do not turn", criterion="smaller angles", verdict=judged,
)
NONE = 3
"""
POINTS = """[trajsvc.experiments]
mine = mine_package:EXPERIMENT
h1 = mine_package:EXPERIMENT
number = mine_package:NONE
broken = mine_package_that_is_not_there:EXPERIMENT
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages with a module, its script and a distribution's metadata, as an installer leaves them."""
    site = tmp_path / "site"
    info = site / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (site / "mine_package.py").write_text(MODULE)
    (site / "mine_train.py").write_text(TRAIN)
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("mine_package", None)


def test_they_are_listed_after_the_papers_and_hide_none(installed: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = experiments()
    assert list(found) == [*(e.name for e in PAPERS), "mine"]
    assert (found["mine"].name, found["mine"].title) == ("mine", "Straight or random")
    assert found["h1"].title == "Momentum and weight decay"
    assert "number is a int" in caplog.text
    assert "mine_package_that_is_not_there" in caplog.text


@pytest.mark.parametrize(("name", "said"), [("number", "is a int"), ("broken", "cannot be imported")])
def test_one_that_cannot_be_used_says_why_when_it_is_named(installed: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        experiment(name)
    assert caught.value.kind == "bad-experiment"
    assert "mine" in caught.value.hint


@pytest.mark.slow
def test_a_script_s_checkpoints_become_runs_of_a_family(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    setting = Setting(folder, tmp_path / "store", (0, 1))
    first = experiment("mine").recipe(setting)
    assert first.reproduced
    assert first.measured["angle"]["straight"] == pytest.approx(0.0, abs=0.1)
    run = open_run(tmp_path / "store", "mine-random-seed1")
    assert run.steps.tolist() == list(range(8))
    assert run.tags == ["experiment:mine"]

    again = experiment("mine").recipe(setting)
    assert again.measured == first.measured
    calls = folder / "runs" / "mine-random-seed1" / "calls"
    assert calls.read_text() == "x"
    (installed / "mine_train.py").write_text(TRAIN + "\n# changed\n")
    experiment("mine").recipe(setting)
    assert calls.read_text() == "xx"


def test_a_script_that_fails_is_told_with_what_it_said(installed: Path, tmp_path: Path) -> None:
    (installed / "mine_train.py").write_text("raise SystemExit('no data here')")
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(UsageError, match="no data here"):
        experiment("mine").recipe(Setting(folder, tmp_path / "store", (0,)))
