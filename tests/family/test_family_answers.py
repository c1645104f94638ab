"""Members side by side: every number against one computed from the parameters themselves in float64, what is undefined as null."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_runs import (
    STEPS,
    Array,
    Tensors,
    attention_part,
    cosines,
    family_text,
    flat,
    layer_points,
    trajectory,
    trajsvc,
    write_run,
)

from storage_schema.models.families import FamilyAnswer, FamilyRow, StoredFamilyRow
from trajsvc.errors import UsageError
from trajsvc.families.compare import compare_family, slope
from trajsvc.families.file import Family, Member, load_family, open_family, save_family
from trajsvc.measures.norms import SETTLED
from trajsvc.results.run import Run
from trajsvc.results.run import open as open_run

LAYERS = {"two": 2, "four": 4, "other": 2, "one": 1, "mlp": 0, "still": 2}
MEMBERS = (
    'source = "four"\nsize = "4M"\nseed = 0\nhyperparameters = {lr = 0.1, optimizer = "adam"}',
    'source = "two"\nsize = "1M"\nseed = 1\nhyperparameters = {lr = 0.01}',
    'source = "other"\nsize = "1M"\nseed = 0\nhyperparameters = {optimizer = "sgd"}',
    'source = "absent"\nsize = "2M"\nseed = 3',
    'source = "one"',
    'source = "mlp"',
    'source = "still"',
    'source = "lost"',
)
ORDER = ["mlp", "one", "still", "other", "two", "absent", "four", "lost"]
"""by size, those that name none by their parameters; then by seed; what has no size comes last"""


@pytest.fixture(scope="module")
def states() -> dict[str, list[Tensors]]:
    made = {name: trajectory(layers, seed=k) for k, (name, layers) in enumerate(LAYERS.items())}
    made["still"] = [made["still"][0]] * len(STEPS)
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, states: dict[str, list[Tensors]]) -> Path:
    folder = tmp_path_factory.mktemp("families")
    for name, run in states.items():
        write_run(folder / name, run)
    (folder / "f.toml").write_text(family_text("f", *MEMBERS))
    done = trajsvc("batch", folder / "f.toml", "--store", folder / "store", "--quiet")
    assert done.exit_code == 3, done.output
    return folder / "store"


@pytest.fixture(scope="module")
def runs(store: Path) -> dict[str, Run]:
    return {name: open_run(store, name) for name in LAYERS}


@pytest.fixture(scope="module")
def rows(store: Path, runs: dict[str, Run]) -> dict[str, FamilyRow]:
    return {row.member: row for row in compare_family(open_family(store, "f"), runs).rows}


def walks_mds(updates: Array) -> float:
    """The mean of cos(θ_i − θ_0, θ_j − θ_0) = sqrt(s_min / s_max), s the sums of the squared norms of updates."""
    sums = np.cumsum(np.square(updates).sum(axis=1))
    return float(np.mean([[np.sqrt(min(a, b) / max(a, b)) for a in sums] for b in sums]))


def distance(a: Array, b: Array) -> float:
    """1 − the centred alignment of two maps, entry by entry as it is defined."""

    def centred(m: Array) -> Array:
        n = len(m)
        out = np.zeros((n, n))
        total = sum(m[k, l] for k, l in itertools.permutations(range(n), 2))
        for i, j in itertools.permutations(range(n), 2):
            row = sum(m[i, k] for k in range(n) if k != i) / (n - 2)
            column = sum(m[k, j] for k in range(n) if k != j) / (n - 2)
            out[i, j] = m[i, j] - row - column + total / ((n - 1) * (n - 2))
        return out

    first, second = centred(a), centred(b)
    return float(1 - (first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))


def settled(points: Array) -> float:
    """The step from which the cosine to the last point stays above the threshold, as a fraction of the last step."""
    cosine = cosines(points)[:, -1]
    if (cosine >= SETTLED).all():
        return STEPS[0] / STEPS[-1]
    last = max(t for t in range(len(cosine)) if cosine[t] < SETTLED)
    share = (SETTLED - cosine[last]) / (cosine[last + 1] - cosine[last])
    return float((STEPS[last] + share * (STEPS[last + 1] - STEPS[last])) / STEPS[-1])


@pytest.mark.parametrize("name", ["two", "four", "other", "one", "mlp"])
def test_similarities_meet_the_oracle(rows: dict[str, FamilyRow], states: dict[str, list[Tensors]], name: str) -> None:
    theta = flat(states[name])
    row = rows[name]
    assert row.mds == pytest.approx(cosines(theta).mean(), rel=1e-6)
    assert row.relative_mds == pytest.approx(cosines(theta[1:] - theta[0]).mean(), rel=1e-6)
    assert row.random_walk_mds == pytest.approx(walks_mds(np.diff(theta, axis=0)), rel=1e-6)
    length = np.linalg.norm(np.diff(theta, axis=0), axis=1)
    weights = (np.append(length, 0) + np.append(0, length)) / 2
    assert row.mds_by_length == pytest.approx(weights @ cosines(theta) @ weights / weights.sum() ** 2, rel=1e-6)
    assert (row.state, row.run, row.parameters, row.checkpoints) == ("present", name, theta.shape[1], len(STEPS))
    assert (row.estimate, row.fraction) == (False, None)


@pytest.mark.parametrize("name", ["two", "four", "one"])
def test_heterogeneity_through_the_depth_meets_the_oracle(
    rows: dict[str, FamilyRow], states: dict[str, list[Tensors]], name: str
) -> None:
    layers = LAYERS[name]
    found = rows[name].heterogeneity_by_depth
    assert [d.layer for d in found] == [str(k) for k in range(layers)]
    assert [d.depth for d in found] == pytest.approx([k / max(1, layers - 1) for k in range(layers)])
    means = []
    for k, depth in enumerate(found):
        q, key, v = (cosines(attention_part(states[name], k, part)) for part in "qkv")
        expected = [distance(q, key), distance(q, v), distance(key, v)]
        assert [depth.distance_qk, depth.distance_qv, depth.distance_kv] == pytest.approx(expected, abs=1e-6)
        assert depth.heterogeneity == pytest.approx(np.mean(expected), abs=1e-6)
        means.append(np.mean(expected))
    assert rows[name].heterogeneity == pytest.approx(np.mean(means), abs=1e-6)


@pytest.mark.parametrize("name", ["two", "four", "other"])
def test_settling_and_its_slope_meet_the_oracle(
    rows: dict[str, FamilyRow], states: dict[str, list[Tensors]], name: str
) -> None:
    layers = LAYERS[name]
    expected = [settled(layer_points(states[name], k)) for k in range(layers)]
    found = rows[name].settling_depth
    assert [d.layer for d in found] == [str(k) for k in range(layers)], "the norm after the last layer is no depth"
    assert [d.settling_step for d in found] == pytest.approx(expected, rel=1e-5)
    assert [d.depth for d in found] == pytest.approx(np.linspace(0, 1, layers))
    gradient = np.polyfit(np.linspace(0, 1, layers), expected, 1)[0]
    assert rows[name].settling_depth_slope == pytest.approx(gradient, rel=1e-4, abs=1e-9)
    assert gradient < 0, "deeper layers were made to settle sooner"


@pytest.mark.parametrize("origin", [None, 0, 20])
def test_maps_of_attention_are_compared_by_both_distances_from_any_origin(
    store: Path, runs: dict[str, Run], states: dict[str, list[Tensors]], origin: int | None
) -> None:
    answer = compare_family(open_family(store, "f"), runs, origin=origin)
    assert (answer.origin, answer.axis) == (origin, "step")
    (row,) = [row for row in answer.rows if row.member == "two"]
    for k, depth in enumerate(row.heterogeneity_by_depth):
        maps = []
        for part in "qkv":
            points = attention_part(states["two"], k, part)
            if origin is not None:
                points = np.delete(points - points[STEPS.index(origin)], STEPS.index(origin), axis=0)
            maps.append(cosines(points))
        off = ~np.eye(len(maps[0]), dtype=bool)
        apart = [float(np.sqrt(np.mean(np.square(maps[a] - maps[b])[off]))) for a, b in ((0, 1), (0, 2), (1, 2))]
        assert [depth.rms_qk, depth.rms_qv, depth.rms_kv] == pytest.approx(apart, rel=1e-6)
        assert depth.rms == pytest.approx(np.mean(apart), rel=1e-6)
        assert depth.distance_qk == pytest.approx(distance(maps[0], maps[1]), abs=1e-6)
    assert row.rms == pytest.approx(np.mean([depth.rms for depth in row.heterogeneity_by_depth]))
    shown = json.loads(
        compare(store, *(() if origin is None else ("--origin", str(origin))), "--format", "json").stdout
    )
    assert shown == answer.model_dump(mode="json")


def test_a_family_that_was_sampled_differently_says_so(store: Path, runs: dict[str, Run], tmp_path: Path) -> None:
    assert compare_family(open_family(store, "f"), runs).findings == []
    some = ("--steps", "0,40,80,160", "--store", tmp_path / "few", "--quiet", "--no-figures")
    assert trajsvc("analyze", store.parent / "two", *some).exit_code == 0
    family = Family(name="g", runs=[Member(name="two", source="two"), Member(name="four", source="four")])
    found = compare_family(family, {"two": open_run(tmp_path / "few", "two"), "four": runs["four"]}).findings
    assert [finding.kind for finding in found] == ["different-steps"]
    assert "two at 4 (0 … 160), four at 6 (0 … 160)" in found[0].message


def test_members_come_in_order_of_size_seed_and_name(store: Path, runs: dict[str, Run]) -> None:
    answer = compare_family(open_family(store, "f"), runs)
    assert [row.member for row in answer.rows] == ORDER
    sizes = {row.member: row.size for row in answer.rows}
    assert (sizes["four"], sizes["mlp"], sizes["lost"]) == (4_000_000, runs["mlp"].parameters, None)
    assert answer.rows[4].hyperparameters == {"lr": 0.01}


def test_a_member_without_a_run_is_missing_and_all_null(rows: dict[str, FamilyRow]) -> None:
    row = rows["absent"]
    assert (row.state, row.size, row.seed) == ("missing", 2_000_000, 3)
    measured = ("run", "parameters", "checkpoints", "estimate", "mds", "relative_mds", "heterogeneity")
    assert [getattr(row, name) for name in (*measured, "settling_depth_slope")] == [None] * 8
    assert row.heterogeneity_by_depth == row.settling_depth == []


def test_what_is_undefined_is_null_and_never_nan(rows: dict[str, FamilyRow]) -> None:
    assert rows["mlp"].heterogeneity is None, "it has no attention"
    assert rows["mlp"].heterogeneity_by_depth == []
    assert rows["mlp"].settling_depth_slope is not None, "but it has layers"
    assert rows["one"].settling_depth_slope is None, "one layer has no slope"
    assert len(rows["one"].settling_depth) == 1
    still = rows["still"]
    assert still.mds == pytest.approx(1.0)
    assert still.relative_mds is None, "it has not moved"
    assert still.heterogeneity is None, "maps without a pattern are no distance apart"
    assert still.heterogeneity_by_depth[0].distance_qk is None
    assert still.settling_depth_slope == pytest.approx(0.0)
    for row in rows.values():
        json.dumps(row.model_dump(), allow_nan=False)


@pytest.mark.parametrize(
    ("at", "values", "expected"),
    [
        ([], [], None),
        ([0.0], [1.0], None),
        ([0.0, 1.0], [1.0, None], None),
        ([0.0, 1.0], [None, None], None),
        ([0.5, 0.5], [1.0, 2.0], None),
        ([0.0, 0.5, 1.0], [1.0, None, 3.0], 2.0),
        ([0.0, 0.5, 1.0], [1.0, 5.0, 3.0], 2.0),
        ([0.0, 1.0], [7.0, 7.0], 0.0),
    ],
)
def test_slopes(at: list[float], values: list[float | None], expected: float | None) -> None:
    assert slope(at, values) == (None if expected is None else pytest.approx(expected))


def test_slopes_of_noise_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3, 24):
        at, values = np.linspace(0, 1, count), rng.normal(size=count)
        assert slope(at.tolist(), values.tolist()) == pytest.approx(np.polyfit(at, values, 1)[0])


def compare(store: Path, *arguments: str) -> Any:
    return trajsvc("compare", "--family", "f", "--store", store, *arguments)


def test_json_is_the_answer(store: Path, runs: dict[str, Run]) -> None:
    done = compare(store, "--format", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert FamilyAnswer.model_validate(found).model_dump(mode="json") == found
    assert found == compare_family(open_family(store, "f"), runs).model_dump(mode="json")


def test_csv_has_a_row_a_member_and_with_qkv_a_row_a_layer(store: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(compare(store, "--format", "csv").stdout)))
    assert [line["member"] for line in lines] == ORDER
    assert lines[4]["hyperparameter.lr"] == "0.01"
    assert lines[3]["hyperparameter.optimizer"] == "sgd"
    assert float(lines[4]["mds"]) > 0
    assert lines[5]["mds"] == ""
    layers = list(csv.DictReader(io.StringIO(compare(store, "--qkv", "--format", "csv").stdout)))
    assert [(line["member"], line["layer"]) for line in layers if line["member"] in ("one", "four")] == [
        ("one", "0"), *(("four", str(k)) for k in range(4)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("by", "first"),
    [("seed", ["other", "four", "two", "absent"]), ("lr", ["two", "four"]), ("optimizer", ["four", "other"])],
)
def test_members_are_ordered_by_what_is_asked_and_those_without_it_come_last(
    store: Path, by: str, first: list[str]
) -> None:
    rows = json.loads(compare(store, "--by", by, "--format", "json").stdout)["rows"]
    assert [row["member"] for row in rows] == [*first, *(name for name in ORDER if name not in first)]


def test_people_get_a_table_and_are_told_what_is_missing(store: Path) -> None:
    done = compare(store)
    assert done.exit_code == 0
    assert "absent (not analysed)" in done.stdout
    assert "not analysed: absent, lost" in done.stderr
    assert "4M" in done.stdout
    assert "0.67" in compare(store, "--qkv").stdout, "relative depths"


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("compare", "--family", "g"), 4, "It has f"),
        (("compare", "--family", "f", "--by", "layer"), 2, "size, seed, lr, optimizer"),
        (("compare", "--family", "f", "two"), 2, "either runs or a family"),
        (("compare", "--family", "f", "--maps"), 2, "add -o"),
        (("compare", "--family", "f", "--group", "layer/0"), 2, "--maps"),
        (("compare", "--family", "f", "--maps", "--qkv", "-o", "x.png"), 2, "two figures"),
        (("compare",), 2, "--family"),
        (("compare", "two", "--qkv"), 2, "trajsvc qkv"),
        (("compare", "--family", "f", "--maps", "--group", "layer/9", "-o", "x.png"), 4, "layer/9"),
    ],
)
def test_wrong_requests_are_refused_with_what_to_do(
    store: Path, arguments: tuple[str, ...], code: int, word: str
) -> None:
    done = trajsvc(*arguments, "--store", store)
    assert (done.exit_code, done.stdout) == (code, "")
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert word in done.stderr


def test_runs_side_by_side_are_as_before(store: Path) -> None:
    done = trajsvc("compare", "two", "four", "--store", store, "--format", "json")
    assert [row["run"] for row in json.loads(done.stdout)["rows"]] == ["two", "four"]


def test_the_families_of_a_store_are_listed(store: Path, tmp_path: Path) -> None:
    found = json.loads(trajsvc("families", "ls", "--store", store, "--format", "json").stdout)
    assert [StoredFamilyRow(**row) for row in found] == [
        StoredFamilyRow(family="f", title="", members=8, present=6, missing=["absent", "lost"])
    ]
    assert "f" in trajsvc("families", "ls", "--store", store).stdout
    assert (
        trajsvc("families", "ls", "--store", store, "--format", "csv").stdout.splitlines()[1] == "f,,8,6,absent lost,,"
    )
    told = trajsvc("families", "ls", "--store", store).stderr
    assert "f: absent, lost not in the store: not analysed, or under another name (trajsvc mv)" in told
    empty = trajsvc("families", "ls", "--store", tmp_path / "none")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "trajsvc batch" in empty.stderr


def test_a_familys_tags_are_those_of_its_file_and_are_listed(tmp_path: Path) -> None:
    file, store = tmp_path / "family.toml", tmp_path / "store"
    text = 'name = "f"\ntags = ["sweep:lr", "baseline", "baseline"]\n[[runs]]\nsource = "gone"\n'
    file.write_text(text)
    save_family(store, load_family(file))
    assert open_family(store, "f").tags == ["baseline", "sweep:lr"]
    (row,) = json.loads(trajsvc("families", "ls", "--store", store, "--format", "json").stdout)
    assert row["tags"] == ["baseline", "sweep:lr"]
    assert (
        trajsvc("families", "ls", "--store", store, "--format", "csv")
        .stdout.splitlines()[1]
        .endswith(",baseline sweep:lr")
    )
    assert "sweep:lr" in trajsvc("families", "ls", "--store", store).stdout
    file.write_text(text.replace("sweep:lr", "two words"))
    with pytest.raises(UsageError, match="'two words' is no tag"):
        load_family(file)


def test_an_empty_family_cannot_be() -> None:
    with pytest.raises(ValueError, match="runs"):
        Family(name="f", runs=[])


def test_a_member_that_is_an_estimate_says_of_how_much(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    write_run(tmp_path / "wide", [{"layers.0.weight": rng.standard_normal((700, 900))} for _ in STEPS])
    (tmp_path / "e.toml").write_text(family_text("e", 'source = "wide"\npreview = "1%"'))
    done = trajsvc("batch", tmp_path / "e.toml", "--store", tmp_path / "store", "--quiet")
    assert done.exit_code == 0, done.output
    (row,) = compare_family(open_family(tmp_path / "store", "e"), {"wide": open_run(tmp_path / "store", "wide")}).rows
    assert row.estimate is True
    assert row.fraction is not None
    assert 0 < row.fraction < 0.1
    shown = trajsvc("compare", "--family", "e", "--store", tmp_path / "store")
    assert f"(estimate, {row.fraction:.1%})" in shown.stdout
