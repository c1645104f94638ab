"""While a job runs its maps are estimates that sharpen in place until they are the run's: in the run, its layers, its job, the list."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from axe_findings import findings
from drawn_maps import assert_drawn, colour, compared, eventually, ready, scale_of, until
from page_runs import make_moving_run
from slow_jobs import SlowServer, slow_server

pytestmark = [pytest.mark.slow, pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowServer]:
    place = tmp_path_factory.mktemp("live")
    make_moving_run(place / "data" / "moving", steps=20, tensors=12, side=512)
    make_moving_run(place / "data" / "small", steps=4, tensors=2, side=16)
    with slow_server(place, "--root", f"runs={place / 'data'}") as server:
        assert server.server.wait(server.server.submit("runs:small")["id"])["state"] == "succeeded"
        yield server


def palette(page: Any) -> str:
    return "RdBu_r" if scale_of(page)[0] < 0 else "viridis"


def drawn_is_current(slow: SlowServer, page: Any, name: str, selector: str = ".run") -> str:
    """Waits until what is drawn is what the server has now; its digest."""
    until(page, f"document.querySelector('{selector}')?.dataset.digest === '{slow.digest(name)}'")
    return str(slow.digest(name))


def pixel_is(page: Any, value: float) -> None:
    """The last layer's tile has the colour of ``value`` in row 3, column 10."""
    pixel = page.evaluate(
        """([i, j]) => Array.from(document.querySelector("[data-group='layer/layers.11'] canvas").getContext("2d")
        .getImageData(j, i, 1, 1).data.slice(0, 3))""",
        [3, 10],
    )
    assert pixel == colour(value, *scale_of(page), palette(page))


