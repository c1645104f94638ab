"""Downloaded figures say what they are of, and every map in them stands where its name says."""

from __future__ import annotations

import base64
import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from drawn_maps import colour, until
from service_process import Server
from slow_params import slow_but

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]
SVG = "{http://www.w3.org/2000/svg}"
PARTS = {
    "Q": "attention.q",
    "K": "attention.k",
    "V": "attention.v",
    "out": "attention.out",
    "MLP gate": "mlp.gate",
    "MLP in": "mlp.in",
    "MLP out": "mlp.out",
    "norm": "norm",
}


def figure(page: Any, place: str) -> ET.Element:
    """The figure that the first SVG button within ``place`` downloads."""
    with page.expect_download() as waiting:
        page.locator(f"{place} button[aria-label$='as SVG']").first.click()
    return ET.fromstring(Path(waiting.value.path()).read_bytes())


def texts(svg: ET.Element) -> list[str]:
    return [e.text or "" for e in svg.iter(f"{SVG}text")]


def said(svg: ET.Element) -> str:
    """Title and caption: the lines at the top, in order."""
    head = [e for e in svg.iter(f"{SVG}text") if float(e.get("y", "0")) < 60 and e.get("text-anchor") == "start"]
    return " ".join(e.text or "" for e in sorted(head, key=lambda e: float(e.get("y", "0"))))


def images(svg: ET.Element) -> list[tuple[float, float, Any]]:
    """(x, y, pixels) of every square image: the maps, without the bar of colours."""
    found = []
    for e in svg.iter(f"{SVG}image"):
        if e.get("width") == e.get("height"):
            data = base64.b64decode(e.get("href", "").partition("base64,")[2])
            pixels = matplotlib.image.imread(io.BytesIO(data))
            found.append((float(e.get("x", "0")), float(e.get("y", "0")), np.rint(255 * pixels[..., :3]).astype(int)))
    return found


