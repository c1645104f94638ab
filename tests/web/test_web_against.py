"""Many runs in a browser: points where the server says, a brush that filters table and points, all of it in the address."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_findings import findings
from service_process import Server

from storage_schema.runs.store import RunStore

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]
SET = {
    "plain": {"lr": 0.1, "seed": 0},
    "patchy": {"lr": 0.01, "seed": 0},
    "logged": {"lr": 0.01, "seed": 1},
}
WHERE = "where=wave%3D7&ignore=size"


@pytest.fixture(scope="module")
def described(site: Server) -> Iterator[Server]:
    """Three runs of the site with rates and seeds, found by a hyperparameter of their own."""
    for name, values in SET.items():
        RunStore(site.store).describe(name, given={**values, "wave": 7})
    yield site
    for name, values in SET.items():
        RunStore(site.store).describe(name, unset=[*values, "wave"])


def ready(page: Any, runs: int) -> None:
    page.wait_for_selector(f".against[data-ready$=' {runs}']")


def test_points_are_the_servers_values(described: Server, open_page: Open) -> None:
    _, _, answer = described.ask(f"/v1/against?{WHERE}&by=lr&names=mds")
    page = open_page(f"{described.address}/#/against?{WHERE}&by=lr&names=mds")
    ready(page, 3)
    with page.expect_download() as waiting:
        page.click("[data-chart=mds] button:has-text('CSV')")
    _, *rows = csv.reader(Path(waiting.value.path()).read_text().splitlines())
    own = {row["run"]: (row["place"], row["measures"]["mds"]) for row in answer["rows"]}
    assert {r[0]: float(r[1]) for r in rows} == {name: place for name, (place, _) in own.items()}
    assert {r[0]: float(r[2]) for r in rows} == pytest.approx({name: value for name, (_, value) in own.items()})
    assert page.locator("[data-chart=mds]").get_attribute("data-points") == "3"
    assert "lr" in page.locator("h2", has_text="MDS against lr").inner_text()


@pytest.mark.slow
def test_a_brush_filters_the_table_and_is_in_the_address(described: Server, open_page: Open) -> None:
    page = open_page(f"{described.address}/#/against?{WHERE}&by=seed&names=mds")
    ready(page, 3)
    axis = page.locator("[data-axis=lr]")
    axis.scroll_into_view_if_needed()
    box = axis.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + box["height"] * 0.6)
    page.mouse.down()
    page.mouse.move(box["x"] + 9, box["y"] + box["height"] - 2, steps=4)
    page.mouse.up()
    ready(page, 2)
    assert page.locator(".against [aria-label=Runs] tbody th a").all_text_contents() == ["patchy", "logged"]
    assert "brush=lr" in page.url
    assert page.locator("[data-chart=mds]").get_attribute("data-points") == "2"
    page.reload()
    ready(page, 2)
    upper = page.get_by_label("Upper end of the brush on lr")
    upper.focus()
    page.keyboard.press("Escape")
    ready(page, 3)
    assert "brush" not in page.url


def test_conditions_that_no_run_meets_are_said(described: Server, open_page: Open) -> None:
    page = open_page(f"{described.address}/#/against?where=wave%3D8")
    page.wait_for_selector("text=no run meets all of this")
    page.get_by_label("Where", exact=True).fill("wave=7")
    page.get_by_label("Where", exact=True).press("Enter")
    ready(page, 3)
    open_page.expected.append("422")  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_and_a_phone_scrolls_down_only(described: Server, open_page: Open, dark: bool) -> None:
    page = open_page(f"{described.address}/#/against?{WHERE}&by=lr&brush=lr~0~0.5", dark=dark, width=390, height=844)
    ready(page, 2)
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
