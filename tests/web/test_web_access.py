"""The page for everybody: axe in both themes, a phone, a token, a place that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_findings import findings
from drawn_maps import compared, eventually, settled
from service_process import Server, start_server

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]

PLACES = {
    "runs": "#/",
    "run": "#/run/pythia-nano?view=rtm",
    "layers": "#/run/pythia-nano/layers",
    "components": "#/run/pythia-nano/layers?show=components",
    "qkv": "#/run/pythia-nano/layers?show=qkv",
    "table": "#/run/pythia-nano/layers?show=table",
    "depth": "#/run/pythia-nano/layers?show=depth",
    "rows": "#/run/pythia-nano/rows",
    "training": "#/run/logged?along=tokens",
    "compare": "#/compare?runs=pythia-nano,plain",
    "compare tokens": "#/compare?runs=logged,logged-faster&align=tokens",
    "family": "#/family/pair",
    "cross": "#/cross",
    "families": "#/families",
    "experiments": "#/experiments",
    "experiment": "#/experiment/h11",
    "tagged": "#/?tag=experiment%3Ah11",
    "jobs": "#/jobs",
    "submit": "#/submit",
    "submit more": "#/submit?heads=none&source=runs:plain",
}


class TestAccess:
    @pytest.mark.slow
    @pytest.mark.parametrize("place", PLACES)
    def test_axe_finds_nothing(self, site: Server, open_page: Open, place: str) -> None:
        page = open_page(f"{site.address}/{PLACES[place]}")
        page.wait_for_selector("h1")
        settled(page)
        assert findings(page) == []
        page.emulate_media(color_scheme="dark")
        settled(page)
        assert findings(page, "color-contrast") == []
        page.emulate_media(color_scheme="light")

    @pytest.mark.slow
    def test_the_header_leaves_room_on_a_phone(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/pythia-nano", width=390, height=844)
        page.wait_for_selector("#top nav a")
        assert page.locator("#top").bounding_box()["height"] < 60
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#top nav a", has_text="Submit").click()
        page.wait_for_selector("h1:has-text('Submit a run')")

    @pytest.mark.slow
    def test_a_server_that_asks_for_a_token(self, open_page: Open, tmp_path: Path) -> None:
        server = start_server(tmp_path, "--auth", command="api", TRAJSVC_TOKEN="a-secret-of-the-test")
        try:
            page = open_page(f"{server.address}/")
            page.wait_for_selector("dialog[open]")
            late: list[Any] = []
            page.route(
                "**/v1/jobs*", lambda r: r.continue_() if "authorization" in r.request.headers else late.append(r)
            )
            page.reload()
            page.fill("dialog input", "a-secret-of-the-test")
            eventually(page, lambda: compared(bool(late), True))
            page.click("dialog button:has-text('Use it')")
            for route in late:  # sent without the token, refused when it has been given: it is not asked for once more
                with page.expect_response(lambda answer: answer.status == 401):
                    route.continue_()
            page.wait_for_selector("text=No runs yet.")
            assert page.locator("dialog[open]").count() == 0
            assert "secret" not in page.url
        finally:
            server.process.stop()
        open_page.expected.append("401")  # type: ignore[attr-defined]
        open_page.expected.append("ERR_CONNECTION_REFUSED")  # type: ignore[attr-defined]  # it looks for the first run

    @pytest.mark.slow
    def test_a_place_that_is_not_there(self, site: Server, open_page: Open) -> None:
        page = open_page(f"{site.address}/#/run/nothing")
        page.wait_for_selector("text=Not here")
        open_page.expected.append("404")  # type: ignore[attr-defined]