class TestRun:
    def test_the_map_sharpens_in_place_until_it_is_exact(self, slow: SlowServer, open_page: Open) -> None:
        job = slow.begin("runs:moving", "sharpened")
        name = job["run"]
        page = open_page(f"{slow.server.address}/#/")
        slow.sharpen(job)
        page.locator(".jobline", has_text=name).get_by_role("link", name="Open estimate").click()
        ready(page)
        digests = [drawn_is_current(slow, page, name)]
        said = re.compile(r"estimate from [\d.]+ % of the parameters, ± \S+ \(median of cells\), sharpening")
        strip = page.locator(".estimatestrip > span").first
        eventually(page, lambda: compared(bool(said.fullmatch(strip.text_content())), True))
        assert page.locator(".estimatestrip progress").count() == 1
        _, _, answer = slow.server.ask(f"/v1/runs/{name}/map")
        assert_drawn(page, answer, *scale_of(page), palette(page))

        # the view is chosen, the crosshair put and the page scrolled: all of it stays
        page.click(".controls button[data-value=rtm]")
        page.locator(".mapbox").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
        page.evaluate("scrollTo(0, 120)")
        kept = "[location.hash, scrollY, document.activeElement.className, document.querySelector('canvas.map').view.cell.join()]"
        before = page.evaluate(kept)
        assert before[1:] == [120, "mapbox", "1,2"]
        slow.sharpen(job)
        digests.append(drawn_is_current(slow, page, name))
        assert page.evaluate(kept) == before
        _, _, answer = slow.server.ask(f"/v1/runs/{name}/map?origin=0")
        assert_drawn(page, answer, *scale_of(page), palette(page))
        page.wait_for_function("document.querySelector('.mapbox .tip').textContent.includes('(estimate)')")
        said = page.locator(".mapbox .tip").text_content()
        assert f"{answer['map'][1][2]:.5f}".replace("-", "−") in said
        error = re.search(r"± (\S+) \(estimate\)", said)
        assert error is not None
        assert float(error[1]) == pytest.approx(answer["error"][1][2], rel=0.05)

        assert slow.finish(job)["state"] == "succeeded"
        digests.append(drawn_is_current(slow, page, name))
        assert len(set(digests)) == 3
        page.locator(".estimatestrip").wait_for(state="hidden")
        until(page, f"document.getElementById('said').textContent === '{name}: exact'")
        assert page.evaluate(kept) == before
        page.locator("h1 + .badge").wait_for(state="detached")
        _, _, answer = slow.server.ask(f"/v1/runs/{name}/map?origin=0")
        assert "error" not in answer
        assert_drawn(page, answer, *scale_of(page), palette(page))
        until(page, "!document.querySelector('.mapbox .tip').textContent.includes('±')")
        _, _, measured = slow.server.ask(f"/v1/runs/{name}/measures?names=mds")
        shown, mds = page.locator(".numbers dd").first, pytest.approx(measured["measures"]["mds"], rel=1e-4)
        eventually(page, lambda: compared(float(shown.text_content()), mds))

    def test_a_run_that_is_not_there_yet_comes_by_itself(self, slow: SlowServer, open_page: Open) -> None:
        job = slow.begin("runs:moving", "awaited")
        name = job["run"]
        page = open_page(f"{slow.server.address}/#/run/{name}?view=rtm")
        page.wait_for_selector(".waiting .jobline .badge.running")
        assert page.locator(".run").count() == 0
        slow.sharpen(job)
        ready(page)
        drawn_is_current(slow, page, name)
        assert "view=rtm" in page.url
        slow.finish(job)
        drawn_is_current(slow, page, name)
        open_page.expected.append("404")  # type: ignore[attr-defined]

    def test_a_job_that_is_cancelled_leaves_no_error_behind(self, slow: SlowServer, open_page: Open) -> None:
        job = slow.begin("runs:moving", "dropped")
        name = job["run"]
        slow.sharpen(job)
        page = open_page(f"{slow.server.address}/#/run/{name}")
        ready(page)
        shown = drawn_is_current(slow, page, name)
        slow.server.ask(f"/v1/jobs/{job['id']}", method="DELETE")
        assert slow.server.wait(job["id"])["state"] == "cancelled", "while its worker is held"
        until(page, "!/sharpening/.test(document.querySelector('.estimatestrip').textContent)")
        assert page.locator(".run .problem").count() == 0
        assert page.get_attribute(".run", "data-digest") == shown
        open_page.expected.append("404")  # type: ignore[attr-defined]

    def test_the_error_of_every_cell_can_be_seen(self, slow: SlowServer, open_page: Open) -> None:
        job = slow.begin("runs:moving", "unsure")
        name = job["run"]
        slow.sharpen(job)
        page = open_page(f"{slow.server.address}/#/run/{name}")
        ready(page)
        page.click(".controls button[data-value=error]")
        until(page, "document.querySelector('.mappanel h2').textContent.startsWith('Standard errors')")
        assert "show=error" in page.url
        drawn_is_current(slow, page, name)
        assert findings(page) == []
        page.get_by_role("button", name="Dark").click()
        assert findings(page) == []
        _, _, answer = slow.server.ask(f"/v1/runs/{name}/map")
        values = page.evaluate("Array.from(document.querySelector('canvas.map').view.state.map.values)")
        np.testing.assert_allclose(values, np.ravel(answer["error"]), rtol=1e-6, atol=1e-12)
        slow.finish(job)
        drawn_is_current(slow, page, name)
        until(page, "document.querySelector('.mappanel h2').textContent === 'Trajectory map'")


class TestLayers:
    def test_tiles_and_table_follow(self, slow: SlowServer, open_page: Open) -> None:
        job = slow.begin("runs:moving", "layered")
        name = job["run"]
        slow.sharpen(job)
        page = open_page(f"{slow.server.address}/#/run/{name}/layers")
        table = open_page(f"{slow.server.address}/#/run/{name}/layers?show=table")
        for state in ("estimate", "sharper", "exact"):
            if state == "sharper":
                slow.sharpen(job)
            if state == "exact":
                slow.finish(job)
            digest = slow.digest(name)
            shown = "[...document.querySelectorAll('.tile')].map((t) => t.dataset.digest)"
            until(page, f"{shown}.length === 12 && {shown}.every((d) => d === '{digest}')")
            _, _, answer = slow.server.ask(f"/v1/runs/{name}/map?group=layer/layers.11")
            eventually(page, partial(pixel_is, page, answer["map"][3][10]))
            page.locator(".estimatestrip").wait_for(state="hidden" if state == "exact" else "visible")
            _, _, rows = slow.server.ask(f"/v1/runs/{name}/layers")
            cell = "document.querySelectorAll('tbody tr')[11]?.querySelectorAll('td')[2].textContent"
            until(table, f"Math.abs({cell} - {rows[11]['relative_mds']}) < 2e-5")


