"""Figures: the right colour at the right place, sizes of a paper's columns, fonts that embed, undefined cells hatched."""

from __future__ import annotations

import io
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slow_params import slow_but

from trajsvc.errors import UsageError
from trajsvc.figures import (
    Curve,
    Curves,
    Panel,
    compare_figure,
    curves_figure,
    layer_grid,
    map_figure,
    overlay_figure,
    qkv_figure,
    save,
)
from trajsvc.figures.maps import scale_of
from trajsvc.figures.style import step_label, step_labels, tick_places, write

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 1000, 2000, 143000]


def a_map(n: int = len(STEPS), seed: int = 0, low: float = 0.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A symmetric map with a diagonal of ones and entries from ``low`` up."""
    values = np.random.default_rng(seed).uniform(low, 1, (n, n))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1.0)
    return values


def pixels(figure: Any, dpi: int = 200) -> Any:
    """The figure as drawn, (height, width, 4) of 0 … 1."""
    from matplotlib.image import imread

    out = io.BytesIO()
    write(figure, out, "png", dpi=dpi)
    out.seek(0)
    return imread(out)


def cell_colour(figure: Any, axes: Any, image: Any, row: int, column: int, dpi: int = 200) -> Any:
    """The colour at the middle of a map's cell."""
    x, y = axes.transData.transform((column, row)) * dpi / figure.dpi
    return image[image.shape[0] - 1 - round(y), round(x), :3]


@pytest.mark.parametrize("low", [0.0, -1.0], ids=["sequential", "diverging"])
def test_every_cell_has_the_colour_of_its_value(low: float) -> None:
    values = a_map(low=low)
    figure = map_figure([Panel(values, STEPS)])
    image = pixels(figure)
    scale = scale_of([values])
    for row in range(len(STEPS)):
        for column in range(len(STEPS)):
            share = (values[row, column] - scale.low) / (scale.high - scale.low)
            expected = scale.colormap()(share)[:3]
            found = cell_colour(figure, figure.axes[0], image, row, column)
            np.testing.assert_allclose(found, expected, atol=0.02)


def test_undefined_cells_are_hatched_and_not_coloured() -> None:
    values = a_map()
    values[3] = values[:, 3] = np.nan
    figure = map_figure([Panel(values, STEPS)])
    image = pixels(figure)
    colour = cell_colour(figure, figure.axes[0], image, 3, 7)
    assert np.ptp(colour) < 0.02, "an undefined cell is grey"
    assert figure.axes[0].patch.get_hatch()


def test_the_scale_follows_the_values_and_is_centred_when_some_are_negative() -> None:
    assert (scale_of([np.array([[1.0, 0.76]])]).low, scale_of([np.array([[1.0, 0.76]])]).name) == (0.7, "viridis")
    diverging = scale_of([np.array([[1.0, -0.2]])])
    assert (diverging.low, diverging.high, diverging.name) == (-1.0, 1.0, "RdBu_r")
    assert scale_of([np.full((2, 2), np.nan)]).high == 1.0
    assert scale_of([a_map()], limits=(0.2, 0.8)).low == 0.2


def test_two_maps_share_one_scale_and_show_real_step_numbers() -> None:
    figure = map_figure([Panel(a_map(), STEPS, "TM"), Panel(a_map(10, low=0.4), STEPS[1:], "RTM")], title="network")
    first, second, bar = figure.axes
    assert first.images[0].get_clim() == second.images[0].get_clim() == bar.get_ylim()
    labels = [t.get_text() for t in first.get_xticklabels()]
    assert labels[0] == "0"
    assert labels[-1] == "143k"
    assert next(t.get_text() for t in second.get_xticklabels()) == "1"
    assert figure.get_size_inches()[0] == pytest.approx(6.8)
    assert map_figure([Panel(a_map(), STEPS)]).get_size_inches()[0] == pytest.approx(3.3)


def test_a_phase_is_marked_before_its_first_step_also_where_the_origin_is_left_out() -> None:
    figure = map_figure([Panel(a_map(), STEPS), Panel(a_map(10), STEPS[1:])], marks=[64])
    for axes, edge in zip(figure.axes[:2], (6.5, 5.5), strict=True):
        assert {line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1} == {edge}


def test_no_labels_overlap_in_a_two_map_figure() -> None:
    figure = map_figure([Panel(a_map(29), list(range(0, 29000, 1000))) for _ in range(2)])
    figure.canvas.draw()
    for axes in figure.axes[:2]:
        boxes = [t.get_window_extent() for t in axes.get_xticklabels() if t.get_text()]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize("count", slow_but([1, 7, 13, 40], [1, 7]))
def test_a_layer_grid_has_a_panel_for_every_layer_on_one_scale(count: int) -> None:
    panels = [Panel(a_map(seed=k, low=0.1 * (k % 5)), STEPS, f"layer/{k}") for k in range(count)]
    figure = layer_grid(panels)
    shown = [a for a in figure.axes if a.images and a.get_visible() and a.get_title()]
    assert [a.get_title() for a in shown] == [p.title for p in panels]
    assert len({a.images[0].get_clim() for a in shown}) == 1
    assert np.array_equal(shown[-1].images[0].get_array(), panels[-1].values)


@pytest.mark.parametrize("layers", slow_but([1, 4, 30], [1, 4]))
def test_attention_has_three_maps_a_layer_and_two_curves_by_depth(layers: int) -> None:
    rng = np.random.default_rng(0)
    maps = np.array([[a_map(seed=3 * i + j) for j in range(3)] for i in range(layers)])
    distances, rms, settling = rng.random((layers, 3)), rng.random((layers, 3)), 1000 * rng.random((layers, 3))
    names = [f"layer/{i}" for i in range(layers)]
    figure = qkv_figure(names, maps, STEPS, distances, rms, settling, title="attention")
    images = [
        a.images[0].get_array() for a in _all_axes(figure) if a.images and a.get_visible() and a.get_xlabel() == ""
    ]
    wanted = {m.tobytes() for row in maps for m in row}
    assert wanted == {np.asarray(i).tobytes() for i in images if i.shape == (len(STEPS), len(STEPS))}
    for label, values in (("distance in shape", distances), ("rms difference (cosine)", rms)):
        lines = next(a for a in _all_axes(figure) if a.get_ylabel() == label).lines
        np.testing.assert_array_equal(np.array([line.get_ydata() for line in lines]).T, values)


def _all_axes(figure: Any) -> list[Any]:
    return [*figure.axes, *(a for f in figure.subfigs for a in f.axes)]


def some_curves(noise: float = 0.0) -> Curves:
    rng = np.random.default_rng(1)
    n = len(STEPS)
    update = rng.uniform(0.5, 1, n - 1)
    floor = np.full(n - 1, 0.001)
    floor[:2] = noise
    below = floor >= 1
    return Curves(
        STEPS,
        rng.uniform(20, 90, n - 2),
        rng.uniform(0, 80, n - 1),
        rng.uniform(5, 9, n),
        rng.uniform(0, 4, n),
        update,
        floor,
        below,
    )


def test_curves_stand_at_their_steps_with_the_random_walk_beside_them() -> None:
    curves = some_curves()
    figure = curves_figure(curves, title="network", marks=[64])
    angles, norms, distance, cone = figure.axes
    np.testing.assert_array_equal(angles.lines[0].get_xdata(), STEPS[1:-1])
    np.testing.assert_array_equal(angles.lines[0].get_ydata(), curves.update_angle)
    np.testing.assert_array_equal(norms.lines[0].get_xdata(), STEPS[1:])
    walk = next(line for line in distance.lines if line.get_label() == "random walk")
    np.testing.assert_allclose(walk.get_ydata()[-1], np.sqrt(np.square(curves.update_norm).sum()))
    np.testing.assert_array_equal(cone.lines[0].get_xdata(), STEPS[1:])
    assert angles.get_xscale() == "symlog"
    assert (
        curves_figure(Curves([0, 10, 20, 30], *(np.ones(k) for k in (2, 3, 4, 4, 3, 3)), np.zeros(3, bool)))
        .axes[0]
        .get_xscale()
        == "linear"
    )


def test_updates_that_rounding_explains_are_shaded() -> None:
    assert not figure_bands(curves_figure(some_curves(noise=0.9)))
    assert len(figure_bands(curves_figure(some_curves(noise=1.2)))) == 2


def test_the_size_of_rounding_is_drawn_where_it_matters() -> None:
    matters, far = (curves_figure(some_curves(noise=n)).axes[1].lines for n in (0.4, 0.009))
    assert [line.get_label() for line in matters[:2]] == ["update", "rounding"]
    assert "rounding" not in [line.get_label() for line in far]


def figure_bands(figure: Any) -> list[Any]:
    return list(figure.axes[0].patches)


def test_comparisons_draw_every_value_and_leave_gaps_for_undefined_ones() -> None:
    figure = compare_figure(["one", "two", "three"], {"mds": [0.5, None, 0.9], "mu": [0.1, -0.2, 0.3]})
    widths = [p.get_width() for p in figure.axes[0].patches]
    assert widths == [0.5, 0.9]
    assert [p.get_width() for p in figure.axes[1].patches] == [0.1, -0.2, 0.3]


def test_curves_of_several_runs_lie_over_each_other_with_one_legend() -> None:
    first, second = Curve("a", STEPS, np.arange(11.0)), Curve("b", STEPS[:3], np.ones(3))
    lag = [Curve("a", [0, 1, 2], np.zeros(3))]
    figure = overlay_figure([("angle (°)", "epoch", [first, second]), ("mu lag", "lag", lag)], marks=[STEPS[4]])
    angle, other = figure.axes[:2]
    assert [len(line.get_xdata()) for line in angle.lines if line.get_label() in ("a", "b")] == [11, 3]
    assert (angle.get_xlabel(), angle.get_ylabel(), other.get_xlabel()) == ("epoch", "angle (°)", "lag")
    assert len({line.get_color() for line in angle.lines if line.get_label() in ("a", "b")}) == 2
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "b"]
    assert len(other.lines) == 1, "a step's mark is none of a lag's"