@pytest.mark.slow
def test_every_map_of_the_components_stands_in_its_row_and_column(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/patchy/layers?show=components")
    until(page, "document.querySelector('.matrixscroll')?.dataset.painted >= 4")
    low, high = (float(page.input_value(f"[data-scale={name}]")) for name in ("lo", "hi"))
    svg = figure(page, ".controls")
    at = {(e.text, e.get("text-anchor")): e for e in svg.iter(f"{SVG}text")}
    columns = {name: float(at[name, "middle"].get("x", "0")) for name in "01234"}
    rows = {name: float(at[name, "end"].get("y", "0")) for name in PARTS}
    known = {g["id"] for g in site.ask("/v1/runs/patchy/groups")[2]}
    seen = set()
    for x, y, pixels in images(svg):
        column = min(columns, key=lambda c: abs(columns[c] - x - 75))
        row = min(rows, key=lambda r: abs(rows[r] - y - 75))
        group = f"layer/{column}/{PARTS[row]}"
        seen.add(group)
        answer = site.ask(f"/v1/runs/patchy/map?group={group}")[2]["map"]
        side, n = len(pixels), len(answer)
        for i, j in ((0, n - 1), (n // 2, 1), (n - 2, 3)):
            found = pixels[int((i + 0.5) * side / n), int((j + 0.5) * side / n)].tolist()
            assert found == colour(answer[i][j], low, high, "viridis"), (group, i, j)
    assert seen == {g for g in known if re.fullmatch(r"layer/\d/.+", g)}


FIGURES = {
    "map": (
        "#/run/pythia-nano?view=rtm&origin=512&group=layer%2F1%2Fattention.q",
        ".mappanel",
        ["pythia-nano", "layer/1/attention.q", "origin: step 512", "14 checkpoints, steps 0 to 5k"],
        "checkpoint, by its step",
    ),
    "map, linear": (
        "#/run/pythia-nano?axis=linear",
        ".mappanel",
        ["pythia-nano", "the network", "steps 0 to 5k"],
        "step",
    ),
    "map, log": ("#/run/pythia-nano?axis=log&from=0&to=512", ".mappanel", ["steps 0 to 512"], "step (log)"),
    "updates": (
        "#/run/pythia-nano?axis=linear&view=updates",
        ".mappanel",
        ["Cosines of updates"],
        "step at which the update ends",
    ),
    "tokens": ("#/run/logged?along=tokens&axis=linear", ".mappanel", ["logged"], "tokens"),
    "curves": (
        "#/run/pythia-nano?group=layer%2F2",
        "[data-chart=angles]",
        ["Angles", "pythia-nano", "layer/2", "steps 0 to 5k"],
        "checkpoint, by its step",
    ),
    "compared map": (
        "#/compare?runs=logged,logged-faster&align=tokens&view=rtm&origin=200",
        ".sidebyside",
        ["logged", "the network", "origin: step 200"],
        "tokens",
    ),
    "compared curves": (
        "#/compare?runs=logged,logged-faster&align=fraction",
        "[data-chart=norm]",
        ["the network", "logged, logged-faster"],
        "fraction of training",
    ),
    "depth": (
        "#/run/pythia-nano/layers?show=depth&from=64&to=5000",
        "[data-chart=depth]",
        ["pythia-nano", "steps 64 to 5k"],
        "layer, in order of depth",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("which", slow_but(FIGURES, ["map", "map, log", "tokens", "compared curves"]))
def test_a_figure_says_run_group_origin_and_axis(site: Server, open_page: Open, which: str) -> None:
    address, place, words, axis = FIGURES[which]
    page = open_page(f"{site.address}/{address}")
    page.wait_for_selector(f"{place} canvas")
    until(page, "!document.querySelector('.run') || document.querySelector('.run[data-ready]')")
    svg = figure(page, place)
    for word in words:
        assert word in said(svg), said(svg)
    assert axis in texts(svg)
    assert ("step" in texts(svg)) == (axis == "step")


def test_a_sheet_of_maps_says_run_origin_and_axes(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/pythia-nano/layers?view=rtm&origin=512")
    until(page, "document.querySelector('.grid')?.dataset.painted >= 7")
    svg = figure(page, ".controls")
    for word in ("pythia-nano", "Relative trajectory map", "origin: step 512", "checkpoints in their order"):
        assert word in said(svg)


def test_a_long_title_stays_within_the_figure(site: Server, open_page: Open) -> None:
    group = next(g["id"] for g in site.ask("/v1/runs/pythia-nano/groups?match=tensor/*query_key_value*")[2])
    page = open_page(f"{site.address}/#/run/pythia-nano?group={group}&view=rtm")
    page.wait_for_selector(".run[data-ready]")
    svg = figure(page, ".mappanel")
    width = float(svg.get("width", "0"))
    for e in svg.iter(f"{SVG}text"):
        if e.get("text-anchor") == "start":
            wide = page.evaluate(
                """([text, size, weight]) => { const c = document.createElement("canvas").getContext("2d");
                c.font = `${weight} ${size}px system-ui`; return c.measureText(text).width; }""",
                [e.text, e.get("font-size"), e.get("font-weight") or "400"],
            )
            assert float(e.get("x", "0")) + wide <= width + 1, e.text


def test_small_maps_say_their_scale(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/")
    row = page.locator("tr", has_text="patchy")
    row.scroll_into_view_if_needed()
    until(
        page,
        "[...document.querySelectorAll('tr')].find((r) => r.textContent.includes('patchy'))?.querySelector('.mds').textContent",
    )
    least = np.min(site.ask("/v1/runs/patchy/map")[2]["map"])
    assert row.locator(".thumblink .hint").text_content() == f"{np.floor(10 * least) / 10:g} to 1"
    page.goto(f"{site.address}/#/family/pair")
    until(page, "document.querySelector('.family .grid')?.dataset.painted >= 2")
    lowest = min(np.min(site.ask(f"/v1/runs/{run}/map")[2]["map"]) for run in ("pythia-nano", "plain"))
    heading = page.locator(".family h2", has_text="Maps, on one scale").text_content()
    assert heading == f"Maps, on one scale: {np.floor(10 * lowest) / 10:g} to 1"


DECAYS = {
    "plain": (0.0, 0.9),
    "logged": (0.01, 0.9),
    "logged-faster": (0.0, 0.0),
    "deep": (0.1, 0.0),
    "patchy": (0.1, 0.0),
}


@pytest.mark.slow
def test_a_line_joins_members_that_are_equal_in_all_else(site: Server, open_page: Open) -> None:
    members = [
        {"source": f"runs:{n}", "name": n, "size": 1000, "hyperparameters": {"weight_decay": decay, "momentum": momentum}}
        for n, (decay, momentum) in DECAYS.items()
    ]  # fmt: skip
    assert site.ask("/v1/families/decay", method="PUT", body={"name": "decay", "title": "", "runs": members})[0] == 200
    _, _, answer = site.ask("/v1/families/decay/compare")
    mds = {row["member"]: row["mds"] for row in answer["rows"]}
    page = open_page(f"{site.address}/#/family/decay?by=weight_decay")
    with page.expect_download() as waiting:
        page.click("[data-chart=mds-by] button:has-text('CSV')")
    names, *rows = csv.reader(Path(waiting.value.path()).read_text().splitlines())
    found = {
        name: [(float(r[0]), float(r[k])) for r in rows if r[k]] for k, name in enumerate(names[1:], start=1) if name
    }
    near = pytest.approx
    assert found["momentum=0.9"] == [(0, near(mds["plain"])), (0.01, near(mds["logged"]))]
    assert found["momentum=0.0"][0] == (0, near(mds["logged-faster"]))
    assert sorted(y for x, y in found["momentum=0.0"] if x == 0.1) == near(sorted([mds["deep"], mds["patchy"]]))
    assert found["momentum=0.0, mean"][-1] == (0.1, near((mds["deep"] + mds["patchy"]) / 2))
    page.get_by_label("Against", exact=True).select_option("momentum")
    page.wait_for_selector("h3:has-text('MDS against momentum')")


@pytest.mark.slow
@pytest.mark.parametrize(("axis", "label"), [("epoch", "epoch"), ("index", "index of the checkpoint")])
def test_an_axis_that_counts_no_steps_is_not_called_step(site: Server, open_page: Open, axis: str, label: str) -> None:
    """The run's answer is the server's with another axis in it."""

    def renamed(route: Any) -> None:
        answer = route.fetch().json()
        assert answer["row"]["axis"] == "step"
        route.fulfill(json={**answer, "row": {**answer["row"], "axis": axis}})

    page = open_page(f"{site.address}/#/")
    page.route("**/v1/runs/plain", renamed)
    page.goto(f"{site.address}/#/run/plain?view=rtm&axis=linear")
    page.wait_for_selector(".run[data-ready]")
    texts = [t.text for t in figure(page, ".mappanel").iter(f"{SVG}text")]
    assert texts.count(label) == 2
    assert any(f"origin: {axis} 0" in (t or "") for t in texts)
    assert not any("step" in (t or "") for t in texts)


@pytest.mark.slow
def test_tiles_tables_and_comparisons_name_the_axis(site: Server, open_page: Open) -> None:
    """Readouts, headers of tables and of files, of a run whose checkpoints are epochs."""

    def renamed(route: Any) -> None:
        answer = route.fetch().json()
        route.fulfill(json={**answer, "row": {**answer["row"], "axis": "epoch"}})

    page = open_page(f"{site.address}/#/")
    page.route(re.compile(r"/v1/runs/(plain|logged)(\?.*)?$"), renamed)
    page.goto(f"{site.address}/#/run/plain/layers?axis=linear")
    until(page, "document.querySelector('.grid')?.dataset.painted >= 1")
    page.locator(".tile canvas").first.hover()
    until(page, "document.querySelector('.readout').textContent.includes(' at epochs ')")
    assert page.get_by_role("button", name="All steps").count() == 0
    with page.expect_download() as waiting:
        page.locator(".controls button[aria-label$='as CSV']").first.click()
    lines = Path(waiting.value.path()).read_text().splitlines()
    assert lines[1].startswith("epoch,")
    page.goto(f"{site.address}/#/run/plain/layers?show=table")
    page.wait_for_selector("th:has-text('Settling epoch')")
    page.goto(f"{site.address}/#/compare?runs=plain,logged")
    page.wait_for_selector("th:has-text('Settling epoch')")
    page.goto(f"{site.address}/#/run/plain?axis=linear")
    page.wait_for_selector(".run[data-ready]")
    with page.expect_download() as waiting:
        page.locator(".mappanel button[aria-label$='map as CSV']").first.click()
    assert Path(waiting.value.path()).read_text().startswith("epoch,")
