"""The layers of a run in a browser: all maps on one scale, components, Q/K/V, curves over depth, the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_maps import colour, compared, eventually, ready, scale_of, until
from service_process import Server
from slow_params import slow_but

import trajsvc

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]
PARTS = ("attention.q", "attention.k", "attention.v", "attention.out", "mlp.gate", "mlp.in", "mlp.out", "norm")


class TestLayers:
    @pytest.mark.slow
    def test_a_hundred_maps_are_a_hundred_pictures(self, site: Server, open_page: Open) -> None:
        """One putImageData a map and nothing else, whatever is shown of them: what makes a hundred maps fast."""
        page = open_page(f"{site.address}/#/run/deep/layers?size=90", width=1500, height=1900)
        until(page, "document.querySelector('.grid')?.dataset.painted >= 101")
        page.evaluate("""() => {
            const real = CanvasRenderingContext2D.prototype.putImageData;
            window.pictures = 0;
            CanvasRenderingContext2D.prototype.putImageData = function (...given) { window.pictures += 1; return real.apply(this, given); };
        }""")
        elements = page.evaluate("document.querySelectorAll('.grid *').length")
        for view in ("rtm", "tm"):
            page.evaluate("() => { window.pictures = 0; document.querySelector('.grid').tiles.lastPaint = null; }")
            page.click(f".controls button[data-value={view}]")
            until(page, "document.querySelector('.grid').tiles.lastPaint?.maps >= 101")
            assert 101 <= page.evaluate("window.pictures") < 2 * 101
        assert page.evaluate("document.querySelectorAll('.grid *').length") == elements < 10 * 101

    @pytest.mark.slow
    def test_a_grid_is_one_answer_and_what_is_visible_is_drawn(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/")
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url))
        page.goto(f"{site.address}/#/run/deep/layers?size=240")
        page.set_viewport_size({"width": 1000, "height": 700})
        until(page, "document.querySelector('.grid')?.dataset.painted >= 101")
        assert [("/maps?" in url) for url in asked if "/maps" in url or "/gram" in url or "/map/" in url] == [True]
        until(page, "document.querySelector('.grid').tiles.lastPaint.maps > 0")
        assert page.evaluate("document.querySelector('.grid').tiles.lastPaint.maps") < 40
        # The one that is pointed at says its values with all digits.
        tile = page.locator(".tile[data-group='layer/blocks.1']")
        tile.scroll_into_view_if_needed()
        frame = tile.locator(".frame").bounding_box()
        page.mouse.move(frame["x"] + 0.9 * frame["width"], frame["y"] + 0.1 * frame["height"])
        want = trajsvc.open(site.store, "deep").trajectory_map("layer/blocks.1").values
        until(page, "document.querySelector(\".tile[data-group='layer/blocks.1']\").tile.gram")
        row, column = int(0.1 * len(want)), int(0.9 * len(want))
        own = "document.querySelector(\".tile[data-group='layer/blocks.1']\").tile.map"
        found = page.evaluate(f"{own}.values[{row} * {own}.n + {column}]")
        assert found == pytest.approx(want[row, column], rel=1e-12)
        eventually(page, lambda: compared(f"{want[row, column]:.5f}" in page.locator(".readout").text_content(), True))
        page.set_viewport_size({"width": 1400, "height": 1000})

    @pytest.mark.slow
    @pytest.mark.parametrize("view", slow_but(["tm", "updates"], ["updates"]))
    def test_one_scale_spans_all_maps_whatever_is_in_view(self, site: Server, open_page: Open, view: str) -> None:
        page = open_page(f"{site.address}/#/run/deep/layers?size=240&view={view}", width=1000, height=700)
        until(page, "document.querySelector('.grid')?.dataset.painted >= 4")
        run = trajsvc.open(site.store, "deep")
        measure = {"tm": "trajectory_map", "updates": "update_map"}[view]
        smoothing = "getComputedStyle(document.querySelector('.tile canvas')).imageRendering"
        assert page.evaluate(smoothing) == "pixelated"  # a cell is a pair of checkpoints, with nothing between two
        least = min(float(run.measure(measure, group).min()) for group in run.layer_ids())
        assert least < float(run.measure(measure, "layer/blocks.0").min())
        expected = (-1.0, 1.0) if least < 0 else (math.floor(10 * least) / 10, 1.0)
        assert scale_of(page) == expected
        page.keyboard.press("End")
        until(page, "document.querySelector(\"[data-group='layer/blocks.99'] .v\").textContent")
        assert scale_of(page) == expected

    def test_tiles_share_a_scale_and_a_crosshair(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano/layers")
        until(page, "document.querySelector('.grid')?.dataset.painted >= 7")
        page.wait_for_timeout(200)
        until(page, "document.querySelector('.grid')?.dataset.painted >= 7")
        low, high = scale_of(page)
        for group in ("layer/0", "layer/3"):
            _, _, answer = site.ask(f"/v1/runs/pythia-nano/map?group={group}")
            pixel = page.evaluate(
                """([group, i, j]) => { const c = document.querySelector(`[data-group="${group}"] canvas`);
                return Array.from(c.getContext("2d").getImageData(j, i, 1, 1).data.slice(0, 3)); }""",
                [group, 3, 10],
            )
            assert pixel == colour(answer["map"][3][10], low, high, "viridis")
        frame = page.locator("[data-group='layer/0'] .frame").bounding_box()
        page.mouse.move(frame["x"] + frame["width"] * 0.75, frame["y"] + frame["height"] * 0.25)
        _, _, answer = site.ask("/v1/runs/pythia-nano/map?group=layer/3")
        row, column = (int(share * len(answer["steps"])) for share in (0.25, 0.75))
        assert page.locator("[data-group='layer/3'] .v").text_content() == f"{answer['map'][row][column]:.3f}"
        page.mouse.click(frame["x"] + 20, frame["y"] + 20)
        ready(page)
        assert "group=layer%2F0" in page.url

    def test_table_sorts_and_stays_in_the_address(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano/layers?show=table")
        page.get_by_role("button", name="Relative MDS").click()
        _, _, rows = site.ask("/v1/runs/pythia-nano/layers")
        expected = [r["layer"] for r in sorted(rows, key=lambda r: -r["relative_mds"])]
        names = page.locator("tbody th")
        eventually(page, lambda: compared(names.all_text_contents(), expected))
        page.reload()
        page.wait_for_selector("tbody th")
        assert page.locator("tbody th").all_text_contents() == expected

    @pytest.mark.parametrize("show", slow_but(["components", "qkv", "depth"], ["qkv"]))
    def test_other_views(self, site: Server, open_page: Open, show: str) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano/layers?show={show}")
        if show != "depth":
            page.wait_for_selector("[data-group='layer/2/attention.k'] canvas")
            until(page, "document.querySelector('.matrixscroll').dataset.painted >= 12")
            page.locator("[data-group='layer/2/attention.k'] .frame").hover()
            line = "getComputedStyle(document.querySelector(\"[data-group='layer/1/attention.q'] .frame\"), '::before').left"
            assert 30 < float(page.evaluate(line).removesuffix("px")) < 80
        if show != "components":
            page.wait_for_selector(".chart .uplot")
        if show == "qkv":
            with page.expect_download() as waiting:
                page.click("[data-chart=qkv-rms] button:has-text('CSV')")
            rows = [line.split(",") for line in Path(waiting.value.path()).read_text().splitlines()]
            _, _, answer = site.ask("/v1/runs/pythia-nano/qkv")
            found = [[float(v) for v in r[1:5]] for r in rows[1:]]
            expected = [[r["rms_qk"], r["rms_qv"], r["rms_kv"], r["rms"]] for r in answer["layers"]]
            np.testing.assert_allclose(found, expected, rtol=1e-9)
            with page.expect_download() as waiting:
                page.click("[data-chart=qkv-distances] button:has-text('CSV')")
            rows = [line.split(",") for line in Path(waiting.value.path()).read_text().splitlines()]
            _, _, answer = site.ask("/v1/runs/pythia-nano/qkv")
            found = [[float(v) for v in r[1:4]] for r in rows[1:]]
            expected = [[r["distance_qk"], r["distance_qv"], r["distance_kv"]] for r in answer["layers"]]
            np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_qkv_are_compared_from_any_origin(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano/layers?show=qkv&view=rtm&origin=512")
        page.wait_for_selector("[data-chart=qkv-rms] .uplot")
        assert "seen from step 512" in page.locator("[data-chart=qkv-rms] .note").text_content()
        with page.expect_download() as waiting:
            page.click("[data-chart=qkv-rms] button:has-text('CSV')")
        rows = [line.split(",") for line in Path(waiting.value.path()).read_text().splitlines()]
        _, _, answer = site.ask("/v1/runs/pythia-nano/qkv?origin=512")
        assert [float(r[1]) for r in rows[1:]] == pytest.approx([r["rms_qk"] for r in answer["layers"]], rel=1e-9)

    def test_the_norm_after_the_last_layer_is_no_layer(self, site: Server, open_page: Open) -> None:
        """Not in the chart by depth, not among the components; the grid has every group from the input to the output."""
        page = open_page(f"{site.address}/#/run/patchy/layers?show=depth")
        page.wait_for_selector("[data-chart=depth] .uplot")
        with page.expect_download() as waiting:
            page.click("[data-chart=depth] button:has-text('CSV')")
        rows = [line.split(",") for line in Path(waiting.value.path()).read_text().splitlines()[1:]]
        _, _, table = site.ask("/v1/runs/patchy/layers")
        assert [row["layer"] for row in table] == ["0", "1", "2", "3", "4", "model.norm"]
        assert [float(r[1]) for r in rows] == pytest.approx([row["mds"] for row in table[:-1]], rel=1e-9)
        assert "model.norm" in page.locator("[data-chart=depth] .note").text_content()
        page.goto(f"{site.address}/#/run/patchy/layers?show=components")
        page.wait_for_selector(".matrix")
        assert page.locator(".matrix thead th").all_text_contents() == ["0", "1", "2", "3", "4"]
        page.goto(f"{site.address}/#/run/patchy/layers")
        page.wait_for_selector(".grid .tile")
        shown = page.locator(".grid .tile").evaluate_all("all => all.map((a) => a.dataset.group)")
        assert shown == ["embedding", *(row["group"] for row in table), "unembedding"]

    def test_an_empty_cell_of_the_components_stays_empty(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/patchy/layers?show=components")
        page.wait_for_selector(".matrix")
        columns = page.locator(".matrix thead th").all_text_contents()
        rows = page.locator(".matrix tbody tr")
        labels = rows.locator("th").all_text_contents()
        parts = dict(zip(("Q", "K", "V", "out", "MLP gate", "MLP in", "MLP out", "norm"), PARTS, strict=True))
        assert labels == list(parts)
        known = {g["id"] for g in site.ask("/v1/runs/patchy/groups")[2]}
        for i, label in enumerate(labels):
            for j, column in enumerate(columns):
                tiles = rows.nth(i).locator("td").nth(j).locator(".tile")
                group = f"layer/{column}/{parts[label]}"
                assert tiles.count() == (group in known)
                if group in known:
                    assert tiles.get_attribute("data-group") == group
