"""The page on a phone: every view within 390 pixels, under a header that leaves room."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from service_process import Server

import trajsvc
from storage_schema.runs.store import RunStore

Open = Callable[..., Any]

LONG = "a-run-of-a-sweep-whose-name-says-everything-lr-0.0003-wd-0.1-seed-17-batch-2048-warmup-2000-of-the-tenth-of-may"
"""a name without a place to break it"""

HEADER = 90
"""pixels of 844 that the header may take"""

VIEWS = {
    "runs": ("#/", ".runs table"),
    "run": ("#/run/{run}?view=rtm", "[data-chart=cosine] .uplot"),
    "run updates": ("#/run/{run}?view=updates", "canvas.map"),
    "layers": ("#/run/{run}/layers", ".tile canvas"),
    "components": ("#/run/{run}/layers?show=components", "canvas"),
    "qkv": ("#/run/pythia-nano/layers?show=qkv", "canvas"),
    "table": ("#/run/{run}/layers?show=table", "table"),
    "depth": ("#/run/{run}/layers?show=depth", ".uplot"),
    "gradients": ("#/run/pythia-nano/gradients", ".gradients[data-ready=true] .uplot"),
    "no gradients": ("#/run/{run}/gradients", "pre"),
    "training": ("#/run/logged?along=tokens", "canvas.map"),
    "compare": ("#/compare?runs={run},pythia-nano,plain", ".compare table"),
    "compare tokens": ("#/compare?runs=logged,logged-faster&align=tokens", ".compare table"),
    "cross": ("#/cross?a=logged&b=plain", ".cross[data-ready]"),
    "families": ("#/families", "h1"),
    "family": ("#/family/pair", ".family table"),
    "jobs": ("#/jobs", "h1"),
    "job": ("#/job/{job}", "h1"),
    "submit": ("#/submit", "form"),
    "submit more": ("#/submit?heads=none&source=runs:plain", "form"),
    "no such run": ("#/run/nothing", "h1"),
    "no such address": ("#/nowhere", "h1"),
}


@pytest.fixture(scope="module")
def names(site: Server) -> Iterator[dict[str, str]]:
    """A run of a long name, and a job that failed with a message of many words."""
    trajsvc.analyze(site.store.parent / "data" / "plain", store=site.store, name=LONG, threads=1)
    job = site.submit("runs:damaged", name="broken")
    site.wait(job["id"])
    yield {"run": LONG, "job": job["id"]}
    shutil.rmtree(Path(RunStore(site.store).path(LONG)))


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
def test_no_view_scrolls_sideways_under_a_low_header(site: Server, open_page: Open, names: dict[str, str]) -> None:
    page = open_page(f"{site.address}/", width=390, height=844)
    too_wide = {}
    for view, (place, ready) in VIEWS.items():
        page.goto("about:blank")
        page.goto(f"{site.address}/{place.format(**names)}")
        page.wait_for_selector(ready)
        page.wait_for_timeout(300)
        width, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        tall = page.locator("#top").bounding_box()["height"]
        if width > shown or tall > HEADER:
            too_wide[view] = (width, shown, tall)
    assert too_wide == {}
    open_page.expected.append("404")  # type: ignore[attr-defined]
