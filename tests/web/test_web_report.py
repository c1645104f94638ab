"""The report: one file with the page's modules and a run's data, that works from disk without a server."""

from __future__ import annotations

import base64
import html.parser
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_maps import compared, eventually, phases_shown, ready, until
from page_runs import NASTY, make_deep_run, make_logged_run
from safetensors.numpy import save_file
from service_process import EXAMPLES, environment

import trajsvc
from trajsvc.cli import report_page
from trajsvc.results import answers, tables
from trajsvc.results.run import Run

Open = Callable[..., Any]
BREAK = "</script><script>alert(2)</script>"


def analyse(source: Path, store: Path, output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["analyze", str(source), "--store", str(store), "--report", str(output), "--no-figures", *words]
    return subprocess.run(
        [sys.executable, "-m", "trajsvc", *command], capture_output=True, text=True, env=environment(), timeout=600
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    place = tmp_path_factory.mktemp("report")
    done = analyse(EXAMPLES / "pythia-nano", place / "store", place / "run.html")
    assert done.returncode == 0, done.stderr
    assert "run.html" in done.stderr
    return place / "run.html", trajsvc.open(place / "store", "pythia-nano")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(1)
    for step in range(5):
        (place / "data" / f"step{step}").mkdir(parents=True)
        values = {f"{name}.weight": rng.normal(size=30).astype(np.float32) for name in (NASTY, BREAK, "plain")}
        save_file(values, place / "data" / f"step{step}" / "model.safetensors")
    done = analyse(place / "data", place / "store", place / "run.html", "--name", "hostile")
    assert done.returncode == 0, done.stderr
    return place / "run.html"


class Scripts(html.parser.HTMLParser):
    """The scripts of a file as a browser would split it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self._inside = False
        self.other: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script"
        if self._inside:
            self.found.append((dict(attrs), ""))
        else:
            self.other.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            attributes, text = self.found[-1]
            self.found[-1] = (attributes, text + data)


def parts(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The import map and the data of a report."""
    scripts = Scripts(path.read_text("utf-8")).found
    assert [a.get("type") for a, _ in scripts] == ["importmap", "application/json", "module"]
    return json.loads(scripts[0][1])["imports"], json.loads(scripts[1][1])


class TestFile:
    def test_modules_import_only_each_other(self, made: tuple[Path, Run]) -> None:
        imports, _ = parts(made[0])
        assert "trajsvc/main.js" in imports
        for address in imports.values():
            source = base64.b64decode(address.partition("base64,")[2]).decode()
            assert re.findall(r"""(?:from|import\()\s*["']\.""", source) == []
            for name in re.findall(r"""(?:from |import\()["'](trajsvc/[^"']+)["']""", source):
                assert name in imports

    def test_data_are_the_answers(self, made: tuple[Path, Run]) -> None:
        path, run = made
        _, data = parts(path)
        assert data["summary"] == json.loads(answers.summary(run).model_dump_json())
        assert data["steps"] == run.steps.tolist()
        count = len(data["steps"])
        for group in ("network", "layer/2", "layer/1/attention.q", "component/mlp.in"):
            upper = np.frombuffer(base64.b64decode(data["grams"][group]["gram"]), dtype="<f8")
            assert np.array_equal(upper, run.gram(group).gram[np.triu_indices(count)])
        assert {g["id"] for g in data["groups"]} == set(data["grams"])

    def test_names_stay_names(self, hostile: Path) -> None:
        imports, data = parts(hostile)
        assert f"layer/{NASTY}" in data["grams"]
        assert any(BREAK.partition("/")[0] in g for g in data["grams"])
        assert "img" not in Scripts(hostile.read_text()).other
        assert imports

    @pytest.mark.slow
    def test_a_report_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        done = analyse(
            EXAMPLES / "pythia-nano", tmp_path / "store", tmp_path / "none" / "run.html", "--steps", "last:3"
        )
        assert done.returncode == 1
        assert "cannot write" in done.stderr

    def test_what_a_report_holds_is_bounded(self, made: tuple[Path, Run]) -> None:
        kept = report_page.contents(made[1], room=5 * 1200)["grams"]
        assert "network" in kept
        assert len(kept) < 15

    @pytest.mark.dear
    @pytest.mark.timing
    @pytest.mark.slow
    def test_where_not_all_fit_all_but_the_network_are_rounded(self, tmp_path: Path, open_page: Open) -> None:
        run = trajsvc.analyze(make_deep_run(tmp_path / "deep", layers=40), store=tmp_path / "store", threads=1)
        report_page.write_report(run, tmp_path / "deep.html", quiet=True)
        whole = (tmp_path / "deep.html").stat().st_size
        assert whole < 5e6
        held = report_page.contents(run)
        assert {g["id"] for g in held["groups"]} == {g for g in run.groups() if not g.startswith("tensor/")}
        assert "cosines" not in held["grams"]["network"]
        page = open_page(f"{(tmp_path / 'deep.html').as_uri()}#/run/deep?group=layer%2Fblocks.3&view=rtm")
        page.wait_for_selector(".run[data-ready]")
        page.wait_for_selector("text=This file holds it with five digits.")
        found = np.array(page.evaluate("Array.from(document.querySelector('canvas.map').view.state.map.values)"))
        np.testing.assert_allclose(
            found, run.trajectory_map("layer/blocks.3", origin=0).values.ravel(), rtol=0, atol=1e-4
        )


class TestFromDisk:
    @pytest.mark.slow
    @pytest.mark.dear
    @pytest.mark.timing
    def test_everything_works_without_a_server(self, made: tuple[Path, Run], open_page: Open) -> None:
        path, run = made
        page = open_page(path.as_uri())
        page.wait_for_selector(".run[data-ready]")
        assert page.locator("h1").text_content() == "pythia-nano"
        assert float(page.locator(".numbers dd").first.text_content()) == pytest.approx(run.mds(), rel=1e-4)
        page.click(".controls button[data-value=rtm]")
        mean = pytest.approx(run.relative_mds(), rel=1e-9)
        eventually(page, lambda: compared(float(page.get_attribute(".run", "data-mean")), mean))
        page.click(".tabs >> text=Layers")
        page.wait_for_selector("[data-group='layer/1'] canvas")
        page.click("button[data-value=table]")
        page.wait_for_selector("tbody th")
        shown = page.locator("tbody tr").nth(1).locator("td").nth(1).text_content()
        assert float(shown) == pytest.approx(tables.layers(run)[1].mds, rel=1e-4)

    @pytest.mark.dear
    @pytest.mark.timing
    def test_qkv_is_computed_as_the_api_does(self, made: tuple[Path, Run], open_page: Open) -> None:
        path, run = made
        page = open_page(f"{path.as_uri()}#/run/pythia-nano/layers?show=qkv")
        page.wait_for_selector("[data-chart=qkv-distances] .uplot")
        expected = {row.layer: row for row in tables.qkv(run).layers}
        for chart, fields in (
            ("distances", ("distance_qk", "distance_qv", "distance_kv")),
            ("settling", ("settling_step_q",)),
        ):
            with page.expect_download() as waiting:
                page.click(f"[data-chart=qkv-{chart}] button:has-text('CSV')")
            for line in Path(waiting.value.path()).read_text().splitlines()[1:]:
                layer, *values = line.split(",")
                wanted = [getattr(expected[layer], field) for field in fields]
                assert [float(v) for v in values[: len(fields)]] == pytest.approx(wanted, rel=1e-9)

    @pytest.mark.slow
    @pytest.mark.dear
    @pytest.mark.timing
    def test_phases_are_those_of_the_whole_run(self, made: tuple[Path, Run], open_page: Open) -> None:
        path, run = made
        for group in ("network", "layer/2", "layer/1/attention.q", "component/mlp.in"):
            page = open_page(f"{path.as_uri()}#/run/pythia-nano?group={group}")
            page.wait_for_selector(".phases li")
            assert phases_shown(page) == [(p.start_step, p.end_step) for p in answers.phases(run, group)]
            assert page.get_by_text("Of the whole run").count() == 0

    @pytest.mark.dear
    @pytest.mark.timing
    def test_beside_a_range_they_are_still_those_of_the_whole_run_and_it_says_so(
        self, made: tuple[Path, Run], open_page: Open
    ) -> None:
        path, run = made
        page = open_page(f"{path.as_uri()}#/run/pythia-nano?from=0&to=2500")
        page.wait_for_selector("text=Of the whole run: this file holds no phases of a range.")
        assert phases_shown(page) == [(p.start_step, p.end_step) for p in answers.phases(run, "network")]

    @pytest.mark.dear
    @pytest.mark.timing
    @pytest.mark.slow
    def test_tokens_and_the_learning_rate_are_there(self, tmp_path: Path, open_page: Open) -> None:
        done = analyse(make_logged_run(tmp_path / "logged"), tmp_path / "store", tmp_path / "run.html")
        assert done.returncode == 0, done.stderr
        page = open_page(f"{(tmp_path / 'run.html').as_uri()}#/run/logged?along=tokens")
        ready(page)
        page.wait_for_selector("[data-chart=rate] .uplot")
        assert "after steps 690, 990" in page.locator(".legend li.drop").text_content()
        until(page, "document.querySelector('canvas.map').view.axis.steps[3] === 7e9")

    @pytest.mark.dear
    @pytest.mark.timing
    def test_a_hostile_name_does_nothing(self, hostile: Path, open_page: Open) -> None:
        page = open_page(f"{hostile.as_uri()}#/run/hostile/layers?show=table")
        page.wait_for_selector("tbody th")
        names = page.locator("tbody th").all_text_contents()
        assert NASTY in names
        assert page.locator("img").count() == 0
