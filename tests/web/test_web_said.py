"""What people say of a run, on the page: found by it in the list, read and changed on the run's own page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from drawn_maps import until
from service_process import Server

Open = Callable[[str], Any]
pytestmark = pytest.mark.slow


def names(page: Any) -> list[str]:
    return [text.strip() for text in page.locator(".runs tbody th a.longname").all_text_contents()]


@pytest.mark.dear
@pytest.mark.timing
def test_runs_are_found_by_conditions_and_columns_are_chosen(site: Server, open_page: Open) -> None:
    site.ask("/v1/runs/plain", method="PATCH", body={"hyperparameters": {"lr": 0.1, "opt": "sgd"}})
    site.ask("/v1/runs/deep", method="PATCH", body={"hyperparameters": {"lr": 0.01}})
    page = open_page(f"{site.address}/#/")
    page.wait_for_selector(".runs tbody tr")
    page.get_by_label("Where").fill("lr>0.01; opt=sgd")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.runs tbody tr').length === 1")
    assert names(page) == ["plain"]
    page.locator("details.columns summary").click()
    page.get_by_role("checkbox", name="lr", exact=True).check()
    page.get_by_role("checkbox", name="State", exact=True).uncheck()
    titles = [text.strip(" ▴▾") for text in page.locator(".runs thead th").all_text_contents()]
    assert titles[-1] == "lr"
    assert "State" not in titles
    assert page.locator(".runs tbody tr td").last.text_content() == "0.1"
    again = open_page(page.url)  # all of it is in the address
    until(again, "document.querySelectorAll('.runs tbody tr').length === 1")
    assert again.locator(".runs thead th").last.text_content().strip(" ▴▾") == "lr"
    open_page.expected.append("422")  # type: ignore[attr-defined]
    again.get_by_label("Where").fill("lrr>1")
    again.keyboard.press("Enter")
    again.wait_for_selector(".problem")
    assert "Did you mean lr" in again.locator(".problem").text_content()


@pytest.mark.dear
@pytest.mark.timing
def test_notes_and_hyperparameters_are_changed_on_the_page(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/run/logged")
    page.locator(".said > summary").click()
    page.get_by_label("Set", exact=True).fill("momentum=0.9")
    page.get_by_role("button", name="Set", exact=True).click()
    page.wait_for_selector(".said tbody tr:has-text('momentum')")
    page.get_by_label("Notes", exact=True).fill("rates drop\ntwice")
    page.get_by_role("button", name="Save notes").click()
    until(page, "document.querySelector('.said > summary').textContent.includes('rates drop')")
    row = site.ask("/v1/runs/logged")[2]["row"]
    assert (row["notes"], row["hyperparameters"]["momentum"]) == ("rates drop\ntwice", 0.9)
    page.get_by_role("button", name="Forget momentum").click()
    until(page, "!document.querySelector('.said').textContent.includes('momentum')")
    site.ask("/v1/runs/logged", method="PATCH", body={"notes": "of somebody else"})
    open_page.expected.append("412")  # type: ignore[attr-defined]
    page.get_by_label("Notes", exact=True).fill("mine")
    page.get_by_role("button", name="Save notes").click()
    page.wait_for_selector(".said .problem")
    assert site.ask("/v1/runs/logged")[2]["row"]["notes"] == "of somebody else"
    until(page, "document.querySelector('.said > summary').textContent.includes('of somebody else')")
    site.ask("/v1/runs/logged", method="PATCH", body={"notes": ""})
