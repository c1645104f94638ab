"""Experiments over HTTP: claims, results, figures; and runs by their tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from service_process import Server

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.experiments.kept import save_result

PNG = b"\x89PNG\r\n\x1a\n and what follows"


@pytest.fixture(scope="module")
def kept(server: Server, stored: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A result in the server's store with a figure, a run that is there and one that is gone."""
    figure = tmp_path_factory.mktemp("figures") / "h10.png"
    figure.write_bytes(PNG)
    facts = {
        "name": "h10", "title": "t", "paper": "Hallmarks", "figure": "lemma 1", "claim": "c", "criterion": "k",
        "measured": {"inside": 3}, "verdict": "not reproduced", "notes": ["n"], "seeds": [0, 1], "scale": "small", "settings": "s",
        "paper_settings": "p", "versions": {"trajsvc": "0"}, "seconds": 2.0, "made": "2026-11-27T00:00:00+00:00", "family": None,
        "runs": [stored, "gone"],
    }  # fmt: skip
    save_result(Path(server.store), facts, [figure])
    return facts


def test_a_list_says_what_each_claims_and_what_came_out(server: Server, kept: dict[str, Any]) -> None:
    status, _, rows = server.ask("/v1/experiments")
    assert status == 200
    found = {row["name"]: row for row in rows}
    assert {"h7", "c3", "d3", "d4"} <= set(found)
    assert (found["h10"]["verdict"], found["h10"]["seeds"]) == ("not reproduced", [0, 1])
    assert found["h1"]["verdict"] is None
    assert found["h1"]["claim"]


def test_a_result_with_its_runs_that_are_there(server: Server, stored: str, kept: dict[str, Any]) -> None:
    _, _, found = server.ask("/v1/experiments/h10")
    assert {k: found[k] for k in kept if k != "runs"} == {k: v for k, v in kept.items() if k != "runs"}
    assert found["runs"] == [stored]
    assert [figure["file"] for figure in found["figures"]] == ["h10.png"]


def test_figures_are_the_files_with_tags_of_their_bytes(server: Server, kept: dict[str, Any]) -> None:
    status, headers, data = server.ask("/v1/experiments/h10/figures/h10.png")
    assert (status, headers["content-type"], data) == (200, "image/png", PNG)
    again, _, _ = server.ask("/v1/experiments/h10/figures/h10.png", headers={"if-none-match": headers["etag"]})
    assert again == 304


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/experiments/h1", "experiment-not-run"),
        ("/v1/experiments/nothing", "experiment-not-run"),
        ("/v1/experiments/h10/figures/other.png", "figure-not-found"),
        ("/v1/experiments/h1/figures/h1.png", "experiment-not-run"),
    ],
)
def test_what_is_not_there_is_said(server: Server, kept: dict[str, Any], path: str, kind: str) -> None:
    status, _, problem = server.ask(path)
    assert status == 404
    assert problem["type"].endswith(kind)


def test_paths_out_of_the_folder_are_no_figures(server: Server, kept: dict[str, Any]) -> None:
    for name in ("..%2Fh10.json", ".png", "%2e%2e", "x.svg"):
        assert server.ask(f"/v1/experiments/h10/figures/{name}")[0] in (404, 422), name


def test_runs_are_found_by_their_tags_and_tell_them(server: Server, stored: str) -> None:
    store = RunStore(server.store)
    _, headers, before = server.ask(f"/v1/runs/{stored}")
    assert before["row"]["tags"] == []
    store.tag(stored, add=["experiment:none", "baseline"])
    try:
        status, _, after = server.ask(f"/v1/runs/{stored}", headers={"if-none-match": headers["etag"]})
        assert status == 200
        assert after["row"]["tags"] == ["baseline", "experiment:none"]
        assert server.ask(f"/v1/runs/{stored}/summary")[2]["tags"] == ["baseline", "experiment:none"]
        run = trajsvc.open(server.address, stored)
        assert run.tags == trajsvc.open(server.store, stored).tags == ["baseline", "experiment:none"]

        def names(query: str) -> list[str]:
            return [row["run"] for row in server.ask(f"/v1/runs{query}")[2]["items"]]

        assert names("?tag=experiment:none&tag=baseline") == [stored]
        assert names("?tag=baseline&tag=other") == []
        assert stored in names("")
        assert server.ask("/v1/runs?tag=two%20words")[0] == 422
    finally:
        store.tag(stored, remove=["experiment:none", "baseline"])


@pytest.mark.dear
@pytest.mark.timing
def test_pages_of_tagged_runs_go_on_among_them(server: Server, stored: str) -> None:
    store = RunStore(server.store)
    other = server.submit("runs:plain", name="tagged-too")
    assert server.wait(other["id"])["state"] == "succeeded"
    try:
        for name in (stored, "tagged-too"):
            store.tag(name, add=["a+b/c"])
        _, headers, first = server.ask("/v1/runs?limit=1&tag=a%2Bb%2Fc")
        following = headers["link"].partition("<")[2].partition(">")[0]
        _, _, second = server.ask(following)
        assert {row["run"] for page in (first, second) for row in page["items"]} == {stored, "tagged-too"}
        assert second["next"] is None
    finally:
        for name in (stored, "tagged-too"):
            store.tag(name, remove=["a+b/c"])
