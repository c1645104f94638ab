"""The example notebook runs from top to bottom, and the site's page has what its cells print and draw."""

from __future__ import annotations

import json
import re
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first-look.ipynb"


def test_every_cell_of_the_notebook_stands_on_the_page_with_its_output(site: Path) -> None:
    page = (site / "first-look.md").read_text("utf-8")
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    for cell in cells:
        assert "".join(cell["source"]).strip() in page
    pictures = re.findall(r"^!\[.*\]\((.*\.png)\)$", page, re.MULTILINE)
    assert len(pictures) == 3
    assert all((site / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert "MDS 0.7257" in page
    assert "data:image/png;base64," in page
    assert "<th>layer/3</th>" in page
    assert "<th>train_loss</th>" in page


def test_the_notebook_is_committed_without_output() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
