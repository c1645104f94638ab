"""What a run knows of its training: tokens beside steps or in their place, and the learning rate with its drops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_maps import assert_drawn, ready, scale_of, until
from service_process import Server

pytestmark = [pytest.mark.slow, pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]


def table(page: Any, selector: str) -> tuple[list[str], list[Any]]:
    """A downloaded CSV: its columns, its rows."""
    with page.expect_download() as waiting:
        page.click(f"{selector} button:has-text('CSV')")
    lines = [line.split(",") for line in Path(waiting.value.path()).read_text().splitlines()]
    return lines[0], [[float(v) if v else None for v in line] for line in lines[1:]]


class TestTokens:
    def test_hover_says_them_and_the_axis_offers_them(self, site: Server, open_page: Open) -> None:
        _, _, checkpoints = site.ask("/v1/runs/logged/checkpoints")
        tokens = [c["tokens"] for c in checkpoints]
        assert tokens[3] == 7_000_000_000
        page = open_page(f"{site.address}/#/run/logged")
        ready(page)
        until(page, "document.querySelector('.controls button[data-value=tokens]')")
        page.locator(".mapbox").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
        said = page.locator(".mapbox .tip").text_content()
        assert "steps 100 × 200" in said
        assert "tokens 3 B × 5 B" in said
        page.click(".controls button[data-value=tokens]")
        until(page, "document.querySelector('canvas.map').view.axis.steps[3] === 7e9")
        assert "along=tokens" in page.url
        _, _, answer = site.ask("/v1/runs/logged/map")
        assert_drawn(page, answer, *scale_of(page), "viridis")
        assert page.locator(".handle.to").get_attribute("aria-valuetext") == "step 1300, 27B tokens"
        until(page, "document.querySelector('[data-chart=norms] .u-label').textContent.startsWith('tokens')")
        columns, rows = table(page, "[data-chart=norms]")
        assert columns[:2] == ["step", "tokens"]
        assert [[r[0], r[1]] for r in rows] == [[c["step"], c["tokens"]] for c in checkpoints]

    def test_a_range_of_tokens_is_a_range_of_steps(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/logged?along=tokens&from=300&to=900")
        ready(page)
        until(page, "document.querySelector('canvas.map').view.axis.steps[0] === 7e9")
        assert page.evaluate("document.querySelector('canvas.map').view.axis.steps.length") == 7

    def test_a_run_without_tokens_offers_none(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/plain?along=tokens")
        ready(page)
        assert page.locator(".controls button[data-value=tokens]").count() == 0
        assert page.evaluate("document.querySelector('canvas.map').view.axis.steps[1]") == 10

    def test_compare_aligns_by_them(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/compare?runs=logged,logged-faster&align=tokens")
        page.wait_for_selector(".compare[data-ready$=tokens]")
        where = page.evaluate("Array.from(document.querySelectorAll('canvas.map'), (c) => c.view.axis.steps)")
        found = [[c["tokens"] for c in site.ask(f"/v1/runs/{n}/checkpoints")[2]] for n in ("logged", "logged-faster")]
        assert where == found
        # step 900 of the first run has 19 B tokens, and so has step 600 of the other
        cell = """() => { const [a, b] = document.querySelectorAll("canvas.map"); const box = a.getBoundingClientRect();
        const at = a.view.axis.centres[9]; return [box.left + at * box.width, box.top + at * box.height, b.view.cell]; }"""
        x, y, _ = page.evaluate(cell)
        page.mouse.move(x, y)
        assert page.evaluate(cell)[2] == [6, 6]
        assert "tokens 19 B × 19 B" in page.locator(".mapbox .tip").first.text_content()
        columns, rows = table(page, "[data-chart=norm]")
        assert columns[0] == "tokens"
        both = [r[0] for r in rows if r[1] is not None and r[2] is not None]
        assert both == sorted(set(found[0]) & set(found[1]))


class TestLearningRate:
    def test_its_curve_is_that_of_the_api(self, site: Server, open_page: Open) -> None:
        _, _, summary = site.ask("/v1/runs/logged/summary")
        known = summary["learning_rate"]
        assert known["drops"] == [690, 990]
        page = open_page(f"{site.address}/#/run/logged")
        ready(page)
        page.wait_for_selector("[data-chart=rate] .uplot")
        _, rows = table(page, "[data-chart=rate]")
        at = [s for s in known["step"] if s < 1300] + [1300]  # the log goes on after the last checkpoint
        np.testing.assert_allclose(rows, np.c_[at, np.interp(at, known["step"], known["rate"])], rtol=1e-12)
        assert dict(rows)[690] == 0.1
        assert dict(rows)[700] == 0.01

    @pytest.mark.parametrize("axis", ["linear", "index", "log"])
    def test_drops_are_marked_where_they_are(self, site: Server, open_page: Open, axis: str) -> None:
        page = open_page(f"{site.address}/#/run/logged?axis={axis}&view=rtm")
        ready(page)
        until(page, "document.querySelector('canvas.map').view.state.marks.length === 2")
        marks, centres, steps = page.evaluate(
            "(({state, axis}) => [state.marks, axis.centres, axis.steps])(document.querySelector('canvas.map').view)"
        )
        for drop, mark in zip((690, 990), marks, strict=True):
            before = steps.index(drop - 90)
            assert centres[before] < mark < centres[before + 1]
        legend = page.locator(".legend li.drop").text_content()
        assert legend.endswith("learning rate drops after steps 690, 990")
        violet = [0x7A, 0x35, 0xB8]
        seen = """([x, y, selector]) => { const c = document.querySelector(selector);
        return Array.from(c.getContext("2d").getImageData(Math.round(x), Math.round(y), 1, 1).data.slice(0, 3)); }"""
        side = page.evaluate("document.querySelector('canvas.map').view.side")
        # under the map, on the strip of steps, and as lines in the curves
        assert page.evaluate(seen, [58 + marks[0] * side, 8 + side + 5, ".mapbox canvas.base"]) == violet
        strip = page.evaluate(
            """(violet) => { const c = document.querySelector(".timeline canvas");
            const d = c.getContext("2d").getImageData(0, 30, c.width, 1).data;
            const here = (i) => violet.every((v, k) => d[i + k] === v);
            return d.filter((v, i) => i % 4 === 0 && here(i)).length; }""",
            violet,
        )
        assert strip >= 10
        said = page.locator("[data-chart=cosine] .uplot").get_attribute("aria-label")
        assert "The learning rate drops after step 690, 990." in said
        with page.expect_download() as waiting:
            page.click("[data-chart=cosine] button:has-text('SVG')")
        assert Path(waiting.value.path()).read_text().count('fill="#7a35b8"') == 2

    def test_a_run_without_a_log_has_no_curve(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/plain")
        ready(page)
        assert page.locator("[data-chart=rate]").count() == 0
        assert page.locator(".legend li.drop").count() == 0
