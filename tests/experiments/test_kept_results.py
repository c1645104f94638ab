"""Results of experiments in a store: whole, replaced as a whole, and refused where they are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trajsvc.errors import DamagedStore, NotFound, UsageError
from trajsvc.experiments.kept import figure_bytes, last_result, open_result, result_names, save_result
from trajsvc.experiments.listing import rows_of


def facts(**more: Any) -> dict[str, Any]:
    plain = {
        "name": "h7", "title": "Grokking", "paper": "Hallmarks", "figure": "app. H", "claim": "c", "criterion": "k",
        "measured": {"mds": 0.5},
        "verdict": "reproduced", "notes": [], "seeds": [0], "scale": "small", "settings": "s", "paper_settings": "p",
        "versions": {"trajsvc": "0"}, "seconds": 1.5, "made": "2026-11-27T00:00:00+00:00", "family": None, "runs": ["h7-a"],
    }  # fmt: skip
    return plain | more


def figure(place: Path, name: str, data: bytes) -> Path:
    path = place / name
    path.write_bytes(data)
    return path


def test_a_result_is_read_as_it_was_saved(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert last_result(store, "h7") is None
    saved = save_result(store, facts(), [figure(tmp_path, "h7.png", b"one"), figure(tmp_path, "h7-maps.png", b"two")])
    assert open_result(store, "h7") == saved
    assert [f.file for f in saved.figures] == ["h7.png", "h7-maps.png"]
    assert figure_bytes(store, saved, "h7-maps.png") == b"two"
    assert result_names(store) == ["h7"]


def test_another_result_takes_the_place_of_the_last_with_its_figures(tmp_path: Path) -> None:
    store = tmp_path / "store"
    old = save_result(store, facts(), [figure(tmp_path, "h7.png", b"one"), figure(tmp_path, "gone.png", b"two")])
    new = save_result(store, facts(verdict="not reproduced"), [figure(tmp_path, "h7.png", b"three")])
    assert open_result(store, "h7").verdict == "not reproduced"
    assert figure_bytes(store, new, "h7.png") == b"three"
    assert len(list((store / "experiments" / "h7").iterdir())) == 1
    with pytest.raises(NotFound) as caught:
        figure_bytes(store, old, "h7.png")
    assert caught.value.kind == "figure-not-found"


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    saved = save_result(store, facts(), [figure(tmp_path, "h7.png", b"one")])
    (kept,) = (store / "experiments" / "h7").iterdir()
    kept.write_bytes(b"other")
    with pytest.raises(DamagedStore, match="not as it was written"):
        figure_bytes(store, saved, "h7.png")
    path = store / "experiments" / "h7.json"
    for text in ("", "{", json.dumps({"version": 1, "result": {}}), json.dumps({"version": 2}), "[]"):
        path.write_text(text)
        with pytest.raises(DamagedStore) as caught:
            open_result(store, "h7")
        assert caught.value.kind == "experiment-damaged"


def test_names_are_no_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_result(tmp_path, "../h7")
    with pytest.raises(NotFound, match="no result"):
        open_result(tmp_path, "h7")


def test_a_list_has_verdicts_of_those_that_were_run_and_results_of_those_that_are_gone(tmp_path: Path) -> None:
    save_result(tmp_path, facts(), [])
    save_result(tmp_path, facts(name="mine"), [])
    rows = {row.name: row for row in rows_of(tmp_path)}
    assert rows["h7"].verdict == rows["mine"].verdict == "reproduced"
    assert rows["h1"].verdict is None
    assert list(rows)[-1] == "mine"