def test_saved_files_are_what_their_suffix_says(tmp_path: Path) -> None:
    figure = map_figure([Panel(a_map(), STEPS)])
    png, svg, pdf = (save(figure, tmp_path / f"map.{kind}", dpi=100) for kind in ("png", "svg", "pdf"))
    assert png.read_bytes().startswith(b"\x89PNG")
    width = int.from_bytes(png.read_bytes()[16:20], "big")
    assert width == 330, "3.3 inches at 100 dots an inch"
    assert b"<svg" in svg.read_bytes()
    assert b"/Type3" not in pdf.read_bytes()
    assert b"/FontFile2" in pdf.read_bytes(), "TrueType fonts are embedded"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.pdf", "map.png", "map.svg"]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_figure_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    files = [save(map_figure([Panel(a_map(), STEPS)]), tmp_path / f"{k}.{kind}") for k in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_unknown_suffix_is_refused_and_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"map\.jpeg") as caught:
        save(map_figure([Panel(a_map(), STEPS)]), tmp_path / "map.jpeg")
    assert ".png" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.timing
def test_figures_can_be_made_in_threads_and_leave_the_settings_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    made: list[Any] = []
    threads = [threading.Thread(target=lambda: made.append(map_figure([Panel(a_map(), STEPS)]))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert {f.axes[0].xaxis.label.get_size() for f in made} == {8.0}
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("step", "label"), [(0, "0"), (512, "512"), (1500, "1.5k"), (143000, "143k"), (2_000_000, "2M")]
)
def test_step_labels_are_short(step: int, label: str) -> None:
    assert step_label(step) == label


def test_no_two_steps_of_an_axis_have_one_label() -> None:
    assert step_labels([0, 1500, 143000]) == ["0", "1.5k", "143k"]
    close = [1_000_000_000, 1_000_000_001, 1_006_172_835]
    assert step_labels(close) == ["1000M", "1000.000001M", "1006.172835M"]
    image = map_figure([Panel(a_map(3), close)])
    assert len({t.get_text() for t in image.axes[0].get_xticklabels()}) == len(image.axes[0].get_xticklabels())


@pytest.mark.parametrize(("count", "most"), [(1, 5), (2, 5), (29, 7), (154, 7), (0, 3)])
def test_ticks_are_few_and_hold_both_ends(count: int, most: int) -> None:
    places = tick_places(count, most)
    assert len(places) <= most
    assert not count or (places[0], places[-1]) == (0, count - 1)


@pytest.mark.slow
@pytest.mark.parametrize("count", slow_but([0, 1, 2, 3], [1]))
def test_few_or_undefined_points_still_make_figures(tmp_path: Path, count: int) -> None:
    nothing = [np.full(max(0, count - k), np.nan) for k in (2, 1, 0, 0, 1, 1)]
    empty = np.full((count, count), np.nan)
    steps = STEPS[:count]
    figures = [
        curves_figure(Curves(steps, *nothing, np.zeros(max(0, count - 1), bool))),
        map_figure([Panel(empty, steps), Panel(empty[1:, 1:], steps[1:])], marks=[1]),
        layer_grid([Panel(empty, steps)] * 3),
        qkv_figure(["layer/0"], np.array([[empty] * 3]), steps, *(np.full((1, 3), np.nan) for _ in range(3))),
        compare_figure(["a"], {"mds": [None]}),
    ]
    for number, figure in enumerate(figures):
        assert save(figure, tmp_path / f"{number}.png", dpi=50).stat().st_size > 1000
