"""Figures of families: every point where it belongs and named, one colour scale, lines against relative depth, names that can be read."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_runs import family_text, trajectory, trajsvc, write_run

from storage_schema.models.families import FamilyRow
from trajsvc.families.lines import every_line, lines_of
from trajsvc.figures import Panel
from trajsvc.figures.family import (
    family_maps_figure,
    family_measures_figure,
    family_qkv_figure,
    short_names,
    size_label,
    spread,
)
from trajsvc.figures.style import write

SIZES = (70_000_000, 160_000_000, 410_000_000, 1_000_000_000, 6_900_000_000)
NAMES = ("pythia-70m", "pythia-160m", "pythia-410m", "pythia-1b", "pythia-6.9b")
VALUES = (0.7, 0.75, None, 0.72, 0.8)


def points(axes: Any) -> list[tuple[float, float]]:
    """The points of a panel, in their order."""
    line = next(line for line in axes.get_lines() if line.get_marker() == "o")
    return [tuple(p) for p in line.get_xydata().tolist()]


def texts(axes: Any) -> list[Any]:
    return [t for t in axes.texts if t.get_text()]


def drawn(figure: Any) -> Any:
    """The figure as an image, (height, width, 4) of 0 … 1."""
    from matplotlib.image import imread

    out = io.BytesIO()
    write(figure, out, "png", dpi=150)
    out.seek(0)
    return imread(out)


def test_every_member_is_a_named_point_at_its_size() -> None:
    figure = family_measures_figure(NAMES, SIZES, {"MDS": VALUES, "slope": (1.0,) * 5}, "parameters", title="Pythia")
    first, second = figure.axes
    assert points(first) == [(s, v) for s, v in zip(SIZES, VALUES, strict=True) if v is not None]
    assert sorted(t.get_text() for t in texts(first)) == ["160m", "1b", "6.9b", "70m"]
    assert {t.get_text(): t.xy for t in texts(first)}["1b"] == (1e9, 0.72)
    assert len(points(second)) == 5
    assert first.get_xscale() == "log"
    assert (first.get_xlabel(), first.get_ylabel()) == ("parameters", "MDS")
    assert next(t.get_text() for t in first.get_xticklabels()) == "70M"
    assert figure.get_size_inches()[0] == pytest.approx(6.8)


@pytest.mark.parametrize(
    ("at", "scale"),
    [
        ([1, 2, 9], "linear"),
        ([1, 2, 11], "log"),
        ([0.01, 0.02, 0.1], "log"),
        ([0, 2, 1000], "function"),
        ([-1.0, 1.0, 99.0], "linear"),
        ([5, 5, 5], "linear"),
    ],
)
def test_an_axis_is_logarithmic_when_numbers_span_ten_times(at: list[float], scale: str) -> None:
    axes = family_measures_figure("abc", at, {"m": (1.0, 2.0, 3.0)}, "lr").axes[0]
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    assert low < min(at) <= max(at) < high


def test_words_and_truth_values_stand_side_by_side_without_a_line() -> None:
    axes = family_measures_figure("abcd", ["adam", "sgd", None, "adam"], {"m": (1.0, 2.0, 3.0, 4.0)}, "optimizer").axes[
        0
    ]
    assert points(axes) == [(0.0, 1.0), (1.0, 2.0), (0.0, 4.0)]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["adam", "sgd"]
    assert len([line for line in axes.get_lines() if line.get_linestyle() == "-"]) == 0
    truth = family_measures_figure("ab", [True, False], {"m": (1.0, 2.0)}, "warm").axes[0]
    assert [t.get_text() for t in truth.get_xticklabels()] == ["True", "False"]


def test_the_line_joins_the_means_at_each_place() -> None:
    at, values = (1, 1, 2, 4), (1.0, 3.0, 5.0, 7.0)
    axes = family_measures_figure("abcd", at, {"m": values}, "size", joined=["all"] * 4).axes[0]
    line = next(line for line in axes.get_lines() if line.get_linestyle() == "-")
    assert line.get_xydata().tolist() == [[1, 2], [2, 5], [4, 7]]
    plain = family_measures_figure("abcd", at, {"m": values}, "seed").axes[0]
    assert [line.get_marker() for line in plain.get_lines()] == ["o"], "points, and no line"


def member(name: str, size: int | None = 100, seed: int | None = None, **hyperparameters: Any) -> FamilyRow:
    nothing = dict.fromkeys(
        ("parameters", "checkpoints", "estimate", "relative_mds", "heterogeneity", "settling_depth_slope")
    )
    return FamilyRow(
        member=name, run=name, state="present", size=size, seed=seed, hyperparameters=hyperparameters, mds=0.5, **nothing,
        heterogeneity_by_depth=[], settling_depth=[],
    )  # fmt: skip


def test_only_members_that_are_equal_in_all_else_are_joined() -> None:
    rows = [
        member("a", weight_decay=0.0, momentum=0.9), member("b", weight_decay=1e-3, momentum=0.9),
        member("c", weight_decay=0.0, momentum=0.0), member("d", weight_decay=1e-2, momentum=0.0),
    ]  # fmt: skip
    assert lines_of(rows, "weight_decay") == ["momentum=0.9"] * 2 + ["momentum=0.0"] * 2
    assert lines_of(rows, "seed") == [None] * 4
    one_to_one = [member("a", weight_decay=0.0, momentum=0.9), member("b", weight_decay=1e-3, momentum=0.0)]
    assert len(set(lines_of(one_to_one, "weight_decay"))) == 2, "a trend would be another hyperparameter's"
    seeds = [member("a", seed=0, lr=0.1), member("b", seed=1, lr=0.1), member("c", seed=0, lr=0.2)]
    assert lines_of(seeds, "lr") == ["all"] * 3
    sizes = [member("a", size=10, width=1), member("b", size=40, width=2)]
    assert lines_of(sizes, "width") == ["all"] * 2, "a size follows from a width"
    assert lines_of([member("a", size=10, lr=1.0), member("b", size=40, lr=2.0)], "lr") == ["size=10", "size=40"]


def test_no_line_joins_two_sizes_where_a_name_only_sounds_like_one() -> None:
    batches = [member("a", size=10, batch_size=32), member("b", size=40, batch_size=64)]
    assert lines_of(batches, "batch_size") == ["size=10", "size=40"]
    norms = [member("a", size=10, layer_norm_eps=1e-5), member("b", size=40, layer_norm_eps=1e-6)]
    assert lines_of(norms, "layer_norm_eps") == ["size=10", "size=40"]
    depths = [member("a", size=10, n_layer=1), member("b", size=40, n_layer=1), member("c", size=90, n_layer=2)]
    assert lines_of(depths, "n_layer") == ["size=10", "size=40", "size=90"], "one depth has two sizes"
    grid = [member(f"{w}{lr}", size=10 * w, hidden_size=w, lr=lr) for w in (1, 2) for lr in (0.1, 0.2)]
    assert lines_of(grid, "hidden_size") == ["lr=0.1", "lr=0.2"] * 2


def test_the_answer_names_the_lines_of_the_members_that_are_present() -> None:
    rows = [
        member("a", weight_decay=0.0, momentum=0.9), member("b", weight_decay=1e-3, momentum=0.9),
        member("c", weight_decay=0.0, momentum=0.0),
        member("d", weight_decay=1e-2, momentum=0.5).model_copy(update={"state": "missing"}),
    ]  # fmt: skip
    found = {by: [(line.line, line.members) for line in lines] for by, lines in every_line(rows).items()}
    assert found["weight_decay"] == [("momentum=0.9", ["a", "b"]), ("momentum=0.0", ["c"])]
    assert found["seed"] == []
    assert set(found) == {"size", "seed", "weight_decay", "momentum"}


def test_lines_have_colours_and_a_legend_and_their_own_members() -> None:
    at, values = (0.0, 1.0, 0.0, 2.0), (1.0, 0.8, 0.2, 0.1)
    joined = ["momentum=0.9", "momentum=0.9", "momentum=0", "momentum=0"]
    figure = family_measures_figure("abcd", at, {"m": values}, "weight decay", joined=joined)
    lines = {
        line.get_label(): line.get_xydata().tolist()
        for line in figure.axes[0].get_lines()
        if line.get_linestyle() == "-"
    }
    assert lines == {"momentum=0.9": [[0, 1], [1, 0.8]], "momentum=0": [[0, 0.2], [2, 0.1]]}
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["momentum=0.9", "momentum=0"]


@pytest.mark.parametrize(
    ("at", "values"),
    [
        ((1, 2), (None, None)),
        ((1, 2), (1.0, None)),
        ((1, 1), (1.0, 1.0)),
        ((None, None), (1.0, 1.0)),
        ((3, None), (None, 1.0)),
    ],
)
def test_what_is_undefined_is_left_out_and_still_drawn(at: Any, values: Any) -> None:
    figure = family_measures_figure(("a", "b"), at, {"m": values}, "size")
    expected = [v for x, v in zip(at, values, strict=True) if x is not None and v is not None]
    assert [y for _, y in points(figure.axes[0])] == expected
    assert np.isfinite(drawn(figure)).all()
    assert ("undefined" in [t.get_text() for t in texts(figure.axes[0])]) == (not expected)


def test_names_can_be_read_also_where_points_stand_over_one_place() -> None:
    rng = np.random.default_rng(0)
    named = [f"pythia-{size}-seed{seed}" for size in ("70m", "160m", "410m") for seed in range(4)]
    at = [size for size in SIZES[:3] for _ in range(4)]
    values = [float(v) for v in 0.7 + 0.001 * rng.random(12) + 0.1 * np.repeat([0.0, 0.5, 0.6], 4)]
    figure = family_measures_figure(named, at, {"m": values, "n": values[::-1]}, "parameters")
    figure.canvas.draw()
    for axes in figure.axes:
        names = texts(axes)
        assert len(names) == 12
        boxes = [t.get_window_extent() for t in names]
        for a, b in itertools.combinations(boxes, 2):
            across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across <= 0 or down <= 0.35 * a.height, "names do not stand on each other"
        dots = [axes.transData.transform(p) for p in points(axes)]
        hidden = [p for p in dots for b in boxes if b.x0 < p[0] < b.x1 and b.y0 < p[1] < b.y1]
        assert hidden == [], "no name stands on a point"
        frame = axes.get_window_extent()
        assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 for b in boxes)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ([], []),
        ([5.0], [5.0]),
        ([1.0, 9.0], [1.0, 9.0]),
        ([5.0, 5.0], [4.5, 5.5]),
        ([5.0, 5.0, 5.0, 8.0], [4.0, 5.0, 6.0, 8.0]),
        ([0.0, 0.0], [0.5, 1.5]),
        ([10.0, 10.0], [8.5, 9.5]),
    ],
)
def test_spreading_moves_no_more_than_it_takes(at: list[float], expected: list[float]) -> None:
    found = spread(at, 1.0, 0.0, 10.0)
    assert found == pytest.approx(expected if len(at) != 1 else at)


def test_spreading_keeps_order_and_distance() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        at = sorted(rng.uniform(0, 100, 12).tolist())
        found = spread(at, 5.0, 0.0, 100.0)
        assert (np.diff(found) >= 5.0 - 1e-9).all()
        assert min(found) >= 2.5 - 1e-9
        assert max(found) <= 97.5 + 1e-9


def test_short_names_and_sizes() -> None:
    assert short_names(["pythia-70m", "pythia-1b"]) == ["70m", "1b"]
    assert short_names(["pythia-70m", "pythia-70m-deduped"]) == ["70m", "70m-deduped"]
    assert short_names(["alpha", "alps"]) == ["alpha", "alps"]
    assert short_names(["run-", "run-a"]) == ["run-", "run-a"], "nothing is named by nothing"
    assert short_names(["only-one"]) == ["only-one"]
    assert [size_label(x) for x in (70e6, 1.4e9, 999, 0.001, 3e-5, 0, 2e12)] == [
        "70M", "1.4B", "999", "0.001", "3e-5", "0", "2T",
    ]  # fmt: skip


def a_map(n: int, low: float, seed: int) -> Any:
    values = np.random.default_rng(seed).uniform(low, 1, (n, n))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1.0)
    return values


@pytest.mark.parametrize("count", [1, 2, 6, 11])
def test_maps_stand_in_order_on_one_scale(count: int) -> None:
    panels = [Panel(a_map(8, 0.9 - 0.05 * k, k), [10 * t for t in range(8)], f"m{k}") for k in range(count)]
    figure = family_maps_figure(panels, title="f")
    shown = [axes for axes in figure.axes if axes.images and axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [f"m{k}" for k in range(count)]
    assert len({axes.images[0].get_clim() for axes in shown}) == 1
    for axes, panel in zip(shown, panels, strict=True):
        assert np.array_equal(np.asarray(axes.images[0].get_array()), panel.values)
    assert figure.get_size_inches()[0] <= 6.8 + 1e-9
    figure.canvas.draw()
    boxes = [axes.get_window_extent() for axes in shown]
    assert all(not a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(b.width > 0.5 * figure.dpi for b in boxes), "cells can be seen"


def test_maps_of_other_steps_have_their_own_numbers() -> None:
    panels = [
        Panel(a_map(4, 0.5, k), steps, f"m{k}") for k, steps in enumerate(([0, 1, 2, 3], [0, 1, 2, 3], [0, 5, 9, 50]))
    ]
    first, second, third = (a for a in family_maps_figure(panels).axes if a.images)
    assert third.get_yticklabels()[-1].get_visible()
    assert second.yaxis.get_tick_params()["labelleft"] is False
    assert first.yaxis.get_tick_params()["labelleft"] is third.yaxis.get_tick_params().get("labelleft", True) is True


def test_distances_are_drawn_against_relative_depth_a_line_a_member() -> None:
    rng = np.random.default_rng(0)
    depths = [np.linspace(0, 1, n).tolist() for n in (6, 12, 1)]
    distances = [rng.uniform(0, 0.1 * 4**k, (len(d), 3)) for k, d in enumerate(depths)]
    distances[1][3] = np.nan
    rms = [2 * values for values in distances]
    figure = family_qkv_figure(NAMES[:3], depths, distances, rms, title="Pythia")
    panels = figure.axes
    assert [a.get_title() for a in panels[:4]] == ["Q to K", "Q to V", "K to V", "mean of the three"]
    assert [panels[k].get_ylabel() for k in (0, 4)] == ["distance in shape", "rms (cosine)"]
    for panel, axes in enumerate(panels):
        lines = axes.get_lines()
        assert len(lines) == 3
        for line, depth, values in zip(lines, depths, distances if panel < 4 else rms, strict=True):
            expected = values[:, panel % 4] if panel % 4 < 3 else values.mean(axis=1)
            np.testing.assert_array_equal(line.get_xdata(), depth)
            np.testing.assert_array_equal(line.get_ydata(), expected)
        low, high = axes.get_ylim()
        assert low == 0
        assert high >= max(np.nanmax(v) for v in distances), "the largest member's values are not cut off"
    assert len({line.get_color() for line in panels[0].get_lines()}) == 3
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["70m", "160m", "410m"]
    drawn(figure)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    for name, layers in (("f-2", 2), ("f-3", 3), ("mlp", 0)):
        write_run(folder / name, trajectory(layers, seed=layers))
    runs = (
        'source = "f-2"\nseed = 1',
        'source = "f-3"\nhyperparameters = {lr = 0.1}',
        'source = "mlp"',
        'source = "absent"',
    )
    (folder / "f.toml").write_text(family_text("f", *runs))
    (folder / "g.toml").write_text(family_text("g", 'source = "mlp"'))
    (folder / "h.toml").write_text(family_text("h", 'source = "absent"'))
    for name, code in (("f", 3), ("g", 0), ("h", 1)):
        assert trajsvc("batch", folder / f"{name}.toml", "--store", folder / "store", "-q").exit_code == code
    return folder / "store"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        ((), "svg"),
        (("--by", "seed"), "png"),
        (("--by", "lr"), "png"),
        (("--maps",), "pdf"),
        (("--maps", "--group", "layer/1", "--origin", "0"), "png"),
        (("--qkv",), "svg"),
        (("--qkv", "--origin", "0"), "svg"),
    ],
)
def test_the_command_draws_a_family(store: Path, tmp_path: Path, arguments: tuple[str, ...], suffix: str) -> None:
    file = tmp_path / f"figure.{suffix}"
    done = trajsvc("compare", "--family", "f", *arguments, "-o", file, "--store", store)
    assert done.exit_code == 0, done.output
    assert f"wrote {file}" in done.stderr
    assert "not analysed: absent" in done.stderr
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    data = file.read_bytes()
    assert data.startswith(start)
    if "--qkv" in arguments:
        assert "rms (cosine)" in data.decode()
        assert ("relative to step 0" in data.decode()) == ("--origin" in arguments)
    if suffix == "svg" and not arguments:
        for word in ("f-2", "f-3", "mlp", "MDS", "parameters"):
            assert f">{word}</text>" in data.decode(), "text stays text"


@pytest.mark.slow
def test_families_without_attention_or_without_runs_say_so(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "figure.png"
    none = trajsvc("compare", "--family", "g", "--qkv", "-o", file, "--store", store)
    assert (none.exit_code, file.exists()) == (4, False)
    assert "Q, K and V" in none.stderr
    assert trajsvc("compare", "--family", "g", "-o", file, "--store", store).exit_code == 0
    absent = trajsvc("compare", "--family", "h", "-o", tmp_path / "h.png", "--store", store)
    assert absent.exit_code == 4
    assert "trajsvc batch" in absent.stderr
