"""What of a run is seen at once: curves beside the map, legends that read without pointing, logarithms on demand, values on every map."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_findings import findings
from drawn_maps import ready, until
from service_process import Server

import trajsvc

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]


def box(page: Any, place: str) -> dict[str, float]:
    return page.locator(place).first.bounding_box()  # type: ignore[no-any-return]


@pytest.mark.slow
def test_map_curves_and_numbers_fill_the_first_screen(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/pythia-nano", width=1440, height=900)
    ready(page)
    panel, image = box(page, ".mappanel"), box(page, ".mappanel canvas.base")
    assert image["width"] > 0.9 * panel["width"]
    assert box(page, "canvas.map")["y"] + box(page, "canvas.map")["height"] < 850
    for chart in ("cosine", "angles"):
        found = box(page, f"[data-chart={chart}] .u-wrap")
        assert found["y"] + found["height"] < 900
        assert found["x"] > panel["x"] + panel["width"]
    assert box(page, ".numbers")["x"] + box(page, ".numbers")["width"] > 1380


@pytest.mark.slow
def test_a_legend_says_the_last_values_and_how_each_line_is_drawn(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/pythia-nano")
    ready(page)
    _, _, answer = site.ask("/v1/runs/pythia-nano/measures")
    legend = page.locator("[data-chart=norms] .u-value").all_text_contents()
    assert int(legend[0]) == answer["steps"][-1]
    assert float(legend[1]) == pytest.approx(answer["measures"]["norm"][-1], rel=1e-4)
    styles = page.locator("[data-chart=cosine] .u-marker").evaluate_all(
        "all => all.map((e) => getComputedStyle(e).borderTopStyle)"
    )
    assert styles[1:] == ["solid", "dashed", "dotted"]


@pytest.mark.slow
def test_any_curve_can_have_logarithms_and_the_address_keeps_it(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/pythia-nano")
    ready(page)
    page.get_by_role("button", name="log scale of Norms").click()
    page.get_by_role("button", name="log scale of Updates and the noise floor").click()
    until(page, "location.hash.includes('log=norms') && location.hash.includes('nolog=updates')")
    buttons = "document.querySelectorAll('[data-chart=norms] .logs, [data-chart=updates] .logs')"
    name = f"[...{buttons}].map((b) => b.getAttribute('aria-pressed')).join()"
    assert page.evaluate(name) == "true,false"
    assert "Values of 0 or less are not drawn." in page.locator("[data-chart=norms] .note").text_content()
    page.reload()
    ready(page)
    assert page.evaluate(name) == "true,false"
    page.go_back()
    until(page, f"({name}) === 'true,true'")
    page.get_by_role("button", name="log scale of Norms").click()
    until(page, "!location.hash.includes('log=')")


@pytest.mark.slow
def test_every_compared_map_says_its_value_at_the_step(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/compare?runs=logged,logged-faster,plain&axis=linear")
    page.wait_for_selector(".compare[data-ready]")
    page.wait_for_timeout(300)
    image = page.locator("canvas.map").first.bounding_box()
    page.mouse.move(image["x"] + 0.75 * image["width"], image["y"] + 0.4 * image["height"])
    tips = page.locator(".sidebyside .tip").evaluate_all("all => all.map((t) => (t.hidden ? null : t.textContent))")
    for said, run in zip(tips[:2], ("logged", "logged-faster"), strict=True):
        _, _, answer = site.ask(f"/v1/runs/{run}/map")
        row, column = answer["steps"].index(500), answer["steps"].index(1000)
        assert f"{answer['map'][row][column]:.5f}" in said
        assert "steps 500 × 1000" in said
    assert tips[2] is None, "the third run ended before these steps"


@pytest.mark.slow
def test_averages_of_the_last_checkpoints_are_a_curve(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/pythia-nano?group=layer%2F2&from=64&to=5000")
    page.wait_for_selector("[data-chart=averages] .uplot")
    with page.expect_download() as waiting:
        page.click("[data-chart=averages] button:has-text('CSV')")
    header, *rows = csv.reader(Path(waiting.value.path()).read_text().splitlines())
    assert header == ["checkpoints averaged", "distance", "variance removed", "norm"]
    _, _, answer = site.ask("/v1/runs/pythia-nano/averages?group=layer/2&steps=64..5000")
    wanted = {a["checkpoints"]: a for a in answer["averages"] if a["weights"].startswith("last ")}
    assert {int(r[0]) for r in rows} == set(wanted)
    for count, distance, removed, norm in rows:
        one = wanted[int(count)]
        assert float(distance) == pytest.approx(one["relative_distance"])
        assert float(removed) == pytest.approx(one["variance_removed"])
        assert float(norm) == pytest.approx(one["norm"] / wanted[1]["norm"])


@pytest.mark.slow
def test_eight_runs_are_pictures_and_any_number_is_a_table(site: Server, open_page: Open, tmp_path: Path) -> None:
    from storage_schema.runs.store import RunStore

    names = [f"copy-{k}" for k in range(17)]
    for name in names:
        trajsvc.analyze(site.store.parent / "data" / "plain", store=site.store, name=name, threads=1)
    try:
        page = open_page(f"{site.address}/#/compare?runs={','.join(names)}")
        page.wait_for_selector(".compare[data-ready]")
        page.wait_for_selector(f".compare .scroll tr:has-text('{names[-1]}')")
        assert page.locator(".sidebyside canvas.map").count() == 8
        assert page.locator("[data-chart=norm] .u-series").count() == 1 + 8
        assert page.locator(".compare .scroll tbody tr").count() == 17
        assert (
            "The first 8 runs have maps and curves; 9 more are in the table."
            in page.locator(".problem").first.text_content()
        )
        assert (
            len(
                set(
                    page.locator("[data-chart=norm] .u-marker").evaluate_all(
                        "a => a.slice(1).map((e) => e.style.borderColor || e.style.border)"
                    )
                )
            )
            == 8
        )
        assert findings(page) == []
    finally:
        for name in names:
            shutil.rmtree(Path(RunStore(site.store).path(name)))


@pytest.mark.slow
def test_layers_of_runs_lie_over_each_other_by_depth(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/compare?runs=pythia-nano,patchy")
    page.wait_for_selector("[data-chart=layers] .uplot")
    page.get_by_label("Against depth").select_option("tortuosity")
    page.wait_for_selector("h3:has-text('Tortuosity by depth')")
    with page.expect_download() as waiting:
        page.click("[data-chart=layers] button:has-text('CSV')")
    header, *rows = csv.reader(Path(waiting.value.path()).read_text().splitlines())
    assert header[1:] == ["pythia-nano", "patchy"]
    for column, run in enumerate(header[1:], start=1):
        found = {float(r[0]): float(r[column]) for r in rows if r[column]}
        layers = [row for row in site.ask(f"/v1/runs/{run}/layers")[2] if row["depth"] is not None]
        assert found == {round(r["depth"], 4): pytest.approx(r["tortuosity"]) for r in layers}
    assert findings(page) == []
