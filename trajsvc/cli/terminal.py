"""Draw small plots in a terminal: a map in half blocks, a bar, a line of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

VIRIDIS = ((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
           (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37))  # fmt: skip
DIVERGING = (
    (33, 102, 172),
    (103, 169, 207),
    (209, 229, 240),
    (247, 247, 247),
    (253, 219, 199),
    (239, 138, 98),
    (178, 24, 43),
)
SHADES = " ░▒▓█"
BLOCKS = "▁▂▃▄▅▆▇█"
UNDEFINED = (90, 90, 90)
NUMBERS_UP_TO = 12


def number(value: float | None, digits: int = 4) -> str:
    """Format a value for people: so many significant digits, a dash if it is undefined."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{decimals}f}"


CELLS = {"map_cells": ("mds", 0), "relative_map_cells": ("relative mds", 1)}
"""Counts of cells without a value, the mean over the others, and how many rows fewer than checkpoints the map has."""


def cells_noted(undefined: Mapping[str, Any], checkpoints: int) -> list[str]:
    """Say over how many cells a mean is taken, for those of maps that are not defined everywhere."""
    found = []
    for name, (mean, fewer) in CELLS.items():
        count, every = undefined.get(name, 0), (checkpoints - fewer) ** 2
        if count:
            found.append(
                f"{mean} is the mean over {every - count} of {every} cells of the map; the others are undefined"
            )
    return found


def step_number(value: float | None) -> str:
    """Format a step that may lie between two checkpoints: whole from 100 on, else to a tenth."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the scale: 0 … 1 from the tenth below the least, −1 … 1 when a cosine is negative."""
    finite = values[np.isfinite(values)]
    least = float(finite.min()) if finite.size else 0.0
    return (-1.0, 1.0) if least < -1e-6 else (max(0.0, np.floor(least * 10 - 1e-9) / 10), 1.0)


def colour(value: float, low: float, high: float) -> tuple[int, int, int]:
    """Return red, green, blue of a value on the scale from ``low`` to ``high``; grey if it is undefined."""
    if not np.isfinite(value):
        return UNDEFINED
    stops = DIVERGING if low < 0 else VIRIDIS
    at = float(np.clip((value - low) / (high - low), 0, 1)) * (len(stops) - 1)
    k = min(int(at), len(stops) - 2)
    red, green, blue = (round(a + (at - k) * (b - a)) for a, b in zip(stops[k], stops[k + 1], strict=True))
    return red, green, blue


