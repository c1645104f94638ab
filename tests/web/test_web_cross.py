"""Two runs against each other in a browser: asked for, computed, drawn with both axes, with where they began."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_findings import findings
from service_process import Server

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_two_runs_are_compared_from_the_page(site: Server, open_page: Open, dark: bool) -> None:
    page = open_page(f"{site.address}/#/compare?runs=logged,logged-faster", dark=dark)
    page.click("text=Against each other: all pairs of checkpoints")
    page.wait_for_selector(".cross[data-ready]")
    open_page.expected.append("404")  # type: ignore[attr-defined]
    if site.ask("/v1/cross?a=logged&b=logged-faster")[0] == 404:
        page.click("button:has-text('Compare them')")
    page.wait_for_selector(".cross canvas.map", timeout=240_000)
    page.wait_for_selector(".starts:has-text('Began at the same point')")
    _, _, answer = site.ask("/v1/cross?a=logged&b=logged-faster")
    assert answer["same_start"] is False
    said = page.locator(".starts").text_content()
    assert "Began at the same pointno: ‖θᵇ₀ − θᵃ₀‖ is" in said
    with page.expect_download() as waiting:
        page.click(".cross button:has-text('CSV')")
    header, *rows = csv.reader(Path(waiting.value.path()).read_text().splitlines())
    assert [int(s) for s in header[1:]] == answer["steps_b"]
    assert [int(r[0].removeprefix("step ")) for r in rows] == answer["steps_a"]
    for row, want in zip(rows, answer["map"], strict=True):
        for value, cosine in zip(row[1:], want, strict=True):
            assert (value == "") == (cosine is None)
            assert cosine is None or float(value) == pytest.approx(cosine, rel=1e-12)
    image = page.locator("canvas.map").bounding_box()
    page.mouse.move(image["x"] + 0.55 * image["width"], image["y"] + 0.3 * image["height"])
    tip = page.locator(".tip").text_content()
    row, column = int(0.3 * len(answer["steps_a"])), page.evaluate("document.querySelector('canvas.map').view.cell[1]")
    assert f"step {answer['steps_a'][row]}" in tip
    assert f"logged-faster: step {answer['steps_b'][column]}" in tip
    page.get_by_role("button", name="distances").click()
    page.get_by_role("button", name="zero").click()
    page.wait_for_selector("h2:has-text('Distances, logged × logged-faster')")
    assert findings(page) == []


@pytest.mark.slow
def test_a_phone_shows_two_runs_without_scrolling_sideways(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/cross?a=logged&b=plain", width=390, height=844)
    page.wait_for_selector(".cross[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    open_page.expected.append("404")  # type: ignore[attr-defined]
