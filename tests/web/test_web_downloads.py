"""Every picture of every view is there as PNG, as SVG, and as its data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_maps import until
from service_process import Server

pytestmark = [pytest.mark.slow, pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]
PICTURES = ".uplot, canvas.map, .tile canvas, canvas.thumb"
VIEWS = {
    "runs": "#/",
    "run": "#/run/logged?view=rtm",
    "grid": "#/run/pythia-nano/layers",
    "components": "#/run/pythia-nano/layers?show=components",
    "qkv": "#/run/pythia-nano/layers?show=qkv",
    "depth": "#/run/pythia-nano/layers?show=depth",
    "compare": "#/compare?runs=pythia-nano,plain",
    "family": "#/family/pair",
}
LACKING = """(pictures) => [...document.querySelectorAll(pictures)].filter((picture) => {
  const sheet = picture.matches(".tile canvas, canvas.thumb");
  const place = picture.closest(sheet ? "main" : "section");
  const wanted = sheet ? "maps" : picture.matches("canvas.map") ? "map" : "chart";
  const buttons = [...place.querySelectorAll("[aria-label^=Download] button")].map((b) => b.getAttribute("aria-label"));
  return !["PNG", "SVG", "CSV"].every((form) => buttons.some((b) => new RegExp(`^Download (all )?${wanted} as ${form}$`).test(b)));
}).map((picture) => picture.outerHTML.slice(0, 200))"""


def saved(page: Any, place: str, form: str) -> bytes:
    with page.expect_download() as waiting:
        page.locator(f"{place} button[aria-label$='as {form}']").first.click()
    return Path(waiting.value.path()).read_bytes()


@pytest.mark.parametrize("view", VIEWS)
def test_no_picture_is_without_its_three_forms(site: Server, open_page: Open, view: str) -> None:
    page = open_page(f"{site.address}/{VIEWS[view]}")
    page.wait_for_selector(PICTURES)
    page.wait_for_timeout(800)
    assert page.locator(PICTURES).count() > 0
    assert page.evaluate(LACKING, PICTURES) == []


@pytest.mark.parametrize(
    ("view", "place"),
    [
        ("runs", ".toolbar"),
        ("grid", ".controls"),
        ("components", ".controls"),
        ("qkv", "[data-chart=qkv-settling]"),
        ("depth", "[data-chart=depth]"),
        ("compare", ".compare .panel"),
        ("compare", "[data-chart=norm]"),
        ("family", ".charthead.section"),
        ("family", "[data-chart=mds-by]"),
        ("run", "[data-chart=rate]"),
    ],
)
def test_the_three_forms_hold_something(site: Server, open_page: Open, view: str, place: str) -> None:
    page = open_page(f"{site.address}/{VIEWS[view]}")
    page.wait_for_selector(f"{place} button[aria-label$='as PNG']")
    page.wait_for_timeout(800)
    assert saved(page, place, "PNG").startswith(b"\x89PNG")
    svg = saved(page, place, "SVG")
    assert svg.startswith(b"<svg")
    assert b"<image" in svg or b"<polyline" in svg
    assert len(saved(page, place, "CSV").splitlines()) > 1


def test_a_sheet_of_maps_holds_those_of_the_api(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/family/pair")
    until(page, "document.querySelector('.family .grid')?.dataset.painted >= 2")
    parts = saved(page, ".charthead.section", "CSV").decode().split("# ")[1:]
    assert [p.splitlines()[0] for p in parts] == ["pythia-nano", "plain"]
    for part in parts:
        name, _, *lines = part.strip().splitlines()
        _, _, answer = site.ask(f"/v1/runs/{name}/map")
        found = [[float(v) for v in line.split(",")[1:]] for line in lines]
        np.testing.assert_allclose(found, answer["map"], rtol=1e-9)