class TestWork:
    def test_the_job_and_the_list_show_it(self, slow: SlowServer, open_page: Open) -> None:
        job = slow.begin("runs:moving", "listed")
        name = job["run"]
        runs = open_page(f"{slow.server.address}/#/?q={name}")  # only what is in view is drawn
        page = open_page(f"{slow.server.address}/#/job/{job['id']}")
        page.wait_for_selector(".job h1")
        assert page.locator(".sofar").is_hidden()
        slow.sharpen(job)
        drawn_is_current(slow, page, name, ".sofar")
        assert page.get_by_role("link", name="Open estimate").get_attribute("href") == f"#/run/{name}"
        assert "± " in page.locator(".sofar .note").text_content()
        _, _, answer = slow.server.ask(f"/v1/runs/{name}")
        for place in (runs, page):
            assert findings(place) == []
        badge = f"estimate {100 * answer['row']['fraction']:.3g} %"
        runs.wait_for_selector(f"tr:has-text('{name}') .badge:has-text('{badge}')")
        until(
            runs,
            f"/±/.test([...document.querySelectorAll('tr')].find((r) => /{name}/.test(r.textContent)).querySelector('.mds').textContent)",
        )
        slow.sharpen(job)
        drawn_is_current(slow, page, name, ".sofar")
        slow.finish(job)
        drawn_is_current(slow, page, name, ".sofar")
        until(page, "document.querySelector('.sofar .note').textContent === 'exact'")
        page.get_by_role("link", name="Open run").wait_for()
        runs.wait_for_selector(f"tr:has-text('{name}') .badge:has-text('exact')")
        _, _, measured = slow.server.ask(f"/v1/runs/{name}/measures?names=mds")
        wanted = f"{measured['measures']['mds']:.4}"
        until(runs, f"[...document.querySelectorAll('.mds')].some((e) => e.textContent === '{wanted}')")

    def test_a_long_queue_leaves_connections_for_everything_else(self, slow: SlowServer, open_page: Open) -> None:
        job = slow.begin("runs:moving", "first")
        queued = [slow.server.submit("runs:small", name=slow.new(f"queued{i}")) for i in range(9)]
        page = open_page(f"{slow.server.address}/#/jobs")
        until(page, "document.querySelectorAll('.jobline .badge.accepted').length === 9")
        again = page.context.new_page()
        again.goto(f"{slow.server.address}/#/run/small")
        ready(again)
        slow.finish(job)
        for one in queued:
            slow.server.wait(one["id"])
        names = "|".join(one["run"] for one in (job, *queued))
        lines = f"[...document.querySelectorAll('.jobline')].filter((l) => /{names}/.test(l.textContent))"
        until(page, f"{lines}.length === 10 && {lines}.every((l) => l.querySelector('.badge.succeeded'))")


class TestCompare:
    def test_a_run_beside_another_sharpens(self, slow: SlowServer, open_page: Open) -> None:
        job = slow.begin("runs:moving", "beside")
        name = job["run"]
        slow.sharpen(job)
        page = open_page(f"{slow.server.address}/#/compare?runs=small,{name}&align=fraction")
        shown = "document.querySelector('.compare')?.dataset.digests"
        small = slow.digest("small")
        until(page, f"{shown} === '{small},{slow.digest(name)}'")
        badges = page.locator(".sidebyside .badge")
        assert badges.first.is_hidden()
        assert re.fullmatch(r"estimate [\d.]+ %", badges.nth(1).text_content())
        numbers = page.locator("table tbody tr", has_text="Relative MDS").locator("td").nth(1)
        before = numbers.text_content()
        assert slow.finish(job)["state"] == "succeeded"
        until(page, f"{shown} === '{small},{slow.digest(name)}'")
        badges.nth(1).wait_for(state="hidden")
        assert page.evaluate("location.hash") == f"#/compare?runs=small,{name}&align=fraction"
        _, _, answer = slow.server.ask(f"/v1/compare?run=small&run={name}")
        exact = f"{answer['rows'][1]['relative_mds']:.4f}"
        until(page, f"document.querySelector('.compare table').textContent.includes('{exact}')")
        assert numbers.text_content() != before
