"""The tab of rows in a browser: what it draws is what the API says, and all of it is in the address."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from axe_findings import findings
from drawn_maps import compared, eventually
from service_process import EXAMPLES, Server

import trajsvc

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]
TAB = "#/run/pythia-nano/rows"
API = "/v1/runs/pythia-nano/rows"
READY = ".rowsview[data-ready=true] canvas.heat"


def table(page: Any) -> list[list[str]]:
    with page.expect_download() as waiting:
        page.click(".heatpanel button:has-text('CSV')")
    return list(csv.reader(Path(waiting.value.path()).read_text().splitlines()))


def test_the_picture_and_the_table_are_what_the_api_says(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/{TAB}?group=layer/1/mlp.in")
    page.wait_for_selector(READY)
    answer = site.ask(f"{API}?group=layer/1/mlp.in&of=update&bins=48")[2]
    head, *rows = table(page)
    assert [int(step) for step in head[1:]] == answer["steps"]
    assert len(rows) == len(answer["rows"])
    for found, row in zip(rows, answer["rows"], strict=True):
        assert found[0] == f"row {row['row']}–{row['row'] + row['count'] - 1}"
        assert [float(v) for v in found[1:]] == pytest.approx(row["values"], rel=1e-9)
    most = site.ask(f"{API}?group=layer/1/mlp.in&of=update&top=10")[2]["rows"]
    shown = page.locator(".rowsview tbody td:nth-child(2)").all_text_contents()
    assert shown == [str(row["row"]) for row in most]
    assert findings(page) == []


def test_what_is_shown_is_in_the_address_and_a_value_is_read(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/{TAB}")
    page.wait_for_selector(READY)
    page.click("button[data-value=angle]")
    eventually(page, lambda: compared("of=angle" in page.url, True))
    page.select_option(".controls select.group", "layer/0/mlp.out")
    eventually(page, lambda: compared("group=layer/0/mlp.out" in unquote(page.url), True))
    answer = site.ask(f"{API}?group=layer/0/mlp.out&of=angle&bins=48")[2]
    page.wait_for_selector("text=The angle between each row")
    page.locator(".rowsview .mapbox").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)

    def read() -> float:
        return float(page.locator(".rowsview .tip .value").text_content().split()[-1].replace("−", "-"))

    eventually(page, lambda: compared(read(), pytest.approx(answer["rows"][1]["values"][1], rel=1e-4)))


def test_a_run_without_rows_says_how_to_have_them(site: Server, open_page: Open) -> None:
    trajsvc.analyze(EXAMPLES / "pythia-nano", store=site.store, name="no-rows", rows=False, threads=1)
    page = open_page(f"{site.address}/#/run/no-rows/rows")
    page.wait_for_selector(".rowsview[data-ready=true] .empty")
    assert "--rows" in page.locator(".rowsview .empty").text_content()
    open_page.expected.append("404")  # type: ignore[attr-defined]
