"""The tab of spectra in a browser: what it draws is what the API says, and all of it is in the address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_findings import findings
from drawn_maps import until
from service_process import Server

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]
TAB = "#/run/pythia-nano/spectra"
API = "/v1/runs/pythia-nano/spectra"
TENSOR = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"


@pytest.fixture(scope="module")
def spectra(site: Server) -> str:
    body = {"groups": ["layer/0", "layer/1"], "steps": "0,64,512,5000"}
    job = site.ask(API, method="POST", body=body)[2]
    assert site.wait(job["id"], 240)["state"] == "succeeded"
    return API


def numbers(page: Any, chart: str, column: int) -> list[float]:
    with page.expect_download() as waiting:
        page.click(f"[data-chart={chart}] button:has-text('CSV')")
    rows = [line.split(",") for line in Path(waiting.value.path()).read_text().splitlines()]
    return [float(row[column]) for row in rows[1:] if row[column]]


@pytest.mark.slow
def test_the_charts_show_what_the_api_says(site: Server, open_page: Open, spectra: str) -> None:
    page = open_page(f"{site.address}/{TAB}?of=weights&tensor={TENSOR}")
    page.wait_for_selector(".spectra[data-ready=true] [data-chart=singular-values] .uplot", timeout=240_000)
    values = site.ask(f"{spectra}/values?tensor={TENSOR}")[2]["values"]
    assert numbers(page, "singular-values", 1) == pytest.approx([v[0] for v in values], rel=1e-9)
    ranks = site.ask(f"{spectra}/measures?tensor={TENSOR}&names=stable_rank,effective_rank")[2]["measures"]
    assert numbers(page, "ranks", 1) == pytest.approx(ranks["stable_rank"], rel=1e-9)
    assert numbers(page, "ranks", 2) == pytest.approx(ranks["effective_rank"], rel=1e-9)
    rows = site.ask(f"{spectra}/layers?names=sigma_1,stable_rank")[2]["matrices"]
    q = [row["measures"]["sigma_1"] for row in rows if row["component"] == "attention.q"]
    assert numbers(page, "Q", 1) == pytest.approx(q[0], rel=1e-9)
    assert numbers(page, "Q", 2) == pytest.approx(q[1], rel=1e-9)
    first = rows[0]["component"]
    wanted = [row["measures"]["stable_rank"][-1] for row in rows if row["component"] == first]
    assert numbers(page, "stable_rank", 1) == pytest.approx(wanted, rel=1e-9)
    assert findings(page) == []


@pytest.mark.slow
def test_another_kind_is_chosen_and_the_address_says_so(site: Server, open_page: Open, spectra: str) -> None:
    page = open_page(f"{site.address}/{TAB}?tensor={TENSOR}")
    page.wait_for_selector(".spectra[data-ready=true] [data-chart=singular-values] .uplot", timeout=240_000)
    page.click("button[data-value=updates]")
    page.wait_for_selector("button[data-value=updates][aria-pressed=true]")
    page.wait_for_function("location.hash.includes('of=updates')")
    values = site.ask(f"{spectra}/values?tensor={TENSOR}&of=updates")[2]["values"]
    assert numbers(page, "singular-values", 1) == pytest.approx([v[0] for v in values], rel=1e-9)


def test_a_run_without_spectra_says_how_to_compute_them(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/plain/spectra")
    page.wait_for_selector("text=No matrix of this run")
    assert "trajsvc spectra compute plain" in page.locator("pre").text_content()


@pytest.mark.slow
def test_the_form_has_spectra_computed_and_draws_them(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/patchy/spectra")
    page.wait_for_selector("text=No matrix of this run")
    page.get_by_label("Steps", exact=True).fill("nonsense")
    page.get_by_role("button", name="Compute", exact=True).click()
    until(page, "document.querySelector('[name=steps]').hasAttribute('aria-invalid')")
    page.get_by_label("Steps", exact=True).fill("0,500,1100")
    page.get_by_label("Groups", exact=True).fill("layer/0, layer/3")
    page.get_by_text("More options").click()
    page.get_by_label("Of", exact=True).fill("weights")
    page.get_by_role("button", name="Compute", exact=True).click()
    page.wait_for_selector(".spectra[data-ready=true] [data-chart=singular-values] .uplot", timeout=240_000)
    (row,) = site.ask("/v1/runs/patchy/spectra")[2]
    assert row["of"] == "weights"
    tensor = page.input_value(".controls select")
    values = site.ask(f"/v1/runs/patchy/spectra/values?tensor={tensor}")[2]["values"]
    assert numbers(page, "singular-values", 1) == pytest.approx([v[0] for v in values], rel=1e-9)
    assert findings(page) == []
    open_page.expected.append("422")  # type: ignore[attr-defined]
