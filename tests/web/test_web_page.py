"""The page in a browser, on real runs: what it draws is what the API says, at the speed that was asked for, without an error."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_maps import assert_drawn, compared, drawn_by_its_sign, eventually, phases_shown, ready, scale_of, until
from page_runs import NASTY
from service_process import Server
from slow_params import slow_but

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]


def set_faults(site: Server, **faults: Any) -> None:
    """What goes wrong at the server's Hub."""
    hub: str = site.hub  # type: ignore[attr-defined]
    request = urllib.request.Request(f"{hub}/_faults", json.dumps(faults).encode(), method="POST")
    urllib.request.urlopen(request).close()


class TestRun:
    def test_every_kind_of_map_is_drawn_as_the_api_gives_it(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano")
        ready(page)
        _, _, answer = site.ask("/v1/runs/pythia-nano/map")
        low, high = scale_of(page)
        assert_drawn(page, answer, low, high, "viridis")
        page.click(".controls button[data-value=rtm]")
        _, _, answer = site.ask("/v1/runs/pythia-nano/map?origin=0")
        eventually(page, lambda: drawn_by_its_sign(page, answer))
        page.click(".controls button[data-value=updates]")
        _, _, measured = site.ask("/v1/runs/pythia-nano/measures?names=update_map")
        updates = {"map": measured["measures"]["update_map"]}
        eventually(page, lambda: drawn_by_its_sign(page, updates))

    @pytest.mark.parametrize("kind", slow_but(["linear", "log", "index"], ["log"]))
    def test_axes(self, site: Server, open_page: Open, kind: str) -> None:
        page = open_page(f"{site.address}/#/run/deep?axis={kind}&view=rtm&origin=5000&palette=cividis&lo=-0.5&hi=1")
        ready(page)
        _, _, answer = site.ask("/v1/runs/deep/map?origin=5000")
        if kind == "log":  # the last cells are narrower than a pixel: those of the first half are looked at
            answer["map"] = [row[:60] for row in answer["map"][:60]]
        assert_drawn(page, answer, -0.5, 1, "cividis")

    @pytest.mark.slow
    def test_a_range_by_brushing_is_the_selection_of_the_api(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/deep")
        ready(page)
        page.locator(".timeline canvas").scroll_into_view_if_needed()
        strip = page.locator(".timeline canvas").bounding_box()
        y = strip["y"] + 30
        page.mouse.move(strip["x"] + 200, y)
        page.mouse.down()
        page.mouse.move(strip["x"] + 400, y, steps=8)
        page.mouse.up()
        until(page, "location.hash.includes('from=')")
        page.wait_for_timeout(600)
        first, last = (int(v) for v in re.search(r"from=(\d+)&to=(\d+)", page.url).groups())  # type: ignore[union-attr]
        _, _, answer = site.ask(f"/v1/runs/deep/map?steps={first}..{last}")
        assert 20 < len(answer["steps"]) < 100
        eventually(page, lambda: assert_drawn(page, answer, *scale_of(page), "viridis"))
        _, _, measured = site.ask(f"/v1/runs/deep/measures?names=mds&steps={first}..{last}")
        shown = page.locator(".numbers dd").first
        mds = pytest.approx(measured["measures"]["mds"], rel=1e-4)
        eventually(page, lambda: compared(float(shown.text_content()), mds))
        page.go_back()
        until(page, "!location.hash.includes('from=')")

    @pytest.mark.slow
    def test_dragging_the_origin_recomputes_at_once(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/deep?view=rtm")
        ready(page)
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url))
        page.locator(".handle.origin").scroll_into_view_if_needed()
        handle = page.locator(".handle.origin").bounding_box()
        page.mouse.move(handle["x"] + 1, handle["y"] + 10)
        page.mouse.down()
        for move in range(12):
            page.mouse.move(handle["x"] + 25 * (move + 1), handle["y"] + 10)
        page.mouse.up()
        until(page, "location.hash.includes('origin=')")
        page.wait_for_timeout(500)
        origin = int(re.search(r"origin=(\d+)", page.url)[1])  # type: ignore[index]
        _, _, answer = site.ask(f"/v1/runs/deep/map?origin={origin}")
        eventually(page, lambda: drawn_by_its_sign(page, answer))
        assert [a for a in asked if "/v1/" in a] == []

    def test_hover_says_the_exact_value_and_the_steps(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano")
        ready(page)
        box = page.locator("canvas.map").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.1)
        _, _, answer = site.ask("/v1/runs/pythia-nano/map")
        n = len(answer["steps"])
        row, column = int(0.1 * n), int(0.9 * n)
        said = page.locator(".mapbox .tip").text_content()
        assert f"{answer['map'][row][column]:.5f}" in said
        assert f"steps {answer['steps'][row]} × {answer['steps'][column]}" in said
        legend = page.locator("[data-chart=cosine] .u-value").first.text_content()
        assert legend == str(answer["steps"][column])

    def test_keys_move_the_crosshair_and_the_handles(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano?view=rtm")
        ready(page)
        page.locator(".mapbox").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
        _, _, answer = site.ask("/v1/runs/pythia-nano/map?origin=0")
        assert f"steps {answer['steps'][1]} × {answer['steps'][1]}" in page.locator("#said").text_content()
        page.locator(".handle.origin").focus()
        page.keyboard.press("End")
        until(page, "location.hash.includes('origin=5000')")

    def test_curves_are_those_of_the_api(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano?group=layer%2F1%2Fattention.q")
        ready(page)
        _, _, answer = site.ask("/v1/runs/pythia-nano/measures?group=layer/1/attention.q")
        with page.expect_download() as waiting:
            page.click("[data-chart=angles] button:has-text('CSV')")
        rows = [line.split(",") for line in Path(waiting.value.path()).read_text().splitlines()]
        at = {int(r[0]): r for r in rows[1:]}
        column = rows[0].index("between updates")
        expected = dict(zip(answer["steps"][1:-1], answer["measures"]["update_angle"], strict=True))
        for step, angle in expected.items():
            assert float(at[step][column]) == pytest.approx(angle, rel=1e-9)

    @pytest.mark.slow
    def test_phases_are_those_that_the_server_finds(self, site: Server, open_page: Open) -> None:
        for steps in (None, (0, 2500), (0, 3500)):
            asked = f"?from={steps[0]}&to={steps[1]}" if steps else ""
            page = open_page(f"{site.address}/#/run/pythia-nano{asked}")
            _, _, expected = site.ask(f"/v1/runs/pythia-nano/phases{f'?steps={steps[0]}..{steps[1]}' if steps else ''}")
            assert len(expected) > 1
            borders = [(p["start_step"], p["end_step"]) for p in expected]
            until(page, f"document.querySelectorAll('.phases li').length === {len(borders)}")
            assert phases_shown(page) == borders
            for line, phase in zip(page.locator(".phases li").all_text_contents()[1:], expected[1:], strict=True):
                change = phase["details"]["change"]
                assert f"{change['kind']} " in line
                assert f"explains {100 * change['evidence']:.0f} % of the scatter" in line

    def test_a_range_too_short_for_phases_says_so(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano?from=0&to=4")
        page.wait_for_selector("text=Too few checkpoints to say.")

    @pytest.mark.slow
    def test_downloads(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/plain")
        ready(page)
        found = {}
        for kind in ("PNG", "SVG", "CSV"):
            with page.expect_download() as waiting:
                page.click(f".mappanel button:has-text('{kind}')")
            found[kind] = Path(waiting.value.path()).read_bytes()
        assert found["PNG"].startswith(b"\x89PNG")
        assert b"<svg" in found["SVG"]
        assert b"data:image/png;base64," in found["SVG"]
        _, _, answer = site.ask("/v1/runs/plain/map")
        rows = [line.split(",") for line in found["CSV"].decode().splitlines()]
        np.testing.assert_allclose([[float(v) for v in r[1:]] for r in rows[1:]], answer["map"], rtol=1e-9)

    @pytest.mark.slow
    def test_a_name_that_looks_like_an_element_is_text(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/deep/layers?show=table")
        page.wait_for_selector("table")
        assert page.get_by_text(NASTY, exact=True).count() == 1
        assert page.locator("img").count() == 0
        page.get_by_text(NASTY, exact=True).click()
        ready(page)
        assert NASTY in page.locator(".mappanel .note").first.text_content()
        assert page.locator("img").count() == 0


@pytest.mark.slow
class TestWork:
    def test_submit_shows_the_plan_then_runs(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/submit")
        page.fill("input[name=source]", "runs:to-submit")
        page.fill("input[name=name]", "submitted")
        page.fill("input[name=steps]", "every:2")
        page.click("button:has-text('Show the plan')")
        page.wait_for_selector("text=Plan of submitted")
        _, _, runs = site.ask("/v1/runs")
        assert "submitted" not in [r["run"] for r in runs["items"]]
        assert "gpt-neox" in page.locator("dl.facts2").text_content()
        page.click("button:has-text('Start')")
        page.wait_for_selector(".badge.succeeded", timeout=240_000)
        page.click("text=Open run")
        ready(page)
        assert page.locator("h1").text_content() == "submitted"

    def test_an_estimate_sharpens_until_it_is_exact(self, site: Server, open_page: Open) -> None:
        """The events are those of a long job, told here in a moment; the job that they end with is a real one."""
        real = site.wait(site.submit("runs:plain", name="estimated")["id"])
        steps = [(0.1, 0.70, 0.08), (0.4, 0.74, 0.03), (0.7, 0.753, 0.004)]
        told = ["retry: 2000\n\n"]
        for number, (share, mds, error) in enumerate(steps, start=2):
            data = {
                "at": 0,
                "phase": "computing",
                "bytes": share * 1e9,
                "bytes_total": 1e9,
                "mds": mds,
                "mds_error": error,
            }
            told.append(f"id: {number}\nevent: progress\ndata: {json.dumps(data)}\n\n")
        asked = {"job": 0, "events": 0}

        def job(route: Any) -> None:
            asked["job"] += 1
            waiting = {**real, "state": "running", "progress": None, "finished": None, "result": None}
            route.fulfill(json=waiting if asked["events"] < 2 else real)

        def events(route: Any) -> None:
            if "f=json" in route.request.url:
                return route.fulfill(json=[{"id": 1, "at": 0, "event": "state", "data": {"state": "running"}}])
            asked["events"] += 1
            if asked["events"] == 1:  # the connection is lost after the first estimates
                assert "after=1" in route.request.url
                return route.fulfill(body="".join(told), content_type="text/event-stream")
            assert "after=4" in route.request.url
            data = {"at": 0, "bytes": 1e9, "bytes_total": 1e9, "mds": real["progress"]["mds"], "mds_error": 0.0}
            last = f"id: 5\nevent: progress\ndata: {json.dumps(data)}\n\n"
            end = f"id: 6\nevent: state\ndata: {json.dumps({'at': 0, 'state': 'succeeded'})}\n\n"
            return route.fulfill(body=last + end, content_type="text/event-stream")

        page = open_page(f"{site.address}/#/jobs")
        page.route(f"**/v1/jobs/{real['id']}", job)
        page.route(f"**/v1/jobs/{real['id']}/events*", events)
        page.goto(f"{site.address}/#/job/{real['id']}")
        page.wait_for_selector("dd:has-text('MDS 0.753 ± 0.004')")
        assert page.locator("progress").count() == 1
        page.wait_for_selector("dd:has-text('(exact)')")
        page.wait_for_selector(".badge.succeeded")
        with page.expect_download() as waiting:
            page.click("[data-chart=estimate] button:has-text('CSV')")
        rows = [[float(v) for v in line.split(",")] for line in Path(waiting.value.path()).read_text().splitlines()[1:]]
        np.testing.assert_allclose([[r[0] / 100, r[1], r[2] - r[1]] for r in rows[:3]], steps, rtol=1e-9)
        assert rows[3] == pytest.approx([100, *3 * [real["progress"]["mds"]]])

    def test_cancel_and_retry(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/")
        page.wait_for_selector("tbody th")
        set_faults(site, latency_ms=6000)
        try:
            site.submit("hf://local/far", copy=False, memory=40 * 2**20, name="stopped")
            line = page.locator(".jobline", has_text="stopped")
            line.get_by_role("button", name="Cancel").click()
            line.locator(".badge.cancelled").wait_for(timeout=240_000)
        finally:
            set_faults(site, latency_ms=None)
        page.goto(f"{site.address}/#/jobs")
        page.wait_for_selector("h1:has-text('Jobs')")  # the view before it has such a line too
        page.locator(".jobline", has_text="stopped").get_by_role("button", name="Retry").click()
        page.wait_for_selector(".job .badge.succeeded", timeout=240_000)

    def test_why_a_job_failed(self, site: Server, open_page: Open) -> None:
        job = site.submit("runs:damaged", name="broken")
        failed = site.wait(job["id"])
        assert failed["state"] == "failed"
        page = open_page(f"{site.address}/#/job/{job['id']}")
        assert failed["cause"]["message"] in page.locator(".problem").text_content()
        assert page.get_by_role("button", name="Retry").count() == 1

    def test_a_plan_that_cannot_be_made_says_why(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/submit?source=runs:nowhere")
        page.click("button:has-text('Show the plan')")
        page.wait_for_selector(".problem")
        assert "runs:nowhere" in page.locator(".problem").text_content()
        open_page.expected.append("404")  # type: ignore[attr-defined]


class TestRuns:
    def test_search_sort_group(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/")
        page.wait_for_selector("tbody th")
        _, _, answer = site.ask("/v1/runs/deep/measures?names=mds")
        mds = answer["measures"]["mds"]
        shown = page.locator("tr", has_text="deep").locator(".mds")
        shown.scroll_into_view_if_needed()  # what is not in view is not drawn, and other tests leave runs
        eventually(page, lambda: compared(shown.text_content(), f"{mds:.4}"))
        page.fill("input[type=search]", "gpt")
        until(page, "!document.querySelector('tbody').textContent.includes('plain')")
        until(page, "location.hash.includes('q=gpt')")
        page.fill("input[type=search]", "")
        page.click("button[data-value=family]")
        page.wait_for_selector("h2 a:has-text('pair')")
        page.get_by_role("button", name="Checkpoints").first.click()
        until(page, "location.hash.includes('sort=checkpoints')")
        names = page.get_by_role("table", name="Runs of pair", exact=True).locator(
            "tbody th > a"
        )  # other tests leave families
        eventually(page, lambda: compared(names.all_text_contents(), ["pythia-nano", "plain"]))

    def test_a_run_of_two_families_is_listed_with_both(self, site: Server, open_page: Open) -> None:
        for name in ("wide", "one-of-two"):
            body = {"name": name, "title": "", "runs": [{"source": "runs:plain", "name": "plain"}]}
            assert site.ask(f"/v1/families/{name}", method="PUT", body=body)[0] == 200
        page = open_page(f"{site.address}/#/?group=family")
        for name in ("one-of-two", "wide"):
            rows = page.get_by_role("table", name=f"Runs of {name}", exact=True).locator("tbody tr")
            eventually(page, lambda rows=rows: compared(rows.locator("th > a").all_text_contents(), ["plain"]))
            families = rows.locator("a[href^='#/family/']").all_text_contents()
            assert [f for f in families if f in ("wide", "one-of-two")] == ["one-of-two", "wide"]

    def test_families_are_listed_with_their_tags(self, site: Server, open_page: Open) -> None:
        body = {"name": "tagged", "tags": ["experiment:h1"], "runs": [{"source": "runs:plain", "name": "plain"}]}
        assert site.ask("/v1/families/tagged", method="PUT", body=body)[0] == 200
        page = open_page(f"{site.address}/#/families")
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name="tagged", exact=True))
        assert row.get_by_role("link", name="experiment:h1").get_attribute("href") == "#/?tag=experiment%3Ah1"

    def test_compare(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/compare?runs=pythia-nano,plain&align=fraction")
        page.wait_for_selector(".compare[data-ready]")
        page.wait_for_selector(".compare table")
        assert page.locator("canvas.map").count() == 2
        _, _, answer = site.ask("/v1/compare?run=pythia-nano&run=plain")
        cells = page.locator("tr", has_text="Relative MDS").locator("td").all_text_contents()
        assert [float(c) for c in cells] == pytest.approx([r["relative_mds"] for r in answer["rows"]], rel=1e-4)
        assert "pythia-nano at 14" in page.locator("[data-finding=different-steps]").text_content()
        where = page.locator("canvas.map").first.bounding_box()
        page.mouse.move(where["x"] + where["width"] * 0.999, where["y"] + where["height"] * 0.999)
        second = page.evaluate("document.querySelectorAll('canvas.map')[1].view.cell")
        assert second == [11, 11]
        _, _, last = site.ask("/v1/runs/pythia-nano/map")
        tip = page.locator(".mapbox .tip").first.text_content()
        assert f"{last['map'][-1][-1]:.5f}" in tip
        assert f"steps {last['steps'][-1]} × {last['steps'][-1]}" in tip
        page.mouse.move(where["x"] + where["width"] * 0.9, where["y"] + where["height"] * 0.1)
        row, column = page.evaluate("document.querySelectorAll('canvas.map')[0].view.cell")
        assert row < column
        tip = page.locator(".mapbox .tip").first.text_content()
        assert f"{last['map'][row][column]:.5f}" in tip
        assert f"steps {last['steps'][row]} × {last['steps'][column]}" in tip
        other = page.evaluate("document.querySelectorAll('canvas.map')[1].view.cell")
        _, _, own = site.ask("/v1/runs/plain/map")
        said = page.locator(".mapbox .tip:visible").nth(1).text_content()
        assert said.endswith(f"steps {own['steps'][other[0]]} × {own['steps'][other[1]]}")

    def test_curves_of_choice_are_laid_over_each_other(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/compare?runs=pythia-nano,plain")
        page.wait_for_selector(".compare[data-ready]")
        drawn = "[...document.querySelectorAll('[data-chart]')].map(e => e.dataset.chart).filter(id => id !== 'layers')"
        usual = ["cosine_to_final", "distance_from_init", "update_angle", "norm"]
        assert page.evaluate(drawn) == usual
        page.click(".which summary")
        page.locator(".which input[name=norm]").uncheck()
        page.locator(".which input[name=apex_angle_init]").check()
        page.wait_for_selector("[data-chart=apex_angle_init]")
        assert page.evaluate(drawn) == [*usual[:3], "apex_angle_init"]
        assert "curves=cosine_to_final%2Cdistance_from_init%2Cupdate_angle%2Capex_angle_init" in page.url
        assert page.evaluate("document.activeElement.name") == "apex_angle_init"
        with page.expect_download() as got:
            chart = page.locator("[data-chart=apex_angle_init]")
            chart.get_by_role("button", name="CSV").click()
        rows = [line.split(",") for line in Path(got.value.path()).read_text().splitlines()]
        for name in ("pythia-nano", "plain"):
            _, _, answer = site.ask(f"/v1/runs/{name}/measures?names=apex_angle_init")
            expected = [v for v in answer["measures"]["apex_angle_init"] if v is not None]
            column = rows[0].index(name)
            assert [float(r[column]) for r in rows[1:] if r[column]] == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("view", slow_but(["tm", "rtm"], ["rtm"]))
    def test_the_map_of_a_random_walk_stands_below_the_own_one(self, site: Server, open_page: Open, view: str) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano?view={view}")
        page.wait_for_selector("canvas.map")
        assert not page.locator(".nullpanel").is_visible()
        page.get_by_role("button", name="random walk", exact=True).click()
        page.wait_for_selector(".nullpanel canvas.map")
        assert "beside=walk" in page.url
        if view == "rtm":
            _, _, answer = site.ask("/v1/runs/pythia-nano/measures?names=random_walk_mds,relative_mds")
            note = page.locator(".nullpanel .note").text_content()
            found = [float(v) for v in re.findall(r"0\.\d+", note)]
            expected = [answer["measures"][n] for n in ("random_walk_mds", "relative_mds")]
            assert found == pytest.approx(expected, rel=1e-4)
        page.get_by_role("button", name="nothing", exact=True).click()
        page.wait_for_selector(".nullpanel", state="hidden")

    def test_family(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/family/pair")
        page.wait_for_selector(".family table")
        _, _, answer = site.ask("/v1/families/pair/compare")
        by_name = {r["member"]: r for r in answer["rows"]}
        row = page.locator(".scroll tbody tr", has_text="pythia-nano").text_content()
        assert f"{by_name['pythia-nano']['mds']:.5}" in row
        assert "not in the store" in page.locator(".scroll tbody tr", has_text="not-there").text_content()
        until(page, "document.querySelector('.family .grid').dataset.painted >= 2")

    def test_a_familys_attention_from_any_origin(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/family/pair")
        page.wait_for_selector("[data-chart=rms-depth]")
        page.get_by_label("Q, K and V from step").fill("0")
        page.keyboard.press("Enter")
        page.wait_for_function("location.hash.includes('origin=0')")
        _, _, answer = site.ask("/v1/families/pair/compare?origin=0")
        rms = next(r["rms"] for r in answer["rows"] if r["member"] == "pythia-nano")
        assert rms != next(
            r["rms"] for r in site.ask("/v1/families/pair/compare")[2]["rows"] if r["member"] == "pythia-nano"
        )
        until(page, f"document.querySelector('.scroll tbody').textContent.includes('{rms:.4}')")
        until(page, "document.querySelector('[data-chart=rms-depth]').textContent.includes('seen from step 0')")
        open_page.expected.append("404")  # type: ignore[attr-defined]
        page.get_by_label("Q, K and V from step").fill("3")
        page.keyboard.press("Enter")
        page.get_by_role("alert").filter(has_text="3").wait_for()

    def test_experiments_and_their_runs(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/experiments")
        page.wait_for_selector(".experiments tbody tr")
        assert "not run" in page.get_by_role("row", name="h1 Momentum and weight decay").text_content()
        page.locator("tbody a", has_text="h11").click()
        page.wait_for_selector(".experiment .picture canvas")
        _, _, answer = site.ask("/v1/experiments/h11")
        text = page.locator(".experiment").text_content()
        for words in (answer["claim"], answer["criterion"], "not reproduced", "2 seeds", answer["notes"][0]):
            assert words in text
        drawn = "(c) => [c.width, c.height, c.getContext('2d').getImageData(1, 1, 1, 1).data[0]]"
        assert page.locator(".picture canvas").first.evaluate(drawn) == [40, 20, 200]
        assert page.locator(".names a").all_text_contents() == ["plain"]
        page.get_by_role("link", name="All 1 in the list").click()
        page.wait_for_selector(".runs tbody tr")
        assert "tag=experiment" in page.url
        assert page.locator(".runs tbody th, .runs tbody .longname[href]").all_text_contents()[0].startswith("plain")
        assert page.locator(".runs tbody tr").count() == 1
        page.get_by_label("Tag").select_option("")
        until(page, "document.querySelectorAll('.runs tbody tr').length > 1")

    def test_an_experiment_that_was_not_run(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/experiment/h1")
        page.wait_for_selector("text=no result of an experiment")
        open_page.expected.append("404")  # type: ignore[attr-defined]
