"""Small pictures of text: maps in half blocks, bars, lines, numbers."""

from __future__ import annotations

import io

import numpy as np
import pytest

from trajsvc.cli.terminal import bar, colour, heat, new_table, number, shrink, sparkline, step_number


def test_a_map_in_colour_has_half_a_line_for_every_row() -> None:
    from rich.console import Console

    values = np.linspace(0, 1, 25).reshape(5, 5)
    picture = heat(values, colours=True)
    assert picture.plain == "▀▀▀▀▀\n" * 3
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="truecolor").print(picture, end="")
    red, green, blue = colour(float(values[1, 4]), 0.0, 1.0)
    assert f"48;2;{red};{green};{blue}" in out.getvalue(), "the lower half of a block is the row below"


def test_without_colour_shades_grow_with_the_value() -> None:
    lines = heat(np.array([[0.0, 0.3], [0.5, 1.0]]), colours=False).plain.splitlines()
    assert lines == ["  ░░", "▒▒██"]
    assert heat(np.array([[np.nan]]), colours=False).plain == "··\n"


def test_shrinking_takes_means_of_what_is_defined() -> None:
    values = np.arange(16.0).reshape(4, 4)
    values[0, 0] = np.nan
    np.testing.assert_allclose(shrink(values, 2), [[(1 + 4 + 5) / 3, 4.5], [10.5, 12.5]])
    assert shrink(np.full((9, 9), np.nan), 3).shape == (3, 3)
    assert np.isnan(shrink(np.full((9, 9), np.nan), 3)).all()
    assert shrink(values, 4) is values
    assert shrink(np.ones((154, 154)), 48).shape == (48, 48)


def test_colours_run_from_dark_to_bright_and_grey_is_undefined() -> None:
    sums = [sum(colour(v, 0.0, 1.0)) for v in np.linspace(0, 1, 9)]
    assert sums == sorted(sums)
    assert len(set(colour(float("nan"), 0.0, 1.0))) == 1
    red, _, blue = colour(0.9, -1.0, 1.0)
    assert red > blue
    red, _, blue = colour(-0.9, -1.0, 1.0)
    assert blue > red


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0"), (1.0, "1.000"), (0.72504, "0.7250"), (-0.05, "-0.05000"),
     (113.04, "113.0"), (12345.6, "12346"), (2.5e-7, "2.500e-07"), (3.2e9, "3.200e+09")],
)  # fmt: skip
def test_numbers_for_people(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (16.0, "16"), (2.52, "2.5"), (22143.7, "22144")])
def test_steps_for_people(value: float | None, text: str) -> None:
    assert step_number(value) == text


def test_bars_and_lines() -> None:
    assert [bar(v, 1.0) for v in (0.0, 1.0, 0.5, 0.0625, None)] == ["", "█" * 10, "█" * 5, "▋", ""]
    assert sparkline([1, 2, 3]) == "▁▅█"
    assert sparkline([1, None, 3]) == "▁·█"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([None]) == ""
    assert len(sparkline(list(range(1000)), 24)) == 24


WIDE = ["run", ">MDS", "", ">relative MDS", "~source", ">path length", ">tortuosity", ">settles at"]
ROWS = [
    (
        "pythia-70m-deduped",
        "0.8104",
        "████████",
        "0.5681",
        "hf://EleutherAI/pythia-70m-deduped",
        "39.13",
        "1.841",
        "940",
    ),
    ("b", "0.7902", "███", "[bold]0.4721[/bold]", "/data/b", "40.88", "2.086", "1477"),
]


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40])
def test_no_cell_of_a_table_is_cut_at_any_width(width: int) -> None:
    from rich.console import Console
    from rich.text import Text

    table = new_table(WIDE)
    for row in ROWS:
        table.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in out.getvalue()
    words = " ".join(lines).split()
    for k, title in enumerate(WIDE):
        for row in ROWS:
            cell = Text.from_markup(row[k]).plain
            if title.startswith(">"):
                assert cell in words, "a number is whole"
            elif title:
                letters = "".join(out.getvalue().split())
                assert all(letter in letters for letter in cell)
    for title in WIDE:
        assert all(word in words for word in title.lstrip(">~").split())


def test_an_id_is_never_folded() -> None:
    from rich.console import Console

    table = new_table(["=job", "state", "~why"])
    table.add_row("0" * 32, "failed", "the disk is full " * 8)
    out = io.StringIO()
    Console(file=out, width=60, highlight=False).print(table)
    assert "0" * 32 in out.getvalue().split()


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_long_id_or_path_costs_no_digit_beside_it(width: int) -> None:
    from rich.console import Console
    from rich.markup import escape

    tensor = "gpt_neox.layers.23.attention.query_key_value.weight[q.15]"
    path = "/data/" + "checkpoints-of-a-run/" * 6
    table = new_table(["=matrix", ">sigma_1", "source", ">steps"])
    table.add_row(escape(tensor), "-1.234e-05", path, "1006172835")
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert {"-1.234e-05", "1006172835"} <= set(" ".join(lines).split())
    letters = sorted(c for c in out.getvalue() if not c.isspace() and c != "─")
    once = sorted("matrix" + tensor + "sigma_1" + "-1.234e-05" + "source" + path + "steps" + "1006172835")
    parts = sum(set(line) == {"─"} for line in lines)  # the id is repeated with every part
    assert letters == sorted([*once, *(parts - 1) * ("matrix" + tensor)])
