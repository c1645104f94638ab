"""What the page draws, held against values: pixels by an oracle that shares nothing with it, and waiting for the page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import matplotlib

PIXELS = """cells => {
  const canvas = document.querySelector("canvas.map"), view = canvas.view, size = canvas.width;
  const data = canvas.getContext("2d").getImageData(0, 0, size, size).data;
  return cells.map(([i, j]) => {
    const x = Math.floor(view.axis.centres[j] * size), y = Math.floor(view.axis.centres[i] * size);
    return Array.from(data.slice(4 * (y * size + x), 4 * (y * size + x) + 3));
  });
}"""


def colour(value: float, low: float, high: float, name: str) -> list[int]:
    """The colour that matplotlib gives a value: an oracle that shares nothing with the page."""
    share = (value - low) / (high - low)
    return [int(v) for v in matplotlib.colormaps[name](min(1.0, max(0.0, share)), bytes=True)[:3]]


def assert_drawn(page: Any, answer: dict[str, Any], low: float, high: float, name: str) -> None:
    """Cells all over the map have the colour of the value that the API gives."""
    values = answer["map"]
    n = len(values)
    at = sorted({0, 1, n // 3, n // 2, n - 2, n - 1})
    cells = [[i, j] for i in at for j in at]
    for (i, j), found in zip(cells, page.evaluate(PIXELS, cells), strict=True):
        assert found == colour(values[i][j], low, high, name), (i, j, values[i][j])


def until(page: Any, what: str, seconds: float = 180.0) -> None:
    """Waits for an expression of the page to be true; wait_for_function would need the policy to allow eval."""
    end = time.monotonic() + seconds
    while not page.evaluate(what):
        assert time.monotonic() < end, what
        page.wait_for_timeout(50)


def settled(page: Any) -> None:
    """Waits until nothing of the document has changed for a quarter of a second."""
    page.evaluate(
        """() => new Promise((done) => {
          let timer = setTimeout(end, 250);
          const seen = new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(end, 250); });
          function end() { seen.disconnect(); requestAnimationFrame(() => done()); }
          seen.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
        })"""
    )


def eventually(page: Any, check: Callable[[], object], seconds: float = 180.0) -> None:
    """Waits for ``check`` to raise no AssertionError any more; the last one is raised."""
    end = time.monotonic() + seconds
    while True:
        try:
            check()
            return
        except AssertionError:
            if time.monotonic() > end:
                raise
        page.wait_for_timeout(50)


def compared(found: object, wanted: object) -> None:
    assert found == wanted


def drawn_by_its_sign(page: Any, answer: dict[str, Any]) -> None:
    """The map is drawn in the colours of a scale with two sides where it begins below zero, else of one with one side."""
    low, high = scale_of(page)
    assert_drawn(page, answer, low, high, "RdBu_r" if low < 0 else "viridis")


def ready(page: Any) -> None:
    page.wait_for_selector(".run[data-ready]")
    page.wait_for_timeout(250)


def scale_of(page: Any) -> tuple[float, float]:
    low, high = (float(page.input_value(f"[data-scale={name}]")) for name in ("lo", "hi"))
    return low, high


def phases_shown(page: Any) -> list[tuple[int, int]]:
    """The first and last step of every phase in the list."""
    links = page.locator(".phases a").evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    return [(int(re.search(r"from=(\d+)", a)[1]), int(re.search(r"to=(\d+)", a)[1])) for a in links]  # type: ignore[index]
