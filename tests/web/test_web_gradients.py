"""The tab of gradients in a browser: what it draws is what the API says, and all of it is in the address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_findings import findings
from drawn_maps import colour, eventually
from service_process import Server

import trajsvc

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]
TAB = "#/run/pythia-nano/gradients"
API = "/v1/runs/pythia-nano/gradients"
PIXELS = """([where, cells]) => {
  const canvas = document.querySelector(where), {view, width, height} = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const rows = view.state.rows;
  return cells.map(([i, j]) => {
    const x = Math.floor(view.axis.centres[j] * width), y = rows ? i : Math.floor(view.axis.centres[i] * height);
    return Array.from(data.slice(4 * (y * width + x), 4 * (y * width + x) + 3));
  });
}"""


def opened(open_page: Open, site: Server, more: str = "set=example", **how: Any) -> Any:
    page = open_page(f"{site.address}/{TAB}?{more}", **how)
    page.wait_for_selector(".gradients[data-ready=true] [data-chart=gradient] .uplot", timeout=240_000)
    return page


def saved(page: Any, where: str, button: str = "CSV") -> list[list[str]]:
    """The rows of a table that is downloaded."""
    with page.expect_download() as waiting:
        page.click(f"{where} button:has-text('{button}')")
    return [line.split(",") for line in Path(waiting.value.path()).read_text().splitlines()]


def numbers(rows: list[list[str]], column: int) -> list[float]:
    return [float(row[column]) for row in rows[1:] if row[column]]


@pytest.mark.slow
def test_a_measure_of_chosen_groups_is_drawn_beside_the_trajectory_on_one_axis(site: Server, open_page: Open) -> None:
    page = opened(open_page, site, "set=example&measure=confusion&groups=network,layer/1&curve=norms")
    rows = saved(page, "[data-chart=gradient]")
    assert rows[0] == ["step", "network", "layer/1"]
    for column, group in enumerate(rows[0][1:], start=1):
        _, _, answer = site.ask(f"{API}/example/measures?names=confusion&group={group}")
        assert numbers(rows, column) == answer["measures"]["confusion"]
    beside = saved(page, "[data-chart=trajectory]")
    assert [row[0] for row in beside] == [row[0] for row in rows], "the same steps lie on both axes"
    _, _, trajectory = site.ask("/v1/runs/pythia-nano/measures?names=norm")
    assert numbers(beside, 1) == pytest.approx(trajectory["measures"]["norm"], rel=1e-9)


@pytest.mark.slow
def test_the_picture_by_layer_and_step_has_the_colours_of_the_values(site: Server, open_page: Open) -> None:
    page = opened(open_page, site, "set=example&measure=coherence&lo=0&hi=0.5&palette=cividis")
    _, _, answer = site.ask(f"{API}/example/layers?names=coherence")
    values = [row["measures"]["coherence"] for row in answer["layers"]]
    cells = [[i, j] for i in range(len(values)) for j in range(len(answer["steps"])) if values[i][j] is not None]
    for (i, j), found in zip(cells, page.evaluate(PIXELS, ["canvas.heat", cells]), strict=True):
        assert found == colour(values[i][j], 0.0, 0.5, "cividis"), (i, j)
    undefined = [[i, j] for i, row in enumerate(values) for j, v in enumerate(row) if v is None]
    assert [answer["layers"][i]["layer"] for i, _ in undefined] == ["2"], "its gradients are zero at the last step"
    [grey] = page.evaluate(PIXELS, ["canvas.heat", undefined])
    assert len(set(grey)) == 1
    rows = saved(page, ".heatpanel")
    assert [float(v) for v in rows[1][1:]] == values[0]


def test_the_map_of_a_step_is_ordered_by_cluster(site: Server, open_page: Open) -> None:
    page = opened(open_page, site, "set=example&step=0&clusters=4&group=layer/1")
    _, _, answer = site.ask(f"{API}/example/map?step=0&group=layer/1")
    _, _, clusters = site.ask(f"{API}/example/clusters?step=0&group=layer/1&clusters=4")
    order = clusters["order"]
    cells = [[i, j] for i in range(0, 24, 5) for j in range(0, 24, 5)]
    low = min(v for row in answer["map"] for v in row)
    scale = (-1.0, 1.0, "RdBu_r") if low < -1e-6 else (max(0.0, int(low * 10) / 10), 1.0, "viridis")

    def drawn(places: list[int]) -> None:
        found = page.evaluate(PIXELS, [".gradientmap canvas.map", cells])
        assert found == [colour(answer["map"][places[i]][places[j]], *scale) for i, j in cells]

    eventually(page, lambda: drawn(order))
    assert page.locator(".clusters table").first.locator("tbody tr").count() == 4
    page.click(".gradientmap button[data-value=given]")
    eventually(page, lambda: drawn(list(range(24))))
    assert "order=given" in page.url


def test_a_place_in_the_picture_is_marked_in_the_curves(site: Server, open_page: Open) -> None:
    page = opened(open_page, site)
    page.locator(".heatpanel .mapbox").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    _, _, answer = site.ask(f"{API}/example/layers?names=coherence")
    eventually(page, lambda: _at(page, answer["steps"][1]))
    said = page.locator(".heatpanel .tip").text_content()
    assert "layer 0" in said
    assert f"{answer['layers'][0]['measures']['coherence'][1]:.4g}" in said


def _at(page: Any, step: int) -> None:
    for chart in ("gradient", "trajectory"):
        assert page.locator(f"[data-chart={chart}] .u-value").first.text_content() == str(step)


@pytest.mark.slow
def test_everything_in_view_is_in_the_address(site: Server, open_page: Open) -> None:
    page = opened(open_page, site, "")
    page.get_by_label("Set", exact=True).select_option("example")
    page.get_by_label("Measure", exact=True).select_option("snr")
    page.get_by_label("and", exact=True).select_option("layer/1/attention.q")
    page.get_by_role("button", name="Leave out layer/0").click()
    page.get_by_label("Beside it").select_option("norms")
    page.get_by_label("step", exact=True).select_option("0")
    page.click(".controls button[data-value=linear]")
    for part in ("set=example", "measure=snr", "layer%2F1%2Fattention.q", "curve=norms", "step=0", "axis=linear"):
        assert part in page.url
    page.reload()
    page.wait_for_selector(".gradients[data-ready=true] [data-chart=gradient] .uplot", timeout=240_000)
    assert page.locator("[data-chart=gradient] h3").text_content() == "snr of the set example"
    names = saved(page, "[data-chart=gradient]")[0]
    assert "layer/1/attention.q" in names
    assert "layer/0" not in names
    assert page.locator(".gradientmap h2").text_content() == "Gradients at step 0"
    page.go_back()
    eventually(page, lambda: _back(page))


def _back(page: Any) -> None:
    assert "axis=linear" not in page.url


def test_a_run_without_gradients_says_how_to_compute_them(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/plain/gradients")
    page.wait_for_selector("text=No gradients of this run")
    assert "trajsvc gradients compute plain" in page.locator("pre").text_content()


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_and_a_phone_does_not_scroll_sideways(site: Server, open_page: Open, dark: bool) -> None:
    page = opened(open_page, site, dark=dark, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert findings(page) == []


@pytest.mark.slow
def test_gradients_are_computed_from_the_page_and_shown_when_they_are_there(site: Server, open_page: Open) -> None:
    trajsvc.analyze(site.store.parent / "data" / "pythia-nano", store=site.store, name="without", threads=1)
    page = open_page(f"{site.address}/#/run/without/gradients")
    form = page.locator(".gradientform form")
    form.wait_for()
    assert form.locator("[name=probe] option").all_text_contents() == ["nano"]
    assert form.locator("[name=data] option").all_text_contents() == ["text"]
    given = {"sets": "example, batch", "examples": "4", "batch": "2", "length": "8", "steps": "0,64"}
    for name, value in given.items():
        form.locator(f"[name={name}]").fill(value)
    form.locator("summary").click()
    form.locator("[name=per_token]").check()
    assert findings(page) == []
    with page.expect_request("**/v1/runs/without/gradients") as asked:
        form.locator("button:has-text('Compute')").click()
    body = asked.value.post_data_json
    assert body == {
        "probe": "nano", "data": "text", "sets": ["example", "batch"], "examples": 4, "batch": 2, "length": 8, "steps": "0,64",
        "per_token": True,
    }  # fmt: skip
    page.wait_for_selector(".gradientform .badge.succeeded", timeout=240_000)
    page.wait_for_selector("[data-chart=gradient] .uplot", timeout=240_000)
    _, _, sets = site.ask("/v1/runs/without/gradients")
    assert [(s["set"], s["n"], s["steps"]) for s in sets] == [("batch", 2, [0, 64]), ("example", 4, [0, 64])]
    _, _, answer = site.ask("/v1/runs/without/gradients/example/measures?names=coherence")
    assert numbers(saved(page, "[data-chart=gradient]"), 1) == answer["measures"]["coherence"]


@pytest.mark.slow
def test_what_is_wrong_with_a_submission_of_gradients_stands_at_its_field(site: Server, open_page: Open) -> None:
    page = opened(open_page, site)
    page.click(".gradientform > summary")
    form = page.locator(".gradientform form")
    form.locator("[name=examples]").fill("none")
    form.locator("button:has-text('Compute')").click()
    wrong = form.locator("[aria-invalid]")
    wrong.wait_for()
    assert wrong.get_attribute("name") == "examples"
    assert "integer" in form.locator(".fieldproblem:not(:empty)").text_content()
    open_page.expected.append("status of 4")  # type: ignore[attr-defined]
