"""Figures that nobody asked for take a share of the time of the analysis; those that are asked for are all drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from in_process import trajsvc as command

import trajsvc
from trajsvc.cli import analyze

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pythia-nano"


@pytest.mark.slow
def test_figures_are_drawn_while_there_is_time(tmp_path: Path) -> None:
    run = trajsvc.analyze(EXAMPLE, store=tmp_path / "store", threads=1)
    for seconds, names, left in (
        (0.0, [], ["map", "measures", "layers", "qkv"]),
        (1e6, ["layers", "map", "measures", "qkv"], []),
        (None, ["layers", "map", "measures", "qkv"], []),
    ):
        folder = tmp_path / f"figures-{seconds}"
        assert analyze.draw(run, folder, seconds) == left
        assert sorted(p.stem for p in folder.glob("*")) == names


@pytest.mark.slow
def test_the_command_says_which_it_left_and_draws_all_into_a_named_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analyze, "SHARE", 0.0)
    done = command("analyze", str(EXAMPLE), "--store", str(tmp_path / "a"))
    assert "figures  not yet: map, measures, layers, qkv; --figures DIR draws all" in done.stdout
    assert not (tmp_path / "a" / "figures").exists()
    again = command("analyze", str(EXAMPLE), "--store", str(tmp_path / "a"), "--no-figures")
    assert "nothing new: all 14 checkpoints are stored, and no weight was read" in again.stderr
    done = command("analyze", str(EXAMPLE), "--store", str(tmp_path / "b"), "--figures", str(tmp_path / "all"))
    assert "not yet" not in done.stdout
    assert len(list((tmp_path / "all").iterdir())) == 4
