"""``trajsvc report``: a stored run as a page within a size, and as a PDF of its figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import trajsvc
from trajsvc.cli.main import make_app

EXAMPLE = Path(__file__).parents[2] / "examples" / "pythia-nano"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    trajsvc.analyze(EXAMPLE, store=folder)
    return folder


def ask(store: Path, output: Path, *words: str) -> Result:
    return CliRunner().invoke(
        make_app("report"), ["report", "pythia-nano", "--store", str(store), "-o", str(output), *words]
    )


def groups_in(page: Path) -> list[str]:
    [data] = re.findall(r'id="report-data">(.*?)</script>', page.read_text(), re.S)
    return [g["id"] for g in json.loads(data)["groups"]]


def test_a_page_keeps_to_its_size(store: Path, tmp_path: Path) -> None:
    assert ask(store, tmp_path / "whole.html").exit_code == 0
    assert ask(store, tmp_path / "small.html", "--size", "6kB").exit_code == 0
    whole, small = groups_in(tmp_path / "whole.html"), groups_in(tmp_path / "small.html")
    assert "layer/3/attention.q" in whole
    assert small
    assert set(small) < {g for g in whole if g.count("/") < 2}


@pytest.mark.slow
def test_figures_as_a_pdf(store: Path, tmp_path: Path) -> None:
    for name in ("one.pdf", "two.pdf"):
        assert ask(store, tmp_path / name, "--group", "layer/3", "-q").exit_code == 0
    content = (tmp_path / "one.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", content)) == 5
    assert content == (tmp_path / "two.pdf").read_bytes()


def test_what_is_refused(store: Path, tmp_path: Path) -> None:
    for output, words in ((tmp_path / "x.docx", ()), (tmp_path / "x.html", ("--size", "lots"))):
        done = ask(store, output, *words)
        assert done.exit_code != 0
        assert not output.exists()
