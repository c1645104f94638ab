"""``trajsvc rows``: tables, arrays, a figure, what cannot be; and the option of an analysis."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from in_process import trajsvc as run
from safetensors.numpy import save_file

import trajsvc
from trajsvc.figures.of_rows import rows_figure
from trajsvc.results.rows import rows_answer

STEPS, ROWS, WIDTH = 4, 30, 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one matrix whose row 7 moves ten times as far as the others, and row 3 not at all, and a bias."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((ROWS, WIDTH)).astype(np.float32), np.zeros(ROWS, np.float32)
    for t in range(STEPS):
        (folder / "made" / f"step-{10 * t}").mkdir(parents=True)
        save_file({"fc.weight": weight, "fc.bias": bias}, folder / "made" / f"step-{10 * t}" / "model.safetensors")
        update = 0.01 * rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
        update[7] *= 10
        update[3] = 0
        weight, bias = weight + update, bias + np.float32(0.1)
    trajsvc.analyze(folder / "made", store=folder / "store")
    return folder / "store"


def test_the_rows_that_moved_most_are_first(store: Path) -> None:
    done = run("rows", "made", "--store", str(store), "--format", "json")
    answer = json.loads(done.stdout)
    assert (answer["run"], answer["group"], answer["of"], answer["total"]) == ("made", "network", "update", ROWS)
    assert answer["steps"] == [10, 20, 30]
    assert len(answer["rows"]) == 20
    assert answer["rows"][0]["row"] == 7
    every = json.loads(run("rows", "made", "--store", str(store), "--top", "0", "--format", "json").stdout)["rows"]
    assert [row["row"] for row in every] == list(range(ROWS))
    assert every[3]["values"] == [0.0, 0.0, 0.0]


def test_the_table_fits_a_terminal(store: Path) -> None:
    done = run("rows", "made", "--store", str(store), "--top", "3")
    assert "fc.weight" in done.stdout
    assert "3 of 30 rows" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_arrays_and_text_are_those_of_python(store: Path, tmp_path: Path) -> None:
    run("rows", "made", "--store", str(store), "--of", "ratio", "-o", str(tmp_path / "r.npz"))
    found, want = np.load(tmp_path / "r.npz"), trajsvc.open(store, "made").rows(of="ratio")
    assert np.array_equal(found["values"], want)
    assert found["index"].tolist() == want.index.values.tolist()
    run("rows", "made", "--store", str(store), "--of", "ratio", "--top", "1", "-o", str(tmp_path / "r.csv"))
    header, line = (tmp_path / "r.csv").read_text().splitlines()
    assert header == "tensor,row,count,10,20,30"
    assert [float(v) for v in line.split(",")[3:]] == want.values[7].tolist()


def test_the_figure_has_a_line_for_every_row(store: Path, tmp_path: Path) -> None:
    opened = trajsvc.open(store, "made")
    figure = rows_figure(rows_answer(opened, "network", top=0), in_order=True)
    image = figure.axes[0].get_images()[0].get_array()
    assert image.shape == (ROWS, STEPS - 1)
    assert np.ma.getmaskarray(np.ma.masked_invalid(image))[3].all()  # hatched: it never moved
    run("rows", "made", "--store", str(store), "-o", str(tmp_path / "rows.png"))
    assert (tmp_path / "rows.png").read_bytes()[1:4] == b"PNG"


def test_what_cannot_be_is_said(store: Path) -> None:
    done = run("rows", "made", "--store", str(store), "--group", "tensor/fc.bias")
    assert done.returncode == 4
    assert "no tensor of tensor/fc.bias is a matrix" in done.stderr
    assert run("rows", "made", "--store", str(store), "--of", "speed").returncode == 2


def test_an_analysis_keeps_them_or_not_as_it_is_told(store: Path, tmp_path: Path) -> None:
    made, there = str(store.parent / "made"), ["--store", str(tmp_path), "--no-figures", "--quiet"]
    planned = json.loads(run("plan", made, "--no-rows", "--format", "json").stdout)
    assert (planned["rows"], planned["row_bytes"], planned["keeps_rows"]) == (ROWS, ROWS * 3 * STEPS * 8, False)
    assert json.loads(run("plan", made, "--format", "json").stdout)["keeps_rows"]
    run("analyze", made, "--no-rows", *there)
    assert not trajsvc.open(tmp_path, "made").stored.has_rows
    done = run("rows", "made", "--store", str(tmp_path))
    assert done.returncode == 4
    assert "--rows" in done.stderr
    run("analyze", made, "--rows", *there)
    assert trajsvc.open(tmp_path, "made").stored.has_rows


def test_an_export_has_them_as_a_table(store: Path, tmp_path: Path) -> None:
    trajsvc.open(store, "made").export(tmp_path / "out")
    lines = (tmp_path / "out" / "rows.csv").read_text().splitlines()
    assert lines[0] == "tensor,row,step,update,displacement,weights"
    assert len(lines) == 1 + ROWS * STEPS
