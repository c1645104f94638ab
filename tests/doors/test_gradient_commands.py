"""``trajsvc gradients``: the reading commands over a run whose gradients are explicit vectors."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from made_gradients import EXAMPLES, STEPS, Gradients, make_gradients, store_gradients
from made_runs import Cli, commit, contents, cosines, nano
from pydantic import TypeAdapter
from typer.testing import CliRunner

from storage_schema.models.gradients import (
    GradientClustersAnswer,
    GradientLayersAnswer,
    GradientMapAnswer,
    GradientMeasuresAnswer,
    GradientSetRow,
)
from storage_schema.runs.store import RunStore
from trajsvc.cli.gradient_options import GRADIENTS, make_gradient_options
from trajsvc.cli.main import make_app
from trajsvc.errors import UsageError
from trajsvc.gradients.options import GradientOptions
from trajsvc.measures.gradients.registry import GRADIENT_MEASURES


@pytest.fixture(scope="module")
def found() -> Gradients:
    return make_gradients(nano())


@pytest.fixture(scope="module")
def gradients(found: Gradients, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``trajsvc gradients …`` over a store with the run ``nano`` and its sets."""
    root = tmp_path_factory.mktemp("gradients")
    commit(root, nano())
    store_gradients(root, found)
    cli = Cli(root)

    def run(command: str, *more: str | Path, json: bool = False) -> Any:
        words = ("gradients", command, "nano", *more)
        return cli.json(*words) if json else cli(*words)

    return run


ANSWERS: dict[str, tuple[list[str], Any]] = {
    "ls": ([], list[GradientSetRow]),
    "measures": (["--set", "example", "--group", "layer/1"], GradientMeasuresAnswer),
    "map": (["--set", "batch", "--step", "4"], GradientMapAnswer),
    "layers": (["--set", "example", "--names", "coherence,mu"], GradientLayersAnswer),
    "clusters": (["--set", "example", "--clusters", "3"], GradientClustersAnswer),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_json_is_what_the_models_say(gradients: Callable[..., Any], name: str) -> None:
    arguments, shape = ANSWERS[name]
    answer = gradients(name, *arguments, json=True)
    model = TypeAdapter(shape)
    assert model.dump_python(model.validate_python(answer), mode="json") == answer


@pytest.mark.parametrize("name", ANSWERS)
def test_csv_has_one_header_and_rows_of_its_width(gradients: Callable[..., Any], name: str) -> None:
    result = gradients(name, *ANSWERS[name][0], "--format", "csv")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}


@pytest.mark.parametrize("name", ANSWERS)
def test_tables_fit_eighty_columns(gradients: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["gradients", name, "nano", *ANSWERS[name][0]]
    store = gradients.__closure__[0].cell_contents.store  # type: ignore[attr-defined]
    runner = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"})
    result = runner.invoke(make_app(), [*arguments, "--store", str(store)], prog_name="trajsvc")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip()
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_contract_of_measures(gradients: Callable[..., Any], found: Gradients) -> None:
    answer = gradients("measures", "--set", "example", "--names", "coherence,confusion", "--steps", "0,64", json=True)
    assert list(answer) == ["run", "set", "group", "parameters", "n", "steps", "measures", "undefined"]
    assert answer["steps"] == [0, 64]
    for step, value in zip([0, 64], answer["measures"]["coherence"], strict=True):
        g = found.vectors("example", step)
        assert value == pytest.approx((g @ g.mean(axis=0)).sum() / (g**2).sum(), rel=1e-9)
    every = gradients("measures", "--set", "anchored", json=True)
    assert every["measures"]["coherence"][0] is None
    variance = gradients("measures", "--set", "example", "--names", "average_variance", "--batch", "4", json=True)
    once = gradients("measures", "--set", "example", "--names", "average_variance", json=True)
    assert np.allclose(np.array(variance["measures"]["average_variance"]) * 4, once["measures"]["average_variance"])


def test_a_map_as_npz_has_map_and_norms(gradients: Callable[..., Any], found: Gradients, tmp_path: Path) -> None:
    target = tmp_path / "map.npz"
    assert gradients("map", "--set", "example", "--step", "64", "--group", "layer/1", "-o", target).exit_code == 0
    g = found.vectors("example", 64, layer="1")
    with np.load(target) as arrays:
        assert sorted(arrays.files) == ["map", "norms"]
        assert np.allclose(arrays["map"], cosines(g), atol=1e-12)
        assert np.allclose(arrays["norms"], np.linalg.norm(g, axis=1))
    ordered = gradients("map", "--set", "example", "--step", "64", "--clusters", "3", json=True)
    order = [int(label) for label in ordered["labels"]]
    assert sorted(order) == list(range(EXAMPLES))
    plain = np.array(gradients("map", "--set", "example", "--step", "64", json=True)["map"])
    assert np.allclose(plain[np.ix_(order, order)], ordered["map"])
    assert "bounds" in ordered


def test_layers_have_one_row_a_layer_and_one_column_a_step(gradients: Callable[..., Any]) -> None:
    answer = gradients("layers", "--set", "example", "--names", "coherence", json=True)
    assert [row["group"] for row in answer["layers"]] == ["layer/0", "layer/1"]
    rows = list(csv.reader(io.StringIO(gradients("layers", "--names", "coherence", "--format", "csv").stdout)))
    assert rows[0] == ["layer", "group", "parameters", *map(str, STEPS)]
    assert [float(cell) for cell in rows[1][3:]] == answer["layers"][0]["measures"]["coherence"]


@pytest.mark.parametrize("name", [n for n in ANSWERS if n != "ls"])
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_figures_are_written(gradients: Callable[..., Any], name: str, suffix: str, tmp_path: Path) -> None:
    target = tmp_path / f"figure.{suffix}"
    result = gradients(name, *ANSWERS[name][0], "-o", target)
    assert result.exit_code == 0, result.stderr
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert target.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["measures", "--set", "path"], 4, "It has anchored, batch, example, weights"),
        (
            ["measures", "--set", "example", "--names", "kappa_weights"],
            4,
            "nano has the sets anchored, batch, example, weights",
        ),
        (["measures", "--group", "layer/9"], 4, "no group"),
        (["map", "--step", "7"], 4, "7"),
        (["clusters", "--clusters", "99"], 2, "99 clusters"),
        (["layers", "--set", "batch", "--names", "mu_lag"], 2, "more than one number"),
        (["measures", "--set", "batch", "--names", "mu_lag", "-o", "lag.png"], 2, "more than one number"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    gradients: Callable[..., Any], arguments: list[str], code: int, said: str
) -> None:
    command, *more = arguments
    result = gradients(command, *more)
    assert result.exit_code == code
    assert said in result.stderr


