"""Addresses that lead nowhere, and words in them that mean nothing: the page says so, the API answers with a typed problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from drawn_maps import until
from service_process import Server
from slow_params import slow_but

pytestmark = [pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]


def forget_404(open_page: Open) -> None:
    """The browser writes every answer that is an error to the console: here they are meant."""
    open_page.expected.append("404")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "place",
    slow_but(
        ["nonsense", "run/plain/nothing", "run/plain/layers/more", "jobs/all", "families/x/y"], ["run/plain/nothing"]
    ),
)
def test_a_page_that_is_not_there(site: Server, open_page: Open, place: str) -> None:
    page = open_page(f"{site.address}/#/{place}")
    page.wait_for_selector("h1:has-text('Not here')")
    assert f"There is no page at #/{place}." in page.locator("[role=alert]").text_content()
    assert page.title().startswith("Not here")
    page.click("text=All runs")
    page.wait_for_selector("h1:has-text('Runs')")


@pytest.mark.parametrize("job", ["0", "0" * 32, "../../etc"])
def test_a_job_that_is_not_there(site: Server, open_page: Open, job: str) -> None:
    page = open_page(f"{site.address}/#/job/{job.replace('/', '%2F')}")
    page.wait_for_selector("h1:has-text('Not here')")
    if "/" not in job:
        for method, path in (("GET", ""), ("GET", "/events?f=json"), ("DELETE", ""), ("POST", "/retry")):
            status, headers, problem = site.ask(f"/v1/jobs/{job}{path}", method=method)
            assert (status, problem["type"]) == (404, "urn:trajsvc:problem:job-not-found")
            assert headers["content-type"] == "application/problem+json"
            assert problem["hint"]
    forget_404(open_page)


@pytest.mark.parametrize(
    "place",
    slow_but(["run/nothing", "run/.hidden/layers", "family/nothing", "family/.x"], ["run/nothing", "family/.x"]),
)
def test_a_run_or_family_that_is_not_there(site: Server, open_page: Open, place: str) -> None:
    page = open_page(f"{site.address}/#/{place}")
    page.wait_for_selector("h1:has-text('Not here')")
    what, name = place.split("/")[:2]
    address = f"/v1/runs/{name}" if what == "run" else f"/v1/families/{name}/compare"
    status, _, problem = site.ask(address)
    assert (status, problem["type"]) == (404, f"urn:trajsvc:problem:{what}-not-found")
    forget_404(open_page)


@pytest.mark.parametrize(
    ("place", "said", "pressed"),
    [
        ("run/plain?view=nothing", "There is no map “nothing”", "tm"),
        ("run/plain?axis=curved", "There is no axis “curved”", "linear"),
        ("run/plain/layers?show=nothing", "There is no view “nothing”", "grid"),
        ("compare?runs=plain,logged&align=stars", "There is no alignment “stars”", "step"),
        ("run/plain?from=early", "“early” is no number (from)", "tm"),
    ],
)
def test_a_word_of_the_address_that_means_nothing_is_said_and_left_out(
    site: Server, open_page: Open, place: str, said: str, pressed: str
) -> None:
    page = open_page(f"{site.address}/#/{place}")
    page.wait_for_selector(f".controls button[data-value={pressed}][aria-pressed=true]")
    assert said in page.locator(".notices").text_content()
    page.click(".controls button[data-value=rtm]")
    until(page, "document.querySelector('.controls button[data-value=rtm]')?.getAttribute('aria-pressed') === 'true'")


def test_runs_and_groups_that_cannot_be_compared_are_named(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/compare?runs=plain,logged,nothing&group=layer%2F77")
    page.wait_for_selector(".compare[data-ready]")
    text = page.locator(".compare [role=status]").first.text_content()
    assert "There is no run “nothing”." in text
    assert "layer/77" in text


def test_a_group_that_is_not_there_is_said(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/plain?group=layer%2F77")
    page.wait_for_selector(".inlinestatus .problem")
    assert "layer/77" in page.locator(".inlinestatus .problem").text_content()
    assert not page.locator(".mappanel").is_visible()
    page.click("text=The network instead")
    page.wait_for_selector(".run[data-ready]")
    assert page.locator(".mappanel").is_visible()
    forget_404(open_page)
