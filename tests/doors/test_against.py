"""Runs of no family against a hyperparameter: lines of what is equal in all else, the spread over seeds, every door the same."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from in_process import trajsvc as cli
from sweep_runs import PLAIN, SWEEP, make_sweep

import trajsvc
from trajsvc.errors import NotFound, UsageError
from trajsvc.figures import of_against
from trajsvc.figures.parallel import coordinate


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("against"))


def mds(store: Path, name: str) -> float:
    return float(trajsvc.open(store, name).mds())


def test_a_line_joins_what_is_equal_in_all_but_the_axis_and_the_seed(store: Path) -> None:
    answer = trajsvc.against("lr", store=store, where=["lr>0"]).answer
    lines = {line.line: set(line.runs) for line in answer.lines}
    assert lines == {
        "optimizer=adamw": {n for n, v in SWEEP.items() if v.get("optimizer") == "adamw"},
        "optimizer=sgd": {n for n, v in SWEEP.items() if v.get("optimizer") == "sgd"},
    }
    assert answer.parting == ["optimizer"]
    assert set(answer.varying) == {"lr", "optimizer", "run_name"}
    assert [row.place for row in answer.rows] == sorted(row.place for row in answer.rows)  # type: ignore[type-var]


def test_what_is_ignored_parts_no_lines(store: Path) -> None:
    answer = trajsvc.against("lr", store=store, where=["lr>0"], ignore=["optimizer"]).answer
    assert [line.line for line in answer.lines] == ["all"]


def test_the_spread_is_over_seeds_alone(store: Path) -> None:
    found = trajsvc.against("lr", store=store, where=["lr>0"], measures=["mds"])
    (row,) = [row for row in found.answer.spreads if row.place == 0.01]
    seeds = [n for n, v in SWEEP.items() if v.get("lr") == 0.01 and v["optimizer"] == "adamw"]
    assert set(row.runs) == set(seeds)
    assert len(seeds) == 3
    values = [mds(store, name) for name in seeds]
    spread = row.measures["mds"]
    assert spread.count == 3
    assert spread.mean == pytest.approx(statistics.fmean(values), rel=1e-12)
    assert (spread.low, spread.high) == (min(values), max(values))
    assert spread.deviation == pytest.approx(statistics.stdev(values), rel=1e-12)
    table = found.spread()
    assert table[table["place"] == 0.01]["count"].tolist() == [3]
    assert found.to_dataframe().loc[seeds[0], "mds"] == values[0]


def test_size_seed_and_measures_are_axes_too(store: Path) -> None:
    by_size = trajsvc.against("size", store=store).answer
    assert {row.place for row in by_size.rows} == {row.parameters for row in by_size.rows}
    by_seed = trajsvc.against("seed", store=store).answer
    assert by_seed.lines == by_seed.spreads == []
    assert {row.run for row in by_seed.rows if row.place is None} == {PLAIN}
    by_measure = trajsvc.against("tortuosity", store=store, measures=["mds"]).answer
    assert by_measure.rows[0].measures.keys() == {"mds"}
    assert by_measure.rows[0].place == pytest.approx(float(trajsvc.open(store, by_measure.rows[0].run).tortuosity()))
    assert by_measure.lines == []


def test_a_size_parts_lines_unless_the_axis_determines_it(store: Path) -> None:
    answer = trajsvc.against("steps", store=store).answer
    assert "size" in answer.parting
    assert trajsvc.against("lr", store=store).answer.rows[-1].run == PLAIN
    assert trajsvc.against("lr", store=store).answer.rows[-1].line is None


def test_the_usual_axis_is_what_differs(store: Path) -> None:
    assert trajsvc.against(store=store).answer.by == "lr"
    assert trajsvc.against(store=store, where=["lr=0.1", "optimizer=adamw"]).answer.by == "size"


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"by": "nonsense"}, "bad-field"),
        ({"by": "tags"}, "bad-by"),
        ({"by": "lr", "measures": ["update_angle"]}, "bad-field"),
        ({"by": "lr", "measures": ["mdss"]}, "measure-not-found"),
        ({"by": "lr", "group": "layer/99"}, "group-not-found"),
        ({"by": "lr", "where": ["lr>99"]}, "runs-needed"),
        ({"by": "lr", "runs": ["absent"]}, "run-not-found"),
    ],
)
def test_what_makes_no_sense_is_refused(store: Path, asked: dict[str, Any], kind: str) -> None:
    with pytest.raises((UsageError, NotFound)) as caught:
        trajsvc.against(store=store, **asked)
    assert caught.value.kind == kind


def test_the_command_line_has_the_same_and_says_why_there_is_no_line(store: Path) -> None:
    done = cli("compare", "--store", str(store), "--by", "lr", "--where", "lr>0", "--names", "mds", "--format", "json")
    assert json.loads(done.stdout) == json.loads(
        trajsvc.against("lr", store=store, where=["lr>0"], measures=["mds"]).answer.model_dump_json()
    )
    table = cli("compare", "--store", str(store), "--by", "lr", "--where", "lr>0", "--names", "mds")
    assert "equal in all but the seed" in table.stdout
    assert len([line for line in table.stdout.splitlines() if line.startswith("s-")]) == len(SWEEP)
    alone = cli("compare", "--store", str(store), "s-0.1-adamw-0", "s-0.01-sgd-0", "--by", "lr")
    assert "no lines: no two runs are equal in all but lr and their seed: they differ in optimizer" in alone.stderr
    rows = list(
        csv.DictReader(io.StringIO(cli("compare", "--store", str(store), "--by", "lr", "--format", "csv").stdout))
    )
    assert {row["run"] for row in rows} == {*SWEEP, PLAIN}
    assert next(row for row in rows if row["run"] == PLAIN)["place"] == ""


def test_conditions_choose_the_runs_that_stand_side_by_side(store: Path) -> None:
    done = cli("compare", "--store", str(store), "--where", "lr=0.1", "--format", "json")
    assert set(json.loads(done.stdout)["runs"]) == {n for n, v in SWEEP.items() if v.get("lr") == 0.1}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["--names", "mds"], "--names and --ignore go with --by"),
        (["--by", "lr", "--origin", "0"], "--origin is not for runs against a hyperparameter"),
        (["--by", "lr", "--parallel", "lr,mds"], "--parallel makes a figure"),
        (["--family", "x", "--where", "lr>0"], "either runs or a family"),
    ],
)
def test_options_that_do_not_go_together(store: Path, words: list[str], kind: str) -> None:
    done = cli("compare", "--store", str(store), *words)
    assert done.returncode == 2
    assert kind in done.stderr


def test_figures_have_a_point_a_run_and_a_bar_over_seeds(store: Path, tmp_path: Path) -> None:
    answer = trajsvc.against("lr", store=store, where=["lr>0"], measures=["mds", "tortuosity"]).answer
    first, *_ = of_against.scatter_of(answer).axes
    assert first.get_xscale() == "log"
    points = [tuple(p) for line in first.get_lines() if line.get_marker() == "o" for p in line.get_xydata().tolist()]
    assert sorted(points) == sorted((row.place, row.measures["mds"]) for row in answer.rows)
    assert len(first.collections) == sum(len(row.runs) > 1 for row in answer.spreads)
    figure = of_against.parallel_of(answer, ["lr", "optimizer", "mds"])
    runs = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert len(runs) == len(SWEEP)
    with pytest.raises(UsageError, match="nonsense"):
        of_against.parallel_of(answer, ["lr", "nonsense"])
    out = tmp_path / "p.svg"
    done = cli("compare", "--store", str(store), "--where", "lr>0", "--parallel", "all", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_text().startswith("<?xml")


def test_coordinates_are_places_between_the_ends() -> None:
    wide = coordinate("lr", [0.001, 0.1, None, 0.01])
    assert wide.places[:2].tolist() == [0.0, 1.0]
    assert wide.places[3] == pytest.approx(0.5)
    assert wide.places[2] != wide.places[2]
    words = coordinate("optimizer", ["sgd", "adam", True])
    assert words.places.tolist() == [0.5, 0.0, 1.0]
    assert coordinate("one", [3, 3]).places.tolist() == [0.5, 0.5]
    assert len(coordinate("many", list(range(9))).ticks) == 5
