"""``trajsvc export``: its files are opened with pandas and numpy, and their numbers are those of the vectors themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import in_process
import numpy as np
import pandas
import pytest
from made_gradients import make_gradients, store_gradients
from made_runs import STEPS, Cli, Made, commit, cosines, nano

import trajsvc
from trajsvc.errors import NotFound, Refused, UsageError
from trajsvc.export import FORMATS

ROOT = Path(__file__).parents[2]


def read(folder: Path, name: str, form: str) -> pandas.DataFrame:
    path = folder / f"{name}.{form}"
    if form == "csv":
        return pandas.read_csv(path, keep_default_na=False, na_values=[""])
    if form == "parquet":
        return pandas.read_parquet(path)
    with np.load(path, allow_pickle=False) as arrays:
        return pandas.DataFrame(dict(arrays))


@pytest.fixture(scope="module")
def store_with_gradients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    made = commit(root, nano())
    store_gradients(root, make_gradients(made))
    return root


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_numbers_of_the_vectors(
    form: str, store_with_gradients: Path, made: Made, tmp_path: Path
) -> None:
    run = trajsvc.open(store_with_gradients, "nano")
    manifest = run.export(tmp_path / "tables", form)
    assert json.loads((tmp_path / "tables" / "manifest.json").read_text("utf-8")) == manifest
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        "manifest.json",
        *(t["file"] for t in manifest["tables"]),
    }
    for table in manifest["tables"]:
        frame = read(tmp_path / "tables", table["name"], form)
        assert len(frame) == table["rows"]
        assert list(frame.columns) == [column["name"] for column in table["columns"]]
        for column in table["columns"]:
            if column["type"] in ("number", "integer") and len(frame):
                assert frame[column["name"]].dtype.kind in "if", (table["name"], column)

    points = made.vectors(layer="1")
    curves = read(tmp_path / "tables", "curves", form).query("group == 'layer/1'")
    assert curves["step"].tolist() == STEPS
    np.testing.assert_allclose(curves["norm"], np.linalg.norm(points, axis=1), rtol=1e-12)
    updates = np.linalg.norm(np.diff(points, axis=0), axis=1)
    np.testing.assert_allclose(curves["update_norm"], [np.nan, *updates], rtol=1e-12)
    maps = read(tmp_path / "tables", "maps", form).query("group == 'layer/1'")
    whole = maps.pivot(index="step", columns="step_2", values="cosine")
    assert whole.index.tolist() == whole.columns.tolist() == STEPS
    np.testing.assert_allclose(whole, cosines(points), rtol=1e-12)
    relative = maps.pivot(index="step", columns="step_2", values="relative_cosine")
    np.testing.assert_allclose(relative.iloc[1:, 1:], cosines(points[1:] - points[0]), rtol=1e-9)
    assert relative.iloc[0].isna().all()
    scalars = read(tmp_path / "tables", "measures", form).set_index("group")
    assert scalars.loc["layer/1", "mds"] == pytest.approx(cosines(points).mean(), rel=1e-12)
    gradients = read(tmp_path / "tables", "gradients", form)
    example = gradients.query("set == 'example' and group == 'layer/1'")
    found = run.gradients("example").coherence("layer/1")
    np.testing.assert_allclose(example["coherence"], found.values, rtol=1e-12)
    assert set(gradients["set"]) == set(run.gradient_sets())


def test_losses_and_spectra_of_a_real_run_are_exported(in_memory: Path) -> None:
    run = trajsvc.analyze(ROOT / "examples" / "pythia-nano", store=in_memory / "store", steps="0,1000,5000")
    done = in_process.trajsvc(
        "spectra", "compute", "pythia-nano", "--steps", "0,5000", "--store", str(in_memory / "store"), "-q"
    )
    assert done.returncode == 0, done.stderr
    run = trajsvc.open(in_memory / "store", "pythia-nano")
    tables = {table["name"] for table in run.export(in_memory / "tables", groups=["network"])["tables"]}
    assert {"logged", "losses", "learning_rate", "spectra", "singular_values", "qkv", "phases"} <= tables
    folder = in_memory / "tables"
    losses = read(folder, "losses", "csv").set_index("step")
    np.testing.assert_allclose(losses["train_loss"], run.losses()["train_loss"].values)
    tensor = "gpt_neox.layers.0.attention.dense.weight"
    values = read(folder, "singular_values", "csv").query("of == 'weights' and matrix == @tensor and step == 5000")
    expected = run.spectra("weights").singular_values(tensor).sel(step=5000).values
    np.testing.assert_allclose(values["singular_value"], expected)
    assert values["component"].tolist() == list(range(1, len(expected) + 1))
    spectra = read(folder, "spectra", "csv").query("of == 'weights' and matrix == @tensor").set_index("step")
    assert spectra.loc[5000, "stable_rank"] == pytest.approx((expected**2).sum() / expected[0] ** 2, rel=1e-9)


def test_the_manifest_says_what_every_column_is(cli: Cli, tmp_path: Path) -> None:
    done = cli("export", "nano", "-o", tmp_path / "out", "--groups", "layer/*", "--steps", "0,4,64")
    assert done.exit_code == 0, done.stderr
    assert "curves.csv" in done.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["steps"] == [0, 4, 64]
    assert all(group.startswith("layer/") for group in manifest["groups"])
    columns = {table["name"]: {c["name"]: c for c in table["columns"]} for table in manifest["tables"]}
    assert columns["curves"]["update_angle"]["units"] == "degree"
    assert columns["layers"]["mds"]["description"]
    assert columns["maps"]["step_2"]["type"] == "integer"
    findings = read(tmp_path / "out", "findings", "csv")
    assert findings["message"].tolist() == ["steps 8, 16 hold [the same]"]
    assert json.loads(findings["steps"][0]) == [8, 16]


def test_parquet_says_units_in_its_fields(store: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    trajsvc.open(store, "nano").export(tmp_path / "out", "parquet", groups=["network"])
    field = parquet.read_schema(tmp_path / "out" / "curves.parquet").field("update_angle")
    assert field.metadata[b"units"] == b"degree"


def test_what_is_wrong_is_said_and_leaves_nothing(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trajsvc.open(store, "nano")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    for folder, options, error, kind in (
        ("full", {}, Refused, "output-exists"),
        ("new", {"format": "xlsx"}, UsageError, "bad-format"),
        ("new", {"groups": ["layer/99"]}, NotFound, "group-not-found"),
        ("new", {"steps": "3"}, NotFound, "step-not-found"),
    ):
        arguments: dict[str, Any] = dict(options)
        with pytest.raises(error) as caught:
            run.export(tmp_path / folder, **arguments)
        assert caught.value.kind == kind
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match="pyarrow") as caught:
        run.export(tmp_path / "new", "parquet")
    assert caught.value.kind == "extra-missing"
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert (tmp_path / "full" / "mine").read_text() == "kept"


def test_a_run_of_one_checkpoint_and_one_without_layers_are_exported(store: Path, tmp_path: Path) -> None:
    from made_runs import make, transformer_blocks

    commit(tmp_path / "store", make("one", transformer_blocks(1), [7]))
    trajsvc.open(tmp_path / "store", "one").export(tmp_path / "one")
    assert read(tmp_path / "one", "maps", "csv").query("group == 'network'")["cosine"].tolist() == [1.0]
    tables = trajsvc.open(store, "mlp").export(tmp_path / "mlp")["tables"]
    assert "qkv" not in {table["name"] for table in tables}
