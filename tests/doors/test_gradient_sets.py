"""Stored sets of gradients, opened: measures labelled by step against those of the vectors, maps, layers, clusters, refusals, staleness."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_gradients import BATCH, EXAMPLES, MOVES, STEPS, Gradients, make_gradients, moves, store_gradients
from made_runs import Made, commit, contents, cosines, nano

import trajsvc
from storage_schema.models.gradients import GradientMeasuresAnswer
from storage_schema.runs.store import RunStore
from trajsvc.errors import NotFound, TrajsvcError, UsageError
from trajsvc.measures.gradients.registry import GRADIENT_MEASURES
from trajsvc.results import gradient_answers as answers
from trajsvc.results.remote_gradients import arrays_of_group, group_of_arrays
from trajsvc.results.run import Run


@pytest.fixture(scope="module")
def found() -> Gradients:
    return make_gradients(nano())


@pytest.fixture(scope="module")
def run(found: Gradients, tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("gradients")
    commit(root, nano())
    store_gradients(root, found)
    return trajsvc.open(root, "nano")


GROUPS: dict[str, dict[str, str]] = {
    "network": {},
    "layer/1": {"layer": "1"},
    "layer/0/attention.q": {"layer": "0", "component": "attention.q"},
    "component/mlp.in": {"component": "mlp.in"},
    "embedding": {"component": "embedding"},
}


def trace(g: np.ndarray) -> float:
    return float(((g - g.mean(axis=0)) ** 2).sum() / len(g))


def coherence(g: np.ndarray) -> float:
    return float((g @ g.mean(axis=0)).sum() / (g**2).sum())


ORACLES: dict[str, Callable[[np.ndarray], float]] = {
    "coherence": coherence,
    "diversity": lambda g: float((g**2).sum() / (g.sum(axis=0) ** 2).sum()),
    "mu": lambda g: float(np.nanmean(cosines(g)[np.triu_indices(len(g), 1)])),
    "average_variance": lambda g: trace(g) / g.shape[1],
    "normalised_variance": lambda g: 1.0 - coherence(g),
    "mean_norm": lambda g: float(np.linalg.norm(g.mean(axis=0))),
    "stable_rank": lambda g: float((g**2).sum() / np.linalg.norm(g, 2) ** 2),
}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", ORACLES)
def test_a_measure_over_training_is_that_of_the_vectors(run: Run, found: Gradients, group: str, name: str) -> None:
    value = getattr(run.gradients("example"), name)(group)
    assert value.dims == ("step",)
    assert value.step.values.tolist() == STEPS
    for step in STEPS:
        expected = ORACLES[name](found.vectors("example", step, **GROUPS[group]))
        assert float(value.sel(step=step)) == pytest.approx(expected, rel=1e-9)
    assert value.attrs["set"] == "example"
    assert value.attrs["parameters"] == found.vectors("example", 0, **GROUPS[group]).shape[1]


def test_parameters_of_a_measure_go_through(run: Run, found: Gradients) -> None:
    example = run.gradients("example")
    expected = trace(found.vectors("example", 4, layer="1")) / 4 / found.vectors("example", 4, layer="1").shape[1]
    value = example.average_variance("layer/1", steps=[4], batch=4)
    assert value.attrs["batch"] == 4
    assert value.item() == pytest.approx(expected)
    without = example.average_variance("layer/1", steps=[4], batch=4, replacement=False)
    assert without.item() == pytest.approx(expected * (EXAMPLES - 4) / (EXAMPLES - 1))


def test_a_ratio_of_two_sets_is_that_of_their_vectors(run: Run, found: Gradients) -> None:
    value = run.gradients("batch").gain_ratio("layer/0")
    for step in STEPS:
        batch, example = (found.vectors(kind, step, layer="0") for kind in ("batch", "example"))
        expected = (batch**2).sum(axis=1).mean() / (example**2).sum(axis=1).mean()
        assert float(value.sel(step=step)) == pytest.approx(expected)


def test_perturbed_weights_answer_to_the_move_of_the_whole_network(run: Run, found: Gradients) -> None:
    weights = run.gradients("weights")
    whole = moves(len(found.blocks)).sum(axis=0)
    for step in STEPS:
        g, *rows = found.vectors("weights", step, layer="1")
        of = [
            np.linalg.norm(d) * math.sqrt(found.weights) / (math.sqrt(m) * np.linalg.norm(g))
            for d, m in zip(rows, whole, strict=True)
        ]
        coarse, fine = max(of[:MOVES]), max(of[MOVES:])
        assert weights.kappa_weights("layer/1", [step]).item() == pytest.approx(coarse, rel=1e-9)
        assert weights.kappa_weights_fine("layer/1", [step]).item() == pytest.approx(fine, rel=1e-9)
        assert weights.kappa_change("layer/1", [step]).item() == pytest.approx(coarse / fine, rel=1e-9)
        moved = g + np.array(rows[:MOVES])
        expected = (moved**2).sum() / (moved.sum(axis=0) ** 2).sum()
        assert weights.weight_diversity("layer/1", [step]).item() == pytest.approx(expected, rel=1e-12)


def test_axes_beside_the_step_are_named(run: Run, found: Gradients) -> None:
    batch = run.gradients("batch")
    lag = batch.mu_lag("layer/1")
    assert lag.dims == ("step", "lag")
    assert lag.lag.values.tolist() == [0, 1, 2, 3]
    assert lag.sel(lag=0).values == pytest.approx(1.0)
    share = batch.explained_variance()
    assert share.component.values.tolist() == [1, 2, 3]
    assert share.sum("component").values == pytest.approx(1.0)
    norms = batch.norm()
    assert norms.sel(step=64).values == pytest.approx(np.linalg.norm(found.vectors("batch", 64), axis=1))


def test_a_map_and_the_layers(run: Run, found: Gradients) -> None:
    example = run.gradients("example")
    drawn = example.map(64, "layer/1")
    assert drawn.values == pytest.approx(cosines(found.vectors("example", 64, layer="1")), abs=1e-12)
    assert np.isnan(example.map(0).values[3]).all()
    layers = example.layers("coherence", steps="4..")
    assert layers.dims == ("layer", "step")
    assert layers.sel(layer="layer/1", step=64).item() == example.coherence("layer/1", [64]).item()
    with pytest.raises(UsageError, match="more than one number"):
        example.layers("norm")


def test_clusters_and_what_they_are_worth_later(run: Run, found: Gradients) -> None:
    example = run.gradients("example")
    answer = answers.clusters(example, 3, 4, "layer/1", seed=1)
    best = example.clusters(3, 4, "layer/1", seed=1)
    assert answer.assignment == best.assignment.tolist()
    assert [row.step for row in answer.variance] == [4, 64]
    then, later = answer.variance
    g = found.vectors("example", 64, layer="1")
    sizes = np.bincount(best.assignment)
    expected = sum(n**2 * trace(g[best.assignment == k]) for k, n in enumerate(sizes)) / len(g) ** 2 / g.shape[1]
    assert later.gc == pytest.approx(expected)
    assert later.sg_b == pytest.approx(trace(g) / 3 / g.shape[1])
    assert later.sg_2b == pytest.approx(later.sg_b / 2)
    assert later.svrg == pytest.approx(trace(g - found.vectors("example", 0, layer="1")) / 3 / g.shape[1])
    assert then.objective is not None
    assert answer.iteration_objective is not None
    assert then.objective <= answer.iteration_objective * (1 + 1e-9)
    assert sorted(answer.order) == list(range(EXAMPLES))
    assert answers.clusters(example, 3).duplicates == 1
    with pytest.raises(UsageError) as refused:
        example.clusters(EXAMPLES + 1)
    assert refused.value.kind == "bad-option"


def test_the_answer_has_the_shape_of_the_contract(run: Run) -> None:
    answer = run.gradients("example").measures("layer/1", ["coherence", "norm"], "0,64")
    assert list(answer) == ["run", "set", "group", "parameters", "n", "steps", "measures", "undefined"]
    assert (answer["run"], answer["set"], answer["group"], answer["n"]) == ("nano", "example", "layer/1", EXAMPLES)
    assert answer["steps"] == [0, 64]
    assert [len(v) for v in answer["measures"].values()] == [2, 2]
    assert len(answer["measures"]["norm"][0]) == EXAMPLES
    assert answer["undefined"] == {"zero_vectors": [1, 0], "stale_steps": []}
    assert GradientMeasuresAnswer.model_validate_json(json.dumps(answer)).model_dump() == answer


def test_by_default_a_set_answers_all_that_it_can_with_one_number_a_step(run: Run) -> None:
    for kind in run.gradient_sets():
        opened = run.gradients(kind)
        answer = opened.measures()
        assert set(answer["measures"]) == {
            m.name
            for m in GRADIENT_MEASURES.values()
            if kind in m.sets and not m.dims and "clusters" not in m.parameters
        } - {"normalised_variance_coordinates"}
        assert all(len(values) == len(STEPS) for values in answer["measures"].values())
    undefined = run.gradients("anchored").measures(names=["coherence", "mu"])["undefined"]
    assert undefined["zero_vectors"][0] == EXAMPLES
    assert undefined["coherence"] == undefined["mu"] == [0]


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("example", "kappa_weights", "anchored, batch, example, weights"),
        ("weights", "coherence", "It is a measure of example"),
        ("example", "coherenz", "Did you mean coherence"),
        ("batch", "normalised_variance_coordinates", "computed without"),
    ],
)
def test_what_a_set_cannot_answer_is_refused_with_the_sets_that_there_are(
    run: Run, kind: str, name: str, said: str
) -> None:
    with pytest.raises(NotFound) as refused:
        run.gradients(kind).measure(name)
    assert said in refused.value.hint


def test_what_is_not_there_is_named(run: Run) -> None:
    with pytest.raises(NotFound) as refused:
        run.gradients("path")
    assert "anchored, batch, example, weights" in refused.value.hint
    cases: list[Callable[[], object]] = [
        lambda: run.gradients("example").coherence("layer/7"),
        lambda: run.gradients("example").coherence(steps="7"),
        lambda: run.gradients("example").map(7),
    ]
    kinds = []
    for case in cases:
        with pytest.raises(TrajsvcError) as missing:
            case()
        kinds.append(missing.value.kind)
    assert kinds == ["group-not-found", "step-not-found", "step-not-found"]


def test_a_measure_of_two_sets_needs_both_of_the_same_examples(tmp_path: Path, found: Gradients) -> None:
    commit(tmp_path, nano())
    store_gradients(tmp_path, found, "batch")
    batch = trajsvc.open(tmp_path, "nano").gradients("batch")
    assert "gain_ratio" not in batch.measures()["measures"]
    with pytest.raises(NotFound, match="needs the set example") as refused:
        batch.gain_ratio()
    assert refused.value.kind == "gradients-not-found"
    assert "nano has the sets batch." in refused.value.hint


def test_records_of_parameters_that_the_run_no_longer_has_are_not_answered_with(
    tmp_path: Path, found: Gradients
) -> None:
    made = nano()
    commit(tmp_path, made)
    store_gradients(tmp_path, found)
    then = contents(made)
    marks = [*then.checkpoints.fingerprint]
    marks[3] = "f" * 16  # step 4
    with RunStore(tmp_path).writer("nano") as writer:
        writer.commit(replace(then, checkpoints=replace(then.checkpoints, fingerprint=tuple(marks))))
    example = trajsvc.open(tmp_path, "nano").gradients("example")
    assert (example.steps.tolist(), example.stale) == ([0, 64], [4])
    assert "1 stale" in repr(example)
    assert example.measures()["undefined"]["stale_steps"] == [4]
    with pytest.raises(NotFound) as refused:
        example.coherence(steps="4")
    assert "Stale, as the run has other parameters now: 4." in refused.value.hint
    commit_other(tmp_path, made)
    with pytest.raises(NotFound, match="other parameters"):
        trajsvc.open(tmp_path, "nano").gradients("example").measures()


def commit_other(root: Path, made: Made) -> None:
    then = contents(made)
    with RunStore(root).writer("nano") as writer:
        marks = tuple(f"{i:x}" for i in range(len(made.steps)))
        writer.commit(replace(then, checkpoints=replace(then.checkpoints, fingerprint=marks)))


def test_a_set_says_what_it_is(run: Run) -> None:
    rows = answers.sets(run)
    assert [(r.set, r.n, r.steps) for r in rows] == [
        ("anchored", EXAMPLES, STEPS),
        ("batch", EXAMPLES // BATCH, STEPS),
        ("example", EXAMPLES, STEPS),
        ("weights", 1 + 2 * MOVES, STEPS),
    ]
    details = answers.set_details(run.gradients("weights"))
    assert details.scalars == ["perturbation_squares", "weight_squares"]
    assert "kappa_weights" in details.measures
    assert details.parameters == sum(b.size for b in details.block_table) == run.parameters
    assert run.gradients("weights").facts(4)["directions"] == MOVES
    assert repr(run.gradients("batch")) == "<batch of nano: 4 vectors at 3 checkpoints>"


def test_a_group_goes_over_the_network_whole(run: Run) -> None:
    weights = run.gradients("weights")
    record = weights.stored.group(4, "layer/1", weights.groups()["layer/1"].blocks)
    arrays = pickle.loads(pickle.dumps(arrays_of_group(record)))
    again = group_of_arrays(arrays)
    assert np.array_equal(again.gram, record.gram)
    assert again.same is not None
    assert (again.error, dict(again.facts)) == (record.error, dict(record.facts))
    assert all(np.array_equal(again.whole[name], record.whole[name]) for name in record.whole)
    assert all(np.array_equal(again.scalars[name], record.scalars[name]) for name in record.scalars)
