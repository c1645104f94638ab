"""``trajsvc.open`` and ``Run``: labelled answers that equal what the vectors themselves give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest
import xarray
from made_runs import STEPS, Made, cosines

import trajsvc
from storage_schema.models.results import MeasuresAnswer
from trajsvc.errors import NotFound, UsageError
from trajsvc.measures.registry import MEASURES


@pytest.fixture
def run(store: Path) -> trajsvc.Run:
    return trajsvc.open(store, "nano")


def test_a_run_is_opened_by_store_and_name_by_path_or_by_name_alone(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_path = trajsvc.open(store / "runs" / "nano.zarr")
    monkeypatch.setenv("TRAJSVC_STORE", str(store))
    by_name = trajsvc.open("nano")
    assert by_path.name == by_name.name == "nano"
    assert by_path.mds() == by_name.mds() == trajsvc.open(store, "nano").mds()
    with pytest.raises(UsageError, match="is a store"):
        trajsvc.open(store)
    with pytest.raises(UsageError, match="is a server"):
        trajsvc.open("https://example.org")
    with pytest.raises(UsageError, match="is an address"):
        trajsvc.open("s3://bucket/runs/nano")


def test_a_missing_run_names_the_close_ones_and_the_next_command(store: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nanu") as caught:
        trajsvc.open(store, "nanu")
    assert caught.value.kind == "run-not-found"
    assert "nano" in caught.value.hint
    assert "trajsvc ls" in caught.value.hint
    with pytest.raises(NotFound, match=r"no store .*nowhere"):
        trajsvc.open(tmp_path / "nowhere", "x")


def test_a_run_says_what_it_is(run: trajsvc.Run, made: Made) -> None:
    assert run.steps.tolist() == STEPS
    assert run.steps.dtype == np.int64
    assert run.labels == [f"step{s}" for s in STEPS]
    assert run.parameters == sum(p.shape[1] for p in made.points)
    assert run.architecture == "gpt-neox"
    assert run.layer_ids() == ["layer/0", "layer/1"]
    assert run.estimate is None
    assert [f.kind for f in run.findings] == ["identical"]
    assert "nano" in repr(run)
    assert "8 checkpoints" in repr(run)


GROUPS: dict[str, dict[str, str]] = {
    "network": {},
    "layer/1": {"layer": "1"},
    "layer/0/attention.q": {"layer": "0", "component": "attention.q"},
    "component/mlp.in": {"component": "mlp.in"},
    "embedding": {"component": "embedding"},
    "tensor/embed_out.weight": {"tensor": "embed_out.weight"},
}


@pytest.mark.parametrize("group", GROUPS)
def test_the_map_of_every_kind_of_group_equals_the_cosines_of_its_vectors(
    run: trajsvc.Run, made: Made, group: str
) -> None:
    points = made.vectors(**GROUPS[group])
    found = run.trajectory_map(group)
    assert found.dims == ("step", "step_2")
    assert found["step"].values.tolist() == found["step_2"].values.tolist() == STEPS
    np.testing.assert_allclose(found.values, cosines(points), rtol=1e-9)
    assert run.gram(group).parameters == points.shape[1]


@pytest.mark.parametrize("origin", [0, 4, 64])
def test_a_relative_map_leaves_its_origin_out(run: trajsvc.Run, made: Made, origin: int) -> None:
    points = made.vectors()
    at = STEPS.index(origin)
    found = run.trajectory_map(origin=origin)
    assert found["step"].values.tolist() == [s for s in STEPS if s != origin]
    np.testing.assert_allclose(found.values, cosines(np.delete(points - points[at], at, axis=0)), rtol=1e-9)
    assert found.attrs["origin"] == origin


@pytest.mark.parametrize("steps", ["0,4,64", [0, 4, 64]])
def test_a_selection_of_steps_equals_the_same_vectors(run: trajsvc.Run, made: Made, steps: Any) -> None:
    points = made.vectors()[[0, 3, 7]]
    found = run.trajectory_map(steps=steps)
    assert found["step"].values.tolist() == [0, 4, 64]
    np.testing.assert_allclose(found.values, cosines(points), rtol=1e-9)
    np.testing.assert_allclose(run.update_norm(steps=steps).values, np.linalg.norm(np.diff(points, axis=0), axis=1))


def test_curves_are_numbered_by_their_steps(run: trajsvc.Run, made: Made) -> None:
    points = made.vectors()
    updates = np.diff(points, axis=0)
    norms = run.update_norm()
    assert next(iter(norms.coords.values())).values.tolist() == STEPS[1:]
    np.testing.assert_allclose(norms.values, np.linalg.norm(updates, axis=1))
    angles = run.update_angle()
    assert next(iter(angles.coords.values())).values.tolist() == STEPS[1:-1]
    np.testing.assert_allclose(np.cos(np.radians(angles.values)), np.diag(cosines(updates), 1), atol=1e-12)
    assert angles.attrs["units"] == "degree"
    np.testing.assert_allclose(run.norm().sel(step=8), np.linalg.norm(points[4]))
    lags = run.mu_lag()
    assert next(iter(lags.coords.values())).values.tolist() == list(range(len(STEPS) - 1))
    np.testing.assert_allclose(lags.values[2], np.mean(np.diag(cosines(updates), 2)))


def test_labels_say_what_was_measured(run: trajsvc.Run) -> None:
    found = run.cosine_to_final("layer/0")
    assert found.name == "cosine_to_final"
    assert found.attrs["group"] == "layer/0"
    assert found.attrs["parameters"] == run.groups()["layer/0"].parameters
    assert found.attrs["definition"]
    assert found.attrs["source"]


def test_scalars_are_floats_that_the_vectors_confirm(run: trajsvc.Run, made: Made) -> None:
    points = made.vectors(layer="0")
    assert run.mds("layer/0") == pytest.approx(cosines(points).mean())
    assert run.relative_mds("layer/0") == pytest.approx(cosines(points[1:] - points[0]).mean())
    relative = np.delete(points - points[3], 3, axis=0)
    assert run.relative_mds("layer/0", origin=4) == pytest.approx(cosines(relative).mean())
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    assert run.path_length("layer/0") == pytest.approx(length)
    assert run.tortuosity("layer/0") == pytest.approx(length / np.linalg.norm(points[-1] - points[0]))
    pairs = cosines(np.diff(points, axis=0))[np.triu_indices(len(STEPS) - 1, 1)]
    assert run.mu("layer/0") == pytest.approx(pairs.mean())
    assert run.alpha("layer/0") == pytest.approx(np.sqrt(np.mean(pairs**2)))
    assert type(run.mds()) is float


def test_every_measure_of_the_registry_answers_and_has_its_own_method(run: trajsvc.Run) -> None:
    for name, measure in MEASURES.items():
        found = getattr(run, name)()
        assert np.array_equal(found, run.measure(name), equal_nan=True)
        if measure.dims:
            assert isinstance(found, xarray.DataArray)
            assert found.dims == measure.dims
            assert found.name == name
        else:
            assert isinstance(found, float)


def test_a_group_is_summed_once_and_answers_alike_ever_after(run: trajsvc.Run) -> None:
    assert run.gram("layer/0") is run.gram("layer/0")
    whole = sum(run.gram(g).gram for g in ("layer/0", "layer/1", "embedding", "unembedding"))
    np.testing.assert_allclose(run.gram().gram, whole, rtol=1e-12)


def test_a_zero_point_is_undefined_and_counted(run: trajsvc.Run) -> None:
    tensor = "tensor/gpt_neox.layers.0.input_layernorm.bias"
    found = run.trajectory_map(tensor)
    assert np.isnan(found.values[:2]).all()
    assert np.isfinite(found.values[2:, 2:]).all()
    answer = run.measures(tensor, ["update_angle", "mds"])
    assert answer["undefined"]["points"] == 2
    assert answer["undefined"]["updates"] == 1
    assert answer["measures"]["update_angle"][0] is None
    assert answer["measures"]["mds"] == pytest.approx(float(np.nanmean(found.values)))


def test_measures_have_the_shape_of_machine_output(run: trajsvc.Run) -> None:
    answer = run.measures("layer/1", steps="0..8")
    assert set(answer) == {"run", "group", "parameters", "steps", "measures", "undefined"}
    assert MeasuresAnswer(**answer).steps == [0, 1, 2, 4, 8]
    assert {"mds", "update_angle", "mu_lag", "noise_floor"} <= set(answer["measures"])
    assert "trajectory_map" not in answer["measures"], "maps are asked for by name"
    assert np.array(run.measures(names=["trajectory_map"])["measures"]["trajectory_map"]).shape == (8, 8)


def test_updates_that_rounding_explains_are_flagged(tmp_path: Path) -> None:
    made = made_runs.make("noisy", made_runs.transformer_blocks(1), STEPS)
    quiet = np.linalg.norm(np.diff(made.vectors(), axis=0), axis=1).min()
    made_runs.commit(tmp_path, made, rounding=100 * quiet**2)
    answer = trajsvc.open(tmp_path, "noisy").measures(names=["mds"])
    assert answer["undefined"]["below_noise_floor"] == STEPS[1:]


def test_layers_are_a_table(run: trajsvc.Run, made: Made) -> None:
    found = run.layers()
    assert found["layer"].values.tolist() == ["layer/0", "layer/1"]
    np.testing.assert_allclose(found["mds"], [cosines(made.vectors(layer=k)).mean() for k in "01"])
    frame = found.to_dataframe()
    assert frame.loc["layer/1", "parameters"] == run.groups()["layer/1"].parameters
    updates = np.diff(made.vectors(layer="1"), axis=0)
    largest = np.degrees(np.arccos(np.diag(cosines(updates), 1))).max()
    assert frame.loc["layer/1", "largest_update_angle"] == pytest.approx(largest)


def test_qkv_has_a_row_for_every_layer_with_attention(run: trajsvc.Run, made: Made, store: Path) -> None:
    found = run.qkv()
    assert found["layer"].values.tolist() == ["layer/0", "layer/1"]
    np.testing.assert_allclose(found["mds_k"][1], cosines(made.vectors(layer="1", part="k")).mean())
    pairs = ["distance_qk", "distance_qv", "distance_kv"]
    np.testing.assert_allclose(found["heterogeneity"], np.mean([found[p] for p in pairs], axis=0))
    with pytest.raises(NotFound, match="Q, K and V") as caught:
        trajsvc.open(store, "mlp").qkv()
    assert caught.value.kind == "no-attention"


def test_unknown_words_are_named_with_the_close_ones(run: trajsvc.Run) -> None:
    with pytest.raises(NotFound) as caught:
        run.mds("layer/7")
    assert caught.value.kind == "group-not-found"
    assert "layer/" in caught.value.hint
    with pytest.raises(NotFound) as caught:
        run.measure("update_angel")
    assert caught.value.kind == "measure-not-found"
    assert "update_angle" in str(caught.value)
    with pytest.raises(NotFound) as caught:
        run.mds(steps="3")
    assert caught.value.kind == "step-not-found"
    assert "left out" not in caught.value.hint
    with pytest.raises(NotFound) as caught:
        run.mds(steps="48")
    assert "a missing shard" in caught.value.hint
    with pytest.raises(NotFound):
        run.trajectory_map(origin=3)
    with pytest.raises(UsageError) as usage:
        run.mds(steps="every")
    assert usage.value.kind == "bad-steps"


def test_a_checkpoint_with_non_finite_values_is_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    made = made_runs.make("bad", made_runs.transformer_blocks(1), STEPS)
    made_runs.commit(tmp_path, made, nonfinite={3: 7})
    run = trajsvc.open(tmp_path, "bad")
    kept = [s for s in STEPS if s != 4]
    assert run.steps.tolist() == kept
    assert run.excluded == [{"step": 4, "label": "step4", "reason": "NaN or infinite values"}]
    np.testing.assert_allclose(run.trajectory_map().values, cosines(np.delete(made.vectors(), 3, axis=0)), rtol=1e-9)
    assert run.gram(steps="first:4").steps.tolist() == kept[:4]
    assert run.gram(steps="all").steps.tolist() == STEPS
    assert run.gram(steps="0,4,8").steps.tolist() == [0, 4, 8]


def test_one_checkpoint_alone_is_answered(tmp_path: Path) -> None:
    made_runs.commit(tmp_path, made_runs.make("one", made_runs.transformer_blocks(1), [5]))
    run = trajsvc.open(tmp_path, "one")
    assert run.trajectory_map().values == pytest.approx(np.ones((1, 1)))
    assert run.update_norm().shape == (0,)
    assert np.isnan(run.relative_mds())
    answer = run.measures()
    assert answer["steps"] == [5]
    assert answer["measures"]["mu"] is None
    assert run.layers()["tortuosity"].isnull().all()