def shrink(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Reduce a square map to at most ``most`` rows by means over the defined cells of near-equal tiles."""
    n = len(values)
    if n <= most:
        return values
    edges = np.linspace(0, n, most + 1).round().astype(int)
    defined = np.isfinite(values)
    sums = np.add.reduceat(np.add.reduceat(np.where(defined, values, 0.0), edges[:-1], 0), edges[:-1], 1)
    counts = np.add.reduceat(np.add.reduceat(defined.astype(float), edges[:-1], 0), edges[:-1], 1)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def heat(values: NDArray[np.float64], *, colours: bool, most: int = 48) -> Text:
    """Draw a map as text: two rows of cells in one line of coloured half blocks, or shades of grey without colour."""
    from rich.text import Text

    small = shrink(values, most)
    low, high = limits(values)
    picture = Text()
    if not colours:
        for row in small:
            picture.append("".join(2 * _shade(v, low, high) for v in row) + "\n")
        return picture
    for top in range(0, len(small), 2):
        for column in range(len(small)):
            upper = "#{:02x}{:02x}{:02x}".format(*colour(small[top, column], low, high))
            if top + 1 < len(small):
                lower = "#{:02x}{:02x}{:02x}".format(*colour(small[top + 1, column], low, high))
                picture.append("▀", style=f"{upper} on {lower}")
            else:
                picture.append("▀", style=upper)
        picture.append("\n")
    return picture


def _shade(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return "·"
    return SHADES[min(len(SHADES) - 1, int(np.clip((value - low) / (high - low), 0, 1) * len(SHADES)))]


def bar(value: float | None, most: float, width: int = 10) -> str:
    """Draw a bar of at most ``width`` characters for a value between 0 and ``most``."""
    if value is None or not np.isfinite(value) or most <= 0:
        return ""
    eighths = round(8 * width * min(1.0, max(0.0, value / most)))
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


def sparkline(values: Sequence[float | None], width: int = 24) -> str:
    """Draw a line of blocks from the least to the greatest value; a dot where none is defined."""
    array = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    if not np.isfinite(array).any():
        return ""
    tiles = np.array_split(array, min(width, len(array)))
    means = [float(np.mean(t[np.isfinite(t)])) if np.isfinite(t).any() else np.nan for t in tiles]
    low, high = np.nanmin(means), np.nanmax(means)
    span = high - low or 1.0
    return "".join("·" if np.isnan(m) else BLOCKS[min(7, int((m - low) / span * 8))] for m in means)


GAP = 3
"""Characters between two columns of a table."""
LEAST_TEXT = 16
"""Characters to which a column of text is folded before columns are moved below."""


class Columns:
    """A plain table that is never truncated: columns that do not fit side by side are printed below, with the first
    column repeated.

    A title that begins with ``>`` is aligned right; one that begins with ``~`` is text, which is folded if room is
    short, as the first column is unless its title begins with ``=`` (an id, to be copied), which is folded only where it
    leaves no room for another column beside it. A column without a title is decoration (a bar) and is left out if room
    is short.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self._rows: list[tuple[str, ...]] = []

    @property
    def row_count(self) -> int:
        return len(self._rows)

    def add_row(self, *cells: str) -> None:
        """Add a row, one cell a column, as rich's markup."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for k, chosen in enumerate(self._parts(options.max_width)):
            if k:
                yield ""
            yield self._table(chosen, options.max_width)

    def _widths(self) -> list[int]:
        from rich.cells import cell_len
        from rich.text import Text

        titles = [max(map(cell_len, title.lstrip(">~=").split("\n"))) for title in self.columns]
        return [
            max([titles[k], *(cell_len(Text.from_markup(row[k]).plain) for row in self._rows)])
            for k in range(len(self.columns))
        ]

    def _folded(self, chosen: Sequence[int], widths: Sequence[int], room: int) -> set[int]:
        """Return which of the ``chosen`` columns are folded: text, and of others, the widest first, what would be cut."""
        folded = {k for k in chosen if self.columns[k][:1] == "~" or (k == 0 and self.columns[0][:1] != "=")}

        def needed() -> int:
            least = (min(widths[k], LEAST_TEXT) if k in folded else widths[k] for k in chosen)
            return sum(least) + GAP * (len(chosen) - 1)

        while needed() > room and (wide := [k for k in chosen if k not in folded and widths[k] > LEAST_TEXT]):
            folded.add(max(wide, key=widths.__getitem__))
        return folded

    def _parts(self, room: int) -> list[list[int]]:
        """Return the columns that stand side by side, part by part."""
        widths = self._widths()
        every = list(range(len(self.columns)))
        if sum(widths) + GAP * (len(widths) - 1) <= room:
            return [every]
        titled = [k for k in every[1:] if self.columns[k]]
        folded = {i for k in titled for i in self._folded([0, k], widths, room)}
        least = [min(w, LEAST_TEXT) if k in folded else w for k, w in enumerate(widths)]
        parts, here = [], [0]
        for k in titled:
            if len(here) > 1 and sum(least[i] for i in [*here, k]) + GAP * len(here) > room:
                parts.append(here)
                here = [0]
            here.append(k)
        return [*parts, here]

    def _table(self, chosen: Sequence[int], room: int) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        widths = self._widths()
        short = sum(widths[k] for k in chosen) + GAP * (len(chosen) - 1) > room
        folded = self._folded(chosen, widths, room) if short else set()
        for k in chosen:
            title = self.columns[k]
            justify: Literal["left", "right"] = "right" if title[:1] == ">" else "left"
            if k in folded:
                table.add_column(title.lstrip(">~="), justify=justify, overflow="fold", min_width=min(8, widths[k]))
            else:
                table.add_column(title.lstrip(">~="), justify=justify, no_wrap=True, min_width=widths[k])
        for row in self._rows:
            table.add_row(*(row[k] for k in chosen))
        return table


def new_table(columns: Sequence[str]) -> Columns:
    """Make a table; see ``Columns`` for the titles."""
    return Columns(columns)


def estimate_mark(fraction: float | None) -> str:
    """Return the mark after the name of a run that is an estimate from a share of its parameters."""
    return " [yellow](estimate)[/yellow]" if fraction is None else f" [yellow](estimate, {fraction:.1%})[/yellow]"


def _span(first: int | None, last: int | None) -> str:
    return "–" if first is None else f"{first} … {last}"
