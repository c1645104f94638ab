"""The form for a new run: everything that a submission can say, and what the server says is wrong, at the field that it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_findings import findings
from service_process import Server

from api.requests import Submission

pytestmark = [pytest.mark.slow, pytest.mark.timing, pytest.mark.dear]

Open = Callable[..., Any]
FILLED = {
    "source": "hf://local/far",
    "name": "filled",
    "steps": "every:2",
    "kind": "ingest",
    "family": "pair",
    "priority": "−5",
    "revisions": "step*, main",
    "commits": "main",
    "skip_damaged": True,
    "precision": "float32",
    "dtype": "bfloat16",
    "device": "cuda",
    "memory": "256.5 MiB",
    "heads": "8",
    "state": "ema",
    "step_pattern": r"step(?P<step>\d+)",
    "exclude": "teacher.*, pos_encoder.pe",
    "rename": "visual.=model.visual.",
    "rules": "ours",
    "copy": "true",
    "rows": "false",
    "archive": True,
    "recompute": True,
    "replace": True,
    "preview": "2 %",
}
SENT = {
    **FILLED,
    "priority": -5,
    "revisions": ["step*", "main"],
    "memory": 513 * 2**19,
    "heads": 8,
    "exclude": ["teacher.*", "pos_encoder.pe"],
    "rename": ["visual.=model.visual."],
    "copy": True,
    "rows": False,
    "preview": 0.02,
}


def fill(page: Any, values: dict[str, Any]) -> None:
    if page.locator("form details[open]").count() == 0:
        page.click("form summary")
    for name, value in values.items():
        field = page.locator(f"form [name={name}]")
        if value is True:
            field.check()
        elif field.evaluate("e => e.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)


def test_every_choice_of_a_submission_is_there_and_sent(site: Server, open_page: Open) -> None:
    assert {f.alias or name for name, f in Submission.model_fields.items()} == set(FILLED)
    page = open_page(f"{site.address}/#/submit")
    fill(page, FILLED)
    with page.expect_request("**/v1/plan") as asked:
        page.click("button:has-text('Show the plan')")
    body = asked.value.post_data_json
    assert body == SENT
    Submission.model_validate(body)
    page.wait_for_selector("[name=rules][aria-invalid]")  # there are none of that name
    assert findings(page) == []
    kept = page.url
    page.goto("about:blank")
    page.goto(kept)
    page.wait_for_selector("form.submit")
    assert page.locator("form details[open]").count() == 1
    with page.expect_request("**/v1/plan") as asked:
        page.click("button:has-text('Show the plan')")
    assert asked.value.post_data_json == SENT
    page.wait_for_selector(".plan .problem")
    open_page.expected.append("status of 4")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({}, "source", "Field required"),
        ({"source": "runs:nowhere"}, "source", "nowhere"),
        ({"source": "nothing"}, "source", "neither"),
        ({"source": "runs:plain", "name": "no spaces"}, "name", "pattern"),
        ({"source": "runs:plain", "steps": "sometimes"}, "steps", "sometimes"),
        ({"source": "runs:plain", "memory": "1 kB"}, "memory", "16777216"),
        ({"source": "runs:plain", "memory": "much"}, "memory", "not a size"),
        ({"source": "runs:plain", "priority": "1000"}, "priority", "100"),
        ({"source": "runs:plain", "heads": "none"}, "heads", "integer"),
        ({"source": "runs:plain", "preview": "150 %"}, "preview", "less than or equal"),
        ({"source": "runs:plain", "rules": "unheard-of"}, "rules", "unheard-of"),
        ({"source": "runs:plain", "revisions": "main"}, "revisions", "Hub"),
        ({"source": "runs:plain", "family": "a/b"}, "family", "pattern"),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    site: Server, open_page: Open, values: dict[str, Any], field: str, words: str
) -> None:
    page = open_page(f"{site.address}/#/submit")
    fill(page, values)
    page.click("form summary")  # a problem opens what it is in
    page.click("button:has-text('Show the plan')")
    wrong = page.locator("form [aria-invalid]")
    wrong.wait_for()
    assert wrong.get_attribute("name") == field
    assert page.evaluate("document.activeElement.name") == field
    text = page.locator(".fieldproblem:not(:empty)")
    assert text.is_visible()
    assert words in text.text_content()
    assert text.get_attribute("id") in wrong.get_attribute("aria-describedby")
    assert page.locator(".plan [role=alert]").count() == 1
    wrong.fill("x")
    assert page.locator("form [aria-invalid]").count() == 0
    open_page.expected.append("status of 4")  # type: ignore[attr-defined]


def test_the_plan_comes_first_and_the_choices_arrive(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/submit")
    wanted = {"source": "runs:plain", "name": "chosen", "dtype": "float16", "precision": "float32", "priority": "3"}
    fill(page, {**wanted, "memory": "256 MiB", "steps": "first:5", "copy": "false"})
    page.click("button:has-text('Show the plan')")
    page.wait_for_selector("text=Plan of chosen")
    assert "chosen" not in [j["run"] for j in site.ask("/v1/jobs")[2]["items"]]
    page.click("button:has-text('Start')")
    page.wait_for_selector(".job .badge.succeeded", timeout=240_000)
    job = next(j for j in site.ask("/v1/jobs")[2]["items"] if j["run"] == "chosen")
    assert job["priority"] == 3
    spec = job["spec"]
    assert (spec["dtype"], spec["precision"], spec["memory"], spec["steps"]) == ("float16", "float32", 2**28, "first:5")
    assert spec["copy_parameters"] is False


def test_an_audit_says_what_is_wrong_and_starts_nothing(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/submit?source=runs:damaged")
    before = len(site.ask("/v1/jobs")[2]["items"])
    with page.expect_request("**/v1/audit") as asked:
        page.get_by_role("button", name="Audit").click()
    assert asked.value.post_data_json == {"source": "runs:damaged"}
    page.wait_for_selector("text=Audit of runs:damaged")
    panel = page.get_by_role("region", name="Audit", exact=True)
    wanted = site.ask("/v1/audit", method="POST", body={"source": "runs:damaged"})[2]
    assert f"{wanted['wrong']} thing" in panel.locator(".verdict").text_content()
    shown = panel.locator(".auditfindings li").all_text_contents()
    assert len(shown) == len(wanted["findings"])
    for finding in wanted["findings"]:
        assert any(finding["message"] in text and text.startswith(finding["severity"]) for text in shown)
    assert "unreadable" in panel.locator("tbody tr").first.text_content()
    assert findings(page) == []
    assert page.get_by_role("button", name="Start").count() == 0
    assert len(site.ask("/v1/jobs")[2]["items"]) == before


def test_a_sound_source_is_said_to_be_and_a_run_of_its_name_is_not_in_the_way(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/submit?source=runs:to-submit&name=plain")
    page.get_by_role("button", name="Audit").click()
    page.wait_for_selector("text=Nothing is wrong")
    assert "14: 14 whole" in page.locator("dl.facts2").text_content()
    page.fill("[name=source]", "runs:nowhere")
    assert page.locator(".plan > *").count() == 0, "an answer about something else is taken away"
    page.get_by_role("button", name="Audit").click()
    wrong = page.locator("form [aria-invalid]")
    wrong.wait_for()
    assert wrong.get_attribute("name") == "source"
    open_page.expected.append("status of 4")  # type: ignore[attr-defined]


def test_an_answer_that_comes_after_the_form_changed_is_not_shown(site: Server, open_page: Open) -> None:
    page = open_page(f"{site.address}/#/submit?source=runs:plain")
    held: list[Any] = []
    page.route("**/v1/plan", lambda route: held.append(route))
    with page.expect_request("**/v1/plan"):
        page.click("button:has-text('Show the plan')")
    page.fill("[name=steps]", "first:2")
    with page.expect_response("**/v1/plan"):
        held[0].continue_()
    page.get_by_role("button", name="Audit").click()
    page.wait_for_selector("text=Audit of runs:plain")
    assert page.locator("text=Plan of").count() == 0
