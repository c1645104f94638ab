"""What a computation will take, said before: counts are those that occur, and what does not fit is refused at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
from typer.testing import CliRunner

import trajsvc
from trajsvc.cli.main import make_app
from trajsvc.errors import LimitExceeded, UsageError
from trajsvc.gradients.compute import compute_gradients
from trajsvc.gradients.forecast import forecast_run, refusal
from trajsvc.gradients.options import SET_KINDS


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.analysed(tiny.checkpoints(folder / "checkpoints"), folder / "store")
    tiny.data(folder / "data.npz")
    return folder


def test_vectors_records_and_bytes_are_those_that_are_stored(place: Path) -> None:
    kinds = tuple(kind for kind in SET_KINDS if not kind.startswith("input"))
    options = tiny.chosen(place / "data.npz", sets=",".join(kinds), steps="10,30")
    compute_gradients(place / "store", tiny.RUN, options, by_path=True)
    run = trajsvc.open(place / "store", tiny.RUN)
    for row in forecast_run(run, options):
        found = run.gradients(row.kind).stored
        assert (row.vectors, row.records) == (found.n, len(found.steps))
        record = found.record(found.steps[-1])
        beside = record.scalars.get("update_gram", np.zeros(0))
        assert row.stored == record.gram.nbytes + beside.nbytes
        assert row.passes == 1


def test_a_smaller_memory_needs_more_passes_and_a_mask_fewer(place: Path) -> None:
    run = trajsvc.open(place / "store", tiny.RUN)
    (whole,) = forecast_run(run, tiny.chosen(place / "data.npz", sets="anchored"))
    half = tiny.chosen(place / "data.npz", sets="anchored", memory=whole.beside + whole.held // 2)
    assert forecast_run(run, half)[0].passes == 2
    assert forecast_run(run, half.model_copy(update={"mask": 0.4}))[0].passes == 1


def test_what_does_not_fit_is_refused_before_anything_is_evaluated(place: Path) -> None:
    for given, words in (
        (
            {"sets": "inputs", "examples": 24, "directions": 30, "memory": 2**20, "max_vectors": 744},
            "Grams of 744 vectors",
        ),
        ({"sets": "anchored", "memory": 2**14, "examples": 24}, "Grams of 24 vectors"),
        ({"sets": "points", "directions": 5, "memory": 2**11}, "Grams of 5 vectors"),
        ({"sets": "points", "directions": 1, "memory": 150}, "vectors of the largest tensor"),
    ):
        with pytest.raises(LimitExceeded) as caught:
            compute_gradients(
                place / "store", tiny.RUN, tiny.chosen(place / "data.npz", **given), name="big", by_path=True
            )
        assert caught.value.kind == "memory-budget"
        assert "--memory" in (caught.value.hint or "")
        assert words in caught.value.message, caught.value.message


def test_the_command_says_it_as_a_table_json_and_csv(place: Path) -> None:
    given = ["gradients", "plan", tiny.RUN, "--store", str(place / "store"), "--probe", "x", "--data", "y"]
    given += ["--sets", "example,weights", "--directions", "4", "--batch", "3"]
    table = CliRunner().invoke(make_app(), given)
    assert table.exit_code == 0
    assert "evaluations" in table.stdout
    answer = json.loads(CliRunner().invoke(make_app(), [*given, "--format", "json"]).stdout)
    assert [row["kind"] for row in answer["sets"]] == ["example", "weights"]
    assert answer["sets"][1]["vectors"] == 9
    assert answer["sets"][1]["evaluations"] == 3 + 8 * 4
    lines = CliRunner().invoke(make_app(), [*given, "--format", "csv"]).stdout.splitlines()
    assert lines[0].startswith("kind,vectors,records,evaluations")
    assert len(lines) == 3


def test_a_device_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(UsageError) as caught:
        compute_gradients(
            place / "store", tiny.RUN, tiny.chosen(place / "data.npz"), name="far", by_path=True, device="cuda:77"
        )
    assert caught.value.kind == "device-unavailable"


def test_more_vectors_than_512_are_refused_with_the_option_that_allows_them(place: Path) -> None:
    given = {"sets": "inputs", "examples": 24, "directions": 21, "steps": "0"}
    options = tiny.chosen(place / "data.npz", **given)
    with pytest.raises(LimitExceeded, match="528 vectors, more than 512") as caught:
        compute_gradients(place / "store", tiny.RUN, options, by_path=True)
    assert caught.value.kind == "vectors-limit"
    assert "--max-vectors 528" in str(caught.value.hint)
    run = trajsvc.open(place / "store", tiny.RUN)
    assert "--max-vectors 528" in str(refusal(forecast_run(run, options)[0], options))
    more = options.model_copy(update={"max_vectors": 528})
    assert refusal(forecast_run(run, more)[0], more) is None


def test_fewer_vectors_may_be_all_that_is_allowed_and_are_no_other_set(place: Path) -> None:
    options = tiny.chosen(place / "data.npz", sets="example", steps="0", max_vectors=8)
    compute_gradients(place / "store", tiny.RUN, options, name="few", by_path=True)
    again = compute_gradients(
        place / "store", tiny.RUN, options.model_copy(update={"max_vectors": 600}), name="few", by_path=True
    )
    assert again.there == (0,)


def test_the_command_line_plans_what_it_would_refuse(place: Path) -> None:
    words = [
        "gradients", "plan", tiny.RUN, "--store", str(place / "store"), "--probe", "tiny_runs:TinyProbe",
        "--data", str(place / "data.npz"), "--sets", "example,batch", "--max-vectors", "3", "--examples", "8", "--batch", "4",
    ]  # fmt: skip
    shown = CliRunner().invoke(make_app(), [*words, "--format", "json"])
    rows = {row["kind"]: row["refused"] for row in json.loads(shown.stdout)["sets"]}
    assert rows["batch"] is None
    assert "--max-vectors 8" in rows["example"]
    assert "compute would refuse it" in CliRunner().invoke(make_app(), words).stdout