def test_what_is_stale_is_said_and_left_out(tmp_path: Path, found: Gradients) -> None:
    made = nano()
    commit(tmp_path, made)
    store_gradients(tmp_path, found)
    then = contents(made)
    marks = [*then.checkpoints.fingerprint]
    marks[3] = "f" * 16
    with RunStore(tmp_path).writer("nano") as writer:
        writer.commit(replace(then, checkpoints=replace(then.checkpoints, fingerprint=tuple(marks))))
    result = Cli(tmp_path)("gradients", "measures", "nano", "--names", "coherence")
    assert result.exit_code == 0
    assert "steps 4" in result.stderr
    answer = Cli(tmp_path).json("gradients", "measures", "nano", "--names", "coherence")
    assert (answer["steps"], answer["undefined"]["stale_steps"]) == ([0, 64], [4])


def test_every_option_of_a_computation_is_one_of_the_command() -> None:
    assert set(GRADIENTS) == set(GradientOptions.model_fields)
    group = typer.main.get_command(make_app())
    command = group.commands["gradients"].commands["compute"]  # type: ignore[attr-defined]
    assert set(GRADIENTS) <= {p.name for p in command.params}
    assert all(p.help for p in command.params)


def test_options_go_from_the_command_line_as_they_were_given() -> None:
    given = {"probe": "causal-lm", "data": "text.txt", "sets": "example, batch", "shuffle": 0, "memory": "1GiB"}
    options = make_gradient_options(given)
    assert (options.sets, options.shuffle, options.memory) == (("example", "batch"), 0, 2**30)
    for wrong, said in (
        ({"sets": "instance"}, "instance"),
        ({"precision": "float16"}, "float16"),
        ({"probe": None}, "probe"),
    ):
        words = {k: v for k, v in {**given, **wrong}.items() if v is not None}
        with pytest.raises(UsageError, match=said):
            make_gradient_options(words)


def test_measures_of_more_than_one_number_a_step_are_rows_of_their_own(gradients: Callable[..., Any]) -> None:
    result = gradients("measures", "--set", "batch", "--names", "explained_variance,coherence", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    shares = [float(r["value"]) for r in rows if r["measure"] == "explained_variance" and r["step"] == "4"]
    assert sum(shares) == pytest.approx(1.0)
    assert [r["at"] for r in rows if r["measure"] == "explained_variance"][:3] == ["1", "2", "3"]
    assert not math.isnan(float(next(r["value"] for r in rows if r["measure"] == "coherence")))
    assert GRADIENT_MEASURES["explained_variance"].dims == ("component",)
