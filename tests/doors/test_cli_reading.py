"""The reading commands: their JSON is the wire's, their files hold the numbers, their errors say what to do next."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest
from made_runs import STEPS, Cli, Made, commit, cosines, make, transformer_blocks
from pydantic import TypeAdapter
from slow_params import slow_but

from storage_schema.models.results import (
    CompareAnswer,
    Finding,
    GroupRow,
    LayerRow,
    MapAnswer,
    MeasuresAnswer,
    QkvAnswer,
    RunRow,
    Summary,
)
from trajsvc.figures.maps import scale_of
from trajsvc.measures.registry import MEASURES

SHAPES: dict[str, tuple[list[str], Any]] = {
    "ls": (["ls"], list[RunRow]),
    "show": (["show", "nano"], Summary),
    "integrity": (["show", "nano", "--integrity"], list[Finding]),
    "groups": (["groups", "nano"], list[GroupRow]),
    "map": (["map", "nano"], MapAnswer),
    "measures": (["measures", "nano"], MeasuresAnswer),
    "layers": (["layers", "nano"], list[LayerRow]),
    "qkv": (["qkv", "nano"], QkvAnswer),
    "compare": (["compare", "nano", "other"], CompareAnswer),
}


@pytest.mark.parametrize("name", SHAPES)
def test_json_is_what_the_wire_models_say(cli: Cli, name: str) -> None:
    arguments, shape = SHAPES[name]
    found = cli.json(*arguments)
    model = TypeAdapter(shape)
    assert model.dump_python(model.validate_python(found), mode="json") == found, "no field more, none less"


@pytest.mark.parametrize("name", [n for n in SHAPES if n not in ("show", "integrity")])
def test_csv_has_one_header_and_rows_of_its_width(cli: Cli, name: str) -> None:
    result = cli(*SHAPES[name][0], "--format", "csv")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}


@pytest.mark.parametrize("name", SHAPES)
def test_people_get_text_on_stdout_and_nothing_on_stderr(cli: Cli, name: str) -> None:
    result = cli(*SHAPES[name][0])
    assert result.exit_code == 0
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) > 1
    assert "\x1b[" not in result.stdout, "no colour where it is not wanted"


def test_layers_show_the_same_groups_as_the_summary(cli: Cli) -> None:
    def first_words(text: str) -> list[str]:
        lines = text[text.index("layer ") :].split("\n\n")[0].splitlines()
        return [line.split()[0] for line in lines[2:] if line.strip()]

    alone, within = (first_words(cli(*words).stdout) for words in (["layers", "nano"], ["show", "nano"]))
    assert alone == within
    assert (alone[0], alone[-1]) == ("embedding", "unembedding")


def test_exactly_the_keys_of_the_contract(cli: Cli) -> None:
    assert set(cli.json("measures", "nano")) == {"run", "group", "parameters", "steps", "measures", "undefined"}
    assert set(cli.json("map", "nano")) == {"run", "group", "origin", "steps", "map"}
    assert all(set(row) == {"id", "parameters", "tensors"} for row in cli.json("groups", "nano"))


def test_the_map_is_the_cosines_of_the_vectors(cli: Cli, made: Made) -> None:
    group = "layer/1/attention.v"
    points = made.vectors(layer="1", part="v")
    found = cli.json("map", "nano", "--group", group, "--origin", "2", "--steps", "0..16")
    assert (found["origin"], found["steps"], found["group"]) == (2, [0, 1, 4, 8, 16], group)
    expected = cosines(np.delete(points[:6] - points[2], 2, axis=0))
    np.testing.assert_allclose(found["map"], expected, rtol=1e-9)


@pytest.mark.parametrize("origin", [None, 0])
def test_map_files_hold_the_same_numbers(cli: Cli, made: Made, tmp_path: Path, origin: int | None) -> None:
    points = made.vectors()
    expected = cosines(points) if origin is None else cosines(points[1:] - points[0])
    steps = STEPS if origin is None else STEPS[1:]
    extra = [] if origin is None else ["--origin", str(origin)]
    for suffix in ("npy", "npz", "json", "csv"):
        result = cli("map", "nano", *extra, "-o", tmp_path / f"m.{suffix}")
        assert result.exit_code == 0, result.stderr
        assert result.stdout == ""
        assert not (tmp_path / "none").exists(), "reading makes no store"
        assert f"m.{suffix}" in result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "m.npy"), expected, rtol=1e-9)
    with np.load(tmp_path / "m.npz") as arrays:
        assert sorted(arrays) == ["map", "steps"]
        assert arrays["map"].dtype == np.float64
        assert arrays["steps"].tolist() == steps
        np.testing.assert_allclose(arrays["map"], expected, rtol=1e-9)
    np.testing.assert_allclose(json.loads((tmp_path / "m.json").read_text())["map"], expected, rtol=1e-9)
    rows = list(csv.reader((tmp_path / "m.csv").read_text().splitlines()))
    assert rows[0] == ["step", *map(str, steps)]
    np.testing.assert_allclose(np.array(rows[1:], dtype=float)[:, 1:], expected, rtol=1e-9)


def test_undefined_is_null_in_json_and_empty_in_csv(cli: Cli) -> None:
    tensor = "tensor/gpt_neox.layers.0.input_layernorm.bias"
    found = cli.json("map", "nano", "--group", tensor)["map"]
    assert found[0] == [None] * len(STEPS)
    assert found[2][0] is None
    assert found[2][2] == pytest.approx(1)
    rows = list(csv.reader(io.StringIO(cli("map", "nano", "--group", tensor, "--format", "csv").stdout)))
    assert rows[1] == ["0", *[""] * len(STEPS)]


def test_measures_in_csv_are_one_number_a_row(cli: Cli, made: Made) -> None:
    result = cli("measures", "nano", "--names", "mds, update_norm", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["measure"] for row in rows] == ["mds", *["update_norm"] * (len(STEPS) - 1)]
    assert [int(row["at"]) for row in rows[1:]] == STEPS[1:]
    norms = np.linalg.norm(np.diff(made.vectors(), axis=0), axis=1)
    np.testing.assert_allclose([float(row["value"]) for row in rows[1:]], norms)


def test_measures_for_people_show_every_measure(cli: Cli) -> None:
    text = cli("measures", "nano").stdout
    for name, measure in MEASURES.items():
        assert len(measure.dims) > 1 or name in text


def test_groups_can_be_matched(cli: Cli) -> None:
    ids = [row["id"] for row in cli.json("groups", "nano", "--match", "layer/*/attention.q")]
    assert ids == ["layer/0/attention.q", "layer/1/attention.q"]
    everything = cli.json("groups", "nano")
    assert everything[0]["id"] == "network"
    assert everything[0]["parameters"] == 432


def test_a_summary_says_the_main_things_to_people(cli: Cli) -> None:
    text = cli("show", "nano").stdout
    for word in (
        "nano",
        "8 checkpoints",
        "1 left out",
        "432 parameters",
        "gpt-neox",
        "MDS",
        "layer",
        "embedding",
        "K-V",
    ):
        assert word in text, word
    assert "identical: steps 8, 16 hold [the same]" in text, "brackets in a message are text, not markup"


def test_the_integrity_report_is_whole(tmp_path: Path) -> None:
    findings = [Finding(kind="outlier", message=f"step {k}", steps=(k,)).model_dump() for k in range(30)]
    made_runs.commit(tmp_path, made_runs.make("many", made_runs.transformer_blocks(1), STEPS), findings=findings)
    cli = Cli(tmp_path)
    short, full = cli("show", "many").stdout, cli("show", "many", "--integrity").stdout
    assert full.count("outlier") == 30
    assert 0 < short.count("outlier") < 30
    assert "--integrity" in short


def test_an_estimate_is_called_one(tmp_path: Path) -> None:
    made = made_runs.make("early", made_runs.transformer_blocks(1), STEPS)
    made_runs.commit(tmp_path, made, estimate={"fraction": 0.01})
    result = Cli(tmp_path)("map", "early", "--format", "json")
    assert "estimate" in result.stderr
    assert "1.0%" in result.stderr
    assert json.loads(result.stdout)["run"] == "early"
    assert "early (estimate, 1.0%)" in Cli(tmp_path)("ls").stdout


def test_a_narrow_list_of_runs_names_the_column_that_it_leaves_out(store: Path) -> None:
    from in_process import trajsvc

    wide, narrow = (trajsvc("ls", "--store", str(store), environment={"COLUMNS": c}).stdout for c in ("120", "80"))
    assert "architecture" in wide.splitlines()[0]
    assert "--columns" not in wide
    assert "--columns name,architecture" in narrow


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    result = cli("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "trajsvc analyze" in result.stderr
    assert cli.json("ls") == []
    assert list(tmp_path.iterdir()) == [], "reading makes nothing"


def test_comparison_by_layer_has_a_row_for_every_layer_of_every_run(cli: Cli, made: Made) -> None:
    found = cli.json("compare", "nano", "other", "--by", "layer")
    assert [(r["run"], r["group"]) for r in found["rows"]] == [
        ("nano", "layer/0"), ("other", "layer/0"), ("nano", "layer/1"), ("other", "layer/1"),
    ]  # fmt: skip
    assert found["rows"][0]["mds"] == pytest.approx(cosines(made.vectors(layer="0")).mean())
    mixed = cli.json("compare", "nano", "mlp", "--group", "layer/0")
    assert [r["run"] for r in mixed["rows"]] == ["nano"], "a group that a run has not got leaves it out"


ERRORS: dict[str, tuple[list[str], int, tuple[str, ...]]] = {
    "run": (["map", "nan"], 4, ("no run 'nan'", "nano", "trajsvc ls")),
    "group": (["map", "nano", "--group", "layer/9"], 4, ("layer/9", "trajsvc groups")),
    "step": (["map", "nano", "--steps", "3"], 4, ("3",)),
    "origin": (["map", "nano", "--origin", "3"], 4, ("3",)),
    "left out": (["measures", "nano", "--steps", "48"], 4, ("left out", "a missing shard")),
    "measure": (["measures", "nano", "--names", "msd"], 4, ("msd", "mds")),
    "steps": (["map", "nano", "--steps", "some"], 2, ("some",)),
    "format": (["map", "nano", "--format", "yaml"], 2, ("yaml", "human, json, csv")),
    "needs a file": (["map", "nano", "--format", "png"], 2, ("-o FILE.png",)),
    "suffix": (["map", "nano", "-o", "map.gif"], 2, ("map.gif", ".npz", ".pdf")),
    "conflict": (["map", "nano", "--format", "csv", "-o", "map.png"], 2, ("disagree",)),
    "summary csv": (["show", "nano", "--format", "csv"], 2, ("trajsvc layers nano",)),
    "layers need a figure": (["map", "nano", "--layers"], 2, ("-o",)),
    "no attention": (["qkv", "mlp"], 4, ("mlp", "trajsvc layers")),
    "folder": (["map", "nano", "-o", "no/such/folder/map.png"], 1, ("cannot write", "map.png")),
    "by": (["compare", "nano", "other", "--by", "sizes"], 2, ("'sizes'", "parameters")),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_go_to_stderr_with_their_exit_code_and_what_to_do(cli: Cli, name: str) -> None:
    arguments, code, words = ERRORS[name]
    result = cli(*arguments)
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_wrong_usage_of_options_exits_2(cli: Cli) -> None:
    assert cli("map", store=False).exit_code == 2
    assert cli("map", "nano", "--nonsense").exit_code == 2
    assert cli("nonsense", store=False).exit_code == 2


def test_debugging_shows_the_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJSVC_DEBUG", "1")
    result = cli("map", "nan")
    assert result.exit_code == 4
    assert "Traceback" in result.stderr


FIGURES = {
    "map": ["map", "nano"],
    "relative": ["map", "nano", "--origin", "0"],
    "layer maps": ["map", "nano", "--layers"],
    "measures": ["measures", "nano", "--group", "layer/0"],
    "layers": ["layers", "nano"],
    "qkv": ["qkv", "nano"],
    "compare": ["compare", "nano", "other"],
    "maps": ["compare", "nano", "other", "mlp", "--maps"],
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written(cli: Cli, tmp_path: Path, name: str) -> None:
    png = tmp_path / "figure.png"
    result = cli(*FIGURES[name], "-o", png, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == result.stderr == ""
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == round((3.3 if name == "relative" else 6.8) * 300)
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]


def test_a_pixel_of_the_written_map_has_the_colour_of_its_cosine(cli: Cli, made: Made, tmp_path: Path) -> None:
    from matplotlib.image import imread

    png = tmp_path / "map.png"
    assert cli("map", "nano", "--origin", "0", "-o", png).exit_code == 0
    values = cosines(made.vectors()[1:] - made.vectors()[0])
    scale = scale_of([values])
    wanted = {
        (i, j): scale.colormap()((values[i, j] - scale.low) / (scale.high - scale.low))[:3] for i, j in ((0, 6), (2, 5))
    }
    picture = imread(png)[..., :3]
    for (i, j), colour in wanted.items():
        close = np.abs(picture - np.array(colour)).max(axis=2) < 0.01
        rows, _columns = np.nonzero(close)
        assert len(rows) > 200, f"cell {i}, {j} is a square of its colour"


def test_a_run_has_the_figures_that_it_has_the_checkpoints_and_layers_for(store: Path, tmp_path: Path) -> None:
    import trajsvc
    from trajsvc.figures.of_run import run_figures

    assert [stem for stem, _ in run_figures(trajsvc.open(store, "nano"))] == ["map", "measures", "layers", "qkv"]
    assert [stem for stem, _ in run_figures(trajsvc.open(store, "mlp"))] == ["map", "measures", "layers"]
    made_runs.commit(tmp_path, made_runs.make("short", made_runs.transformer_blocks(1), [0, 1]))
    assert list(run_figures(trajsvc.open(tmp_path, "short"))) == []


@pytest.mark.slow
@pytest.mark.parametrize("steps", slow_but([[5], [0, 1], [0, 1, 2]], [[0, 1]]))
def test_short_runs_are_shown_by_every_command(tmp_path: Path, steps: list[int]) -> None:
    made_runs.commit(tmp_path, made_runs.make("short", made_runs.transformer_blocks(1), steps))
    cli = Cli(tmp_path)
    for command in ("show", "map", "measures", "layers", "qkv", "compare"):
        assert cli(command, "short").exit_code == 0, command
        assert cli.json(command, "short")
    for command in ("map", "measures", "layers", "qkv", "compare"):
        result = cli(command, "short", "-o", tmp_path / f"{command}.pdf")
        assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("columns", ["80", "60"])
@pytest.mark.parametrize("command", [["layers"], ["show"], ["qkv"], ["measures"], ["compare"]])
def test_a_narrow_terminal_loses_no_number(cli: Cli, made: Made, command: list[str], columns: str) -> None:
    from typer.testing import CliRunner

    from trajsvc.cli.main import make_app

    runs = [made.name, made.name] if command == ["compare"] else [made.name]
    given = [*command, *runs, "--store", str(cli.store)]
    wide = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"}).invoke(make_app(), given)
    narrow = CliRunner(env={"COLUMNS": columns, "NO_COLOR": "1"}).invoke(make_app(), given)
    assert wide.exit_code == narrow.exit_code == 0
    assert set(re.findall(r"\d+\.\d+", wide.stdout)) <= set(re.findall(r"\d+\.\d+", narrow.stdout))
    assert max(map(len, narrow.stdout.splitlines())) <= int(columns)


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    missing = Cli(tmp_path / "none")
    for form in ([], ["--format", "json"]):
        result = missing("ls", *form)
        assert result.exit_code == 4
        assert "there is no store" in result.stderr
        assert "--store" in result.stderr
        assert result.stdout == ""
        assert not (tmp_path / "none").exists(), "reading makes no store"


@pytest.mark.slow
def test_measures_draw_what_is_named_or_say_why_not(cli: Cli, made: Made, tmp_path: Path) -> None:
    figure = tmp_path / "curves.svg"
    assert cli("measures", made.name, "--names", "update_ratio,mu_lag", "-o", figure).exit_code == 0
    assert figure.stat().st_size > 1000
    for name in ("mds", "trajectory_map"):
        refused = cli("measures", made.name, "--names", name, "-o", tmp_path / "no.svg")
        assert refused.exit_code == 2
        assert name in refused.stderr
        assert not (tmp_path / "no.svg").exists()


def test_heterogeneity_has_two_distances_and_any_origin(cli: Cli, made: Made) -> None:
    plain, moved = cli.json("qkv", made.name), cli.json("qkv", made.name, "--origin", made.steps[0])
    assert (plain["origin"], moved["origin"]) == (None, made.steps[0])
    for answer in (plain, moved):
        for row in answer["layers"]:
            assert row["rms"] == pytest.approx((row["rms_qk"] + row["rms_qv"] + row["rms_kv"]) / 3)
    assert plain["layers"][0]["rms"] != moved["layers"][0]["rms"]
    assert cli("qkv", made.name, "--origin", "987654321").exit_code == 4


@pytest.mark.slow
def test_runs_at_other_steps_are_compared_with_a_warning(cli: Cli, made: Made, tmp_path: Path) -> None:
    commit(tmp_path, make("long", transformer_blocks(1), list(range(0, 90, 10)), seed=1))
    commit(tmp_path, make("short", transformer_blocks(1), list(range(0, 90, 20)), seed=1))
    both = Cli(tmp_path)
    answer = both.json("compare", "long", "short")
    assert [f["kind"] for f in answer["findings"]] == ["different-steps"]
    assert "mds_by_length" in answer["rows"][0]
    assert "different-steps" in both("compare", "long", "short").stderr
    assert both.json("compare", "long", "long")["findings"] == []
    figure = tmp_path / "over.svg"
    assert both("compare", "long", "short", "--curves", "update_angle,norm", "-o", figure).exit_code == 0
    text = figure.read_text("utf-8")
    assert text.startswith("<?xml")
    assert both("compare", "long", "short", "--curves", "update_angle").exit_code == 2
    assert both("map", "long", "--null", "-o", tmp_path / "null.png").exit_code == 0
    assert both("map", "long", "--null").exit_code == 2
